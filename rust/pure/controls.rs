// SPDX-License-Identifier: GPL-2.0
//! One snapshot of the control fields of the run page, and its validation.
//!
//! Userspace can change the run page at any time. `vp/run_page.rs` reads every field once into
//! [`Controls`]; the kernel acts only on what [`Controls::validate`] returns.

use super::deadline::field_value;
use super::field::{PerVm, VmIndex};
use super::msr::{Limits, SharedMsrs};
use super::offload::Offload;
use super::uapi::RUN_HALTED;
use super::vp_enter::EntryRcx;

/// The control fields, as userspace wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Controls {
    /// Run flags.
    pub flags: u32,
    /// Flags of `vp_state`: cache flushes that the guest asked for.
    pub vp_flags: u64,
    /// Update byte of the TSC deadline: bit 0 is set if `deadline` is new.
    pub deadline_update: u8,
    /// TSC deadline; every value is valid.
    pub deadline: u64,
    /// What the kernel may handle by itself; every value is valid.
    pub offload: u8,
    /// RCX of TDG.VP.ENTER.
    pub entry_rcx: u64,
    /// Shared MSRs.
    pub msrs: SharedMsrs,
    /// CR2; every value is valid.
    pub cr2: u64,
    /// MXCSR of the x87 and SSE state.
    pub mxcsr: u32,
}

/// What an entry loads besides the MSRs: only values that the processor accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// RCX of TDG.VP.ENTER, without a request to invalidate, which is taken right before the entry.
    pub rcx: EntryRcx,
    /// CR2.
    pub cr2: u64,
    /// MXCSR.
    pub mxcsr: u32,
}

/// What has to be done before an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Before {
    /// The lower VTL is halted: wait instead of entering.
    pub is_halted: bool,
    /// What the kernel may handle by itself.
    pub offload: Offload,
    /// New value of the VM's TSC_DEADLINE field, if there is one.
    pub deadline: Option<u64>,
    /// Cache flush to carry out before the entry.
    pub flush: Option<Flush>,
}

/// A cache flush that the lower VTL asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// WBNOINVD: modified lines are written back.
    WriteBack,
    /// WBINVD: and all lines are dropped. That is more than the other, and answers both.
    Invalidate,
}

/// `vp_state.flags` of the run page: WBINVD is wanted.
pub const WBINVD: u64 = 1 << 0;
/// WBNOINVD is wanted.
pub const WBNOINVD: u64 = 1 << 1;

impl Flush {
    const fn new(vp_flags: u64) -> Option<Self> {
        if vp_flags & WBINVD != 0 {
            Some(Self::Invalidate)
        } else if vp_flags & WBNOINVD != 0 {
            Some(Self::WriteBack)
        } else {
            None
        }
    }

    /// Flags of `vp_state` that the flush answers.
    pub const fn flags(self) -> u32 {
        match self {
            Self::Invalidate => (WBINVD | WBNOINVD) as u32, // CAST: two low bits
            Self::WriteBack => WBNOINVD as u32,             // CAST: a low bit
        }
    }
}

/// Why a snapshot is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The value is wrong: EINVAL.
    Invalid,
}

const VP_FLAGS_KNOWN: u64 = WBINVD | WBNOINVD;

/// The control fields where userspace writes them. Each method reads its field anew.
pub trait Fields {
    /// [`Controls::flags`].
    fn flags(&self) -> u32;
    /// [`Controls::vp_flags`].
    fn vp_flags(&self) -> u64;
    /// [`Controls::deadline_update`].
    fn deadline_update(&self) -> u8;
    /// [`Controls::entry_rcx`].
    fn entry_rcx(&self) -> u64;
    /// Returns true if each field of [`Controls::msrs`] has that value.
    fn are_msrs(&self, msrs: &SharedMsrs) -> bool;
    /// [`Controls::cr2`].
    fn cr2(&self) -> u64;
    /// [`Controls::mxcsr`].
    fn mxcsr(&self) -> u32;
}

impl Entry {
    /// The first entry of VM 1 after a reset, which the processor accepts.
    pub const RESET: Self = Self {
        rcx: EntryRcx::of(VmIndex::VM1),
        cr2: 0,
        mxcsr: 0,
    };

    /// Returns true if userspace wants this entry once more, with the same `msrs`, and nothing before it:
    /// then they need not be checked again. What the processor accepts without a check of its own, or by
    /// a mask, is taken over. `limits` are those by which it was checked.
    ///
    /// Most runs are such, and comparing takes less time than checking. What was only compared is not
    /// used: the values that are loaded are the kernel's own.
    #[inline(always)]
    pub fn is_wanted_again(
        &mut self,
        msrs: &SharedMsrs,
        fields: &impl Fields,
        limits: &Limits,
    ) -> bool {
        let mxcsr = fields.mxcsr();
        let is_same = fields.flags() == 0
            && fields.vp_flags() == 0
            && fields.deadline_update() & 1 == 0
            && fields.entry_rcx() == self.rcx.raw()
            && fields.are_msrs(msrs)
            && mxcsr & !limits.mxcsr == 0;
        if is_same {
            self.cr2 = fields.cr2();
            self.mxcsr = mxcsr;
        }
        is_same
    }

    /// Reads again the two fields that may have changed since: halted or not, and what the kernel
    /// may handle. The kernel itself changes both, and so may another thread of userspace.
    ///
    /// # Errors
    ///
    /// As for [`Controls::validate`].
    pub const fn renewed(&self, flags: u32, offload: u8) -> Result<(bool, Offload), Refusal> {
        if flags & !RUN_HALTED != 0 {
            return Err(Refusal::Invalid);
        }
        let offload = Offload::new(offload, self.rcx.vm());
        Ok((flags & RUN_HALTED != 0, offload))
    }
}

impl Controls {
    /// Checks every field against the limits of processor and TD. `given` holds the shared MSRs of
    /// each VM as they were in the processor when that VM stopped last.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] if any field is invalid.
    pub const fn validate(
        &self,
        limits: &Limits,
        given: &PerVm<SharedMsrs>,
    ) -> Result<(Entry, SharedMsrs, Before), Refusal> {
        if self.flags & !RUN_HALTED != 0 || self.vp_flags & !VP_FLAGS_KNOWN != 0 {
            return Err(Refusal::Invalid);
        }
        let Some(rcx) = EntryRcx::new(self.entry_rcx, limits.num_l2_vms) else {
            return Err(Refusal::Invalid);
        };
        let given = given.of(rcx.vm());
        if !self.msrs.is_loadable(limits, given) || self.mxcsr & !limits.mxcsr != 0 {
            return Err(Refusal::Invalid);
        }
        let entry = Entry {
            rcx: rcx.without_invalidation(),
            cr2: self.cr2,
            mxcsr: self.mxcsr,
        };
        let before = Before {
            is_halted: self.flags & RUN_HALTED != 0,
            offload: Offload::new(self.offload, rcx.vm()),
            deadline: if self.deadline_update & 1 != 0 {
                Some(field_value(self.deadline))
            } else {
                None
            },
            flush: Flush::new(self.vp_flags),
        };
        Ok((entry, self.msrs, before))
    }
}

#[cfg(test)]
#[path = "controls_tests.rs"]
mod tests;
