// SPDX-License-Identifier: GPL-2.0
//! Virtual-APIC pages of VM 2 and 3 in memory of a lower VTL, which can't be pinned.
//!
//! If the TDX module does not find the page, an entry never ends: the host gets the CPU, while
//! VTL2's interrupts are disabled. So the page must be accepted when its address is set, and must
//! not be released while it is. If the host removes it on its own, that is a denial of service,
//! which a host can do anyway.

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
    pages: Mutex<KVec<LowerApicPage>>,
}

struct LowerApicPage {
    cpu: u32,
    vm: VmIndex,
    gpa: u64,
}

impl LowerPages {
    /// Starts without any.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pages <- new_mutex!(KVec::new(), "mshv_vtl_tdx::lower_pages"),
        })
    }

    /// Calls `set`, which sets the page of a VM to `lower` and returns the CPU for which it did.
    ///
    /// # Errors
    ///
    /// The status to answer with: R8 if the page is not accepted, or that of `set`.
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
            // The room was allocated above.
            let _ = pages.push_within_capacity(LowerApicPage { cpu, vm, gpa });
        }
        Ok(answer)
    }

    /// Calls `set`, which sets a page of a VM that is not in memory of a lower VTL. One lock covers
    /// the address and its record: another thread's page must not be dropped.
    ///
    /// # Errors
    ///
    /// That of `set`.
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

    /// Calls `withdraw`, which takes memory away, unless `is_taken` returns true for one of the
    /// pages; then returns `None`. For a VM without such a page it gets `NOWHERE`.
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
