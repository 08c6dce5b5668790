// SPDX-License-Identifier: GPL-2.0
//! What a VP keeps for each of its VMs, and how much of it has to be read back after a run.

use crate::cpu::msr::Unseen;
use crate::pure::intercepts::{Intercepts, MsrSet};
use crate::pure::msr::SharedMsrs;
use crate::pure::vp_enter::EntryRcx;

/// What belongs to one VM. Its size is a power of two, so that the place of a VM's is one shift away.
#[derive(Clone, Copy)]
#[repr(align(128))]
pub(crate) struct VmState {
    /// The shared MSRs: what the next entry loads, which was checked, or what the VM has left.
    msrs: SharedMsrs,
    /// MSRs that have no field in the run page: VTL0's must not become VTL1's.
    pub(crate) kept: KeptMsrs,
    /// Requests to invalidate that no entry has done yet.
    pub(crate) undone: u64,
    /// What L1 intercepts.
    intercepts: Intercepts,
    /// The shared MSRs were not in the processor when the VM stopped last.
    are_new: bool,
    /// After the next run, more than KERNEL_GS_BASE has to be read or stored.
    must_read_back: bool,
    /// The shared MSRs are known to differ from VTL2's in the usual way. False after each change of them.
    are_usual: bool,
}

const _: () = assert!(size_of::<VmState>() == 256);

/// MSRs of a VM that have no field in the run page.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeptMsrs {
    /// IA32_SPEC_CTRL.
    pub(crate) spec_ctrl: u64,
    /// IA32_XFD.
    pub(crate) xfd: u64,
    /// The others.
    pub(crate) unseen: Unseen,
}

impl Default for VmState {
    /// After a reset; nothing is known to be intercepted.
    fn default() -> Self {
        Self {
            msrs: SharedMsrs::default(),
            kept: KeptMsrs::default(),
            undone: 0,
            intercepts: Intercepts::default(),
            are_new: false,
            must_read_back: true,
            are_usual: false,
        }
    }
}

impl VmState {
    /// The state after a reset of the processor, with a request to invalidate. What L1 intercepts does
    /// not change.
    pub(crate) fn after_reset(&self, undone: u64) -> Self {
        let mut state = Self {
            undone,
            intercepts: self.intercepts,
            ..Self::default()
        };
        state.decide();
        state
    }

    /// Adds to the next entry what earlier ones should have invalidated.
    #[inline(always)]
    pub(crate) fn take_undone(&mut self, rcx: &mut EntryRcx) {
        if self.undone != 0 {
            *rcx = rcx.with_invalidation_of(self.undone);
            self.undone = 0;
        }
    }

    /// The shared MSRs.
    #[inline(always)]
    pub(crate) fn msrs(&self) -> &SharedMsrs {
        &self.msrs
    }

    /// Has the next entry load MSRs that were checked; `given` are those that the VM had when it
    /// stopped last.
    pub(crate) fn set_msrs(&mut self, msrs: &SharedMsrs, given: &SharedMsrs) {
        self.msrs = *msrs;
        self.are_usual = false;
        self.are_new = msrs != given;
        self.decide();
    }

    /// Compares the shared MSRs with those of VTL2, which never change but for KERNEL_GS_BASE.
    pub(super) fn compare_msrs(&mut self, host: &SharedMsrs) {
        self.are_usual = self.msrs.differs_as_usual(host);
    }

    /// Returns true if the shared MSRs are known to differ from VTL2's as
    /// [`SharedMsrs::differs_as_usual`] says.
    #[inline(always)]
    pub(crate) fn are_usual(&self) -> bool {
        self.are_usual
    }

    /// Takes over what was read back.
    pub(super) fn read_back(&mut self, msrs: &SharedMsrs, kept: &KeptMsrs) {
        self.msrs = *msrs;
        self.are_usual = false;
        self.kept = *kept;
        self.are_new = false;
        self.decide();
    }

    /// Takes over KERNEL_GS_BASE, which was read back alone.
    #[inline(always)]
    pub(crate) fn set_kernel_gs_base(&mut self, value: u64) {
        self.msrs.kernel_gs_base = value;
    }

    /// Returns true if the shared MSRs were in the processor when the VM stopped last.
    pub(crate) fn are_given(&self) -> bool {
        !self.are_new
    }

    /// What L1 intercepts.
    pub(crate) fn intercepts(&self) -> Intercepts {
        self.intercepts
    }

    /// Takes over what L1 intercepts now.
    pub(crate) fn set_intercepts(&mut self, intercepts: Intercepts) {
        self.intercepts = intercepts;
        self.decide();
    }

    /// The MSRs that still hold what was loaded.
    pub(crate) fn steady(&self) -> MsrSet {
        let KeptMsrs { xfd, unseen, .. } = &self.kept;
        self.intercepts.steady(self.msrs.xss, *xfd, unseen.u_cet())
    }

    /// Returns true if more than KERNEL_GS_BASE has to be read after a run, or stored.
    #[inline(always)]
    pub(crate) fn must_read_back(&self) -> bool {
        self.must_read_back
    }

    /// To be called after each change of what this depends on: an exit only looks at the answer.
    fn decide(&mut self) {
        let KeptMsrs { xfd, unseen, .. } = &self.kept;
        let steady = self
            .intercepts
            .are_all_steady(self.msrs.xss, *xfd, unseen.u_cet());
        self.must_read_back = self.are_new || !steady;
    }
}
