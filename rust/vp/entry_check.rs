// SPDX-License-Identifier: GPL-2.0
//! Looks at the VMCS of an L2 VM before the first entry after a write that could spoil it.
//! `pure::vmcs_write` says what must fit together.
//!
//! Both the writes and the entries of a VP are made on its CPU, and not interrupted by each other, so
//! that one sees the other. At first every VM is to be looked at: somebody else may have left something.

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

use super::on_cpu::OnCpu;
use super::vapic::VirtualApic;
use crate::cpu::guards::{IrqsOff, PreemptOff};
use crate::cpu::tdcall;
use crate::pure::field::VmIndex;
use crate::pure::vmcs_write::{check_entry, Again};

/// Which VMs of a VP are to be looked at.
pub(crate) struct EntryCheck {
    /// One bit for each.
    pending: Atomic<u32>,
}

const fn bit(vm: VmIndex) -> u32 {
    1 << vm.get()
}

impl EntryCheck {
    /// All of them.
    pub(crate) fn new() -> Self {
        let pending = Atomic::new(u32::MAX);
        Self { pending }
    }

    /// Has the next entry of a VM look, for a write that is about to be made.
    pub(crate) fn look_again(&self, vm: VmIndex, _on_cpu: OnCpu<'_>, _alone: &PreemptOff) {
        // ORDERING: only code of this CPU, which can't be interrupted by other such code, accesses it.
        self.pending
            .store(self.pending.load(Relaxed) | bit(vm), Relaxed);
    }

    /// Looks if need be, right before an entry.
    ///
    /// # Errors
    ///
    /// EIO when the processor would refuse the entry; the status is in the run page.
    #[inline]
    pub(crate) fn pass(&self, vp: OnCpu<'_>, vm: VmIndex, irqs: &IrqsOff) -> Result {
        // ORDERING: as above.
        if self.pending.load(Relaxed) & bit(vm) == 0 {
            return Ok(());
        }
        self.look(vp, vm, irqs)
    }

    #[cold]
    fn look(&self, vp: OnCpu<'_>, vm: VmIndex, irqs: &IrqsOff) -> Result {
        let task_priority = || match vm {
            VmIndex::VM1 => Some(VirtualApic(&vp.vapic).tpr()),
            _ => vp.apic_pages.task_priority(vm, vp, irqs),
        };
        match check_entry(&mut tdcall::Instruction, vm, task_priority) {
            Ok(Again::AfterWrite) => {
                // ORDERING: as above.
                let others = self.pending.load(Relaxed) & !bit(vm);
                self.pending.store(others, Relaxed);
                Ok(())
            }
            Ok(Again::EachEntry) => Ok(()),
            Err(status) => {
                vp.run_page.store_status(status.0);
                Err(EIO)
            }
        }
    }
}
