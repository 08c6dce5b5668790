// SPDX-License-Identifier: GPL-2.0
//! Checks the VMCS of an L2 VM before the first entry after a write that could make it invalid.
//! `pure::vmcs_write` has the rules. Reads from the TDX module, too, what L1 intercepts, after a
//! write that changes it (`pure::intercepts`).
//!
//! Both the writes and the entries of a VP happen on its CPU with preemption disabled, so each sees
//! the other. A write may come in an interrupt, for instance when the file is closed that has set a
//! virtual-APIC page, and in the middle of one of a task: so each bit is changed by one instruction.
//! Initially every VM has to be checked: an earlier kernel may have left something.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use kernel::prelude::*;

use super::on_cpu::OnCpu;
use super::vapic::VirtualApic;
use super::vm_state::VmState;
use crate::cpu::guards::{IrqsOff, PreemptOff};
use crate::cpu::tdcall;
use crate::pure::field::VmIndex;
use crate::pure::intercepts::Intercepts;
use crate::pure::vmcs_write::{check_entry, Again};

/// Which VMs of a VP have to be checked.
pub(crate) struct EntryCheck {
    /// One bit per VM for the check, and one per VM for reading the intercepts. It is read before
    /// each entry, so it is one of `core`'s atomics, like those of `stats`.
    pending: AtomicU32,
}

const fn bit(vm: VmIndex) -> u32 {
    1 << vm.get()
}

const fn intercepts_bit(vm: VmIndex) -> u32 {
    0x100 << vm.get()
}

impl EntryCheck {
    /// Starts with all of them pending.
    pub(crate) fn new() -> Self {
        let pending = AtomicU32::new(u32::MAX);
        Self { pending }
    }

    /// Makes the next entry of a VM check its VMCS, because of a write that is about to be made.
    pub(crate) fn look_again(&self, vm: VmIndex, _on_cpu: OnCpu<'_>, _alone: &PreemptOff) {
        // ORDERING: only code on this CPU accesses it; an interrupt sees all of this or nothing.
        self.pending.fetch_or(bit(vm), Relaxed);
    }

    /// Makes the next entry of a VM read its intercepts, because of a write that is about to be
    /// made.
    pub(crate) fn ask_again(&self, vm: VmIndex, _on_cpu: OnCpu<'_>, _alone: &PreemptOff) {
        // ORDERING: as above.
        self.pending.fetch_or(intercepts_bit(vm), Relaxed);
    }

    /// Returns true if [`Self::pass`] has something to do for a VM.
    #[inline]
    pub(crate) fn is_due(&self, vm: VmIndex) -> bool {
        // ORDERING: as above.
        (self.pending.load(Relaxed) >> (vm.get() & 3)) & (1 | 0x100) != 0
    }

    /// Does what is pending for a VM, right before an entry; `state` is that of the VM.
    ///
    /// # Errors
    ///
    /// EIO if the processor would refuse the entry; the status is in the run page.
    #[cold]
    pub(crate) fn pass(
        &self,
        vp: OnCpu<'_>,
        vm: VmIndex,
        state: &mut VmState,
        irqs: &IrqsOff,
    ) -> Result {
        // ORDERING: as above.
        let pending = self.pending.load(Relaxed);
        if pending & intercepts_bit(vm) != 0 {
            state.set_intercepts(Intercepts::read(&mut tdcall::Instruction, vm));
            self.pending.fetch_and(!intercepts_bit(vm), Relaxed);
        }
        if pending & bit(vm) == 0 {
            return Ok(());
        }
        self.look(vp, vm, irqs)
    }

    /// Returns true if the next entry of a VM has to check. Called with preemption disabled.
    #[inline]
    pub(crate) fn is_pending(&self, vm: VmIndex) -> bool {
        // ORDERING: as above.
        self.pending.load(Relaxed) & bit(vm) != 0
    }

    fn look(&self, vp: OnCpu<'_>, vm: VmIndex, irqs: &IrqsOff) -> Result {
        let task_priority = || match vm {
            VmIndex::VM1 => Some(VirtualApic(&vp.vapic).tpr()),
            _ => vp.apic_pages.task_priority(vm, vp, irqs),
        };
        match check_entry(&mut tdcall::Instruction, vm, task_priority) {
            Ok(Again::AfterWrite) => {
                self.pending.fetch_and(!bit(vm), Relaxed);
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
