// SPDX-License-Identifier: GPL-2.0
//! Virtual APIC pages of VM 2 and 3 in memory of a lower VTL, which no pin can hold.
//!
//! An entry for which the TDX module does not find the page never ends: the host gets the CPU, and
//! VTL2's interrupts are off. So the page must be accepted when its address is set, and is not released
//! as long as it is. What the host takes away is the host's doing.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

use crate::mem::withdrawn::Stay;
use crate::pure::field::VmIndex;
use crate::pure::policy;
use crate::pure::status::{Operand, Status};
use crate::pure::tdcall::{Registers, NOWHERE};

/// The pages of all VPs.
#[pin_data]
pub(crate) struct LowerPages {
    #[pin]
    pages: Mutex<KVec<LowerPage>>,
}

struct LowerPage {
    cpu: u32,
    vm: VmIndex,
    gpa: u64,
}

impl LowerPages {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pages <- new_mutex!(KVec::new(), "mshv_vtl_tdx::lower_pages"),
        })
    }

    /// Has `set` tell the TDX module that the page of a VM is `lower`. It returns for which CPU.
    ///
    /// # Errors
    ///
    /// The status to answer with: R8 for a page that is not accepted, and those of `set`.
    pub(crate) fn set(
        &self,
        vm: VmIndex,
        lower: policy::LowerPage,
        set: impl FnOnce() -> Result<(u32, Registers), Status>,
    ) -> Result<Registers, Status> {
        let refused = Status::operand_invalid(Operand::R8);
        let mut pages = self.pages.lock();
        pages.reserve(1, GFP_KERNEL).map_err(|_| refused)?;
        let _no_change = Stay::on_accepted(lower)?;
        let (cpu, answer) = set()?;
        if Status(answer.rax).is_success() {
            pages.retain(|page| page.cpu != cpu || page.vm != vm);
            let gpa = lower.page.start_gpa();
            // There is room, as made above.
            let _ = pages.push_within_capacity(LowerPage { cpu, vm, gpa });
        }
        Ok(answer)
    }

    /// Has `set` tell the TDX module that the page of a VM is none of a lower VTL. The record goes
    /// with the address, under one lock: another thread's page must not be forgotten for it.
    ///
    /// # Errors
    ///
    /// Those of `set`.
    pub(crate) fn unset(
        &self,
        vm: VmIndex,
        set: impl FnOnce() -> Result<(u32, Registers), Status>,
    ) -> Result<Registers, Status> {
        let mut pages = self.pages.lock();
        let (cpu, answer) = set()?;
        if Status(answer.rax).is_success() {
            pages.retain(|page| page.cpu != cpu || page.vm != vm);
        }
        Ok(answer)
    }

    /// Has `withdraw` take memory away, unless `is_taken` says so of one of the pages: `None` then. A VM
    /// without a page of its own has it at `NOWHERE`.
    pub(crate) fn unless_used<T>(
        &self,
        is_taken: impl Fn(u64) -> bool,
        withdraw: impl FnOnce() -> T,
    ) -> Option<T> {
        let pages = self.pages.lock();
        let is_free = !is_taken(NOWHERE) && !pages.iter().any(|page| is_taken(page.gpa));
        is_free.then(withdraw)
    }
}
