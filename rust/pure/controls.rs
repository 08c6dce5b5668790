// SPDX-License-Identifier: GPL-2.0
//! One snapshot of the control fields of the run page, and its validation.
//!
//! Userspace can change the run page at any time. `vp/run_page.rs` reads every field once into
//! [`Controls`]; the kernel acts only on what [`Controls::validate`] returns.

use super::deadline::field_value;
use super::field::PerVm;
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

/// What an entry loads: only values that the processor accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// RCX of TDG.VP.ENTER.
    pub rcx: EntryRcx,
    /// Shared MSRs.
    pub msrs: SharedMsrs,
    /// CR2.
    pub cr2: u64,
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

impl Entry {
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
    #[inline]
    pub const fn validate(
        &self,
        limits: &Limits,
        given: &PerVm<SharedMsrs>,
    ) -> Result<Entry, Refusal> {
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
        Ok(Entry {
            rcx,
            msrs: self.msrs,
            cr2: self.cr2,
            is_halted: self.flags & RUN_HALTED != 0,
            offload: Offload::new(self.offload, rcx.vm()),
            deadline: if self.deadline_update & 1 != 0 {
                Some(field_value(self.deadline))
            } else {
                None
            },
            flush: Flush::new(self.vp_flags),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::field::VmIndex;

    const LIMITS: Limits = Limits {
        num_l2_vms: 2,
        address_bits: 48,
        xss: None,
        has_tsc_aux: true,
        mxcsr: 0xffff,
    };

    const GIVEN: PerVm<SharedMsrs> = PerVm::new(
        [SharedMsrs {
            kernel_gs_base: 0,
            star: 0,
            lstar: 0,
            sfmask: 0,
            xss: 0,
            tsc_aux: 0,
        }; 3],
    );

    fn good() -> Controls {
        Controls {
            flags: 0,
            vp_flags: 0,
            deadline_update: 0,
            deadline: 5,
            offload: 3,
            entry_rcx: (1 << 52) | 1,
            msrs: SharedMsrs::default(),
            cr2: u64::MAX,
            mxcsr: 0x1f80,
        }
    }

    #[test]
    fn a_good_snapshot_passes_unchanged() {
        let entry = good().validate(&LIMITS, &GIVEN).unwrap();
        assert_eq!(entry.rcx.raw(), (1 << 52) | 1);
        assert_eq!(entry.cr2, u64::MAX);
    }

    #[test]
    fn each_wrong_field_is_invalid() {
        let bad = [
            Controls { flags: 2, ..good() },
            Controls {
                vp_flags: 4,
                ..good()
            },
            Controls {
                entry_rcx: 3 << 52,
                ..good()
            },
            Controls {
                entry_rcx: (1 << 52) | 4,
                ..good()
            },
            Controls {
                msrs: SharedMsrs {
                    lstar: 1 << 47,
                    ..good().msrs
                },
                ..good()
            },
            Controls {
                mxcsr: 1 << 16,
                ..good()
            },
        ];
        for controls in bad {
            assert_eq!(
                controls.validate(&LIMITS, &GIVEN),
                Err(Refusal::Invalid),
                "{controls:?}"
            );
        }
    }

    #[test]
    fn what_the_processor_gave_to_a_vm_is_taken_back_from_that_vm() {
        let mut given = GIVEN;
        given.of_mut(VmIndex::new(2).unwrap()).lstar = 1 << 55;
        let msrs = SharedMsrs {
            lstar: 1 << 55,
            ..good().msrs
        };
        let of_vm = |vm: u64| Controls {
            entry_rcx: vm << 52,
            msrs,
            ..good()
        };
        assert!(of_vm(2).validate(&LIMITS, &given).is_ok());
        assert_eq!(of_vm(1).validate(&LIMITS, &given), Err(Refusal::Invalid));
    }

    #[test]
    fn a_renewed_entry_says_what_changed_of_the_same_vm() {
        let first = good().validate(&LIMITS, &GIVEN).unwrap();
        let offload = Offload::new(0x43, first.rcx.vm());
        assert_eq!(first.renewed(RUN_HALTED, 0x43), Ok((true, offload)));
        assert_eq!(first.renewed(0, 3), Ok((false, first.offload)));
        for bit in (0..32).filter(|bit| 1 << bit != RUN_HALTED) {
            assert_eq!(first.renewed(1 << bit, 3), Err(Refusal::Invalid));
        }
    }

    #[test]
    fn halted_is_passed_on() {
        assert!(!good().validate(&LIMITS, &GIVEN).unwrap().is_halted);
        let halted = Controls {
            flags: RUN_HALTED,
            ..good()
        };
        assert!(halted.validate(&LIMITS, &GIVEN).unwrap().is_halted);
    }

    #[test]
    fn the_deadline_counts_only_with_its_update() {
        let deadline = |deadline_update, deadline| {
            let controls = Controls {
                deadline_update,
                deadline,
                ..good()
            };
            controls.validate(&LIMITS, &GIVEN).unwrap().deadline
        };
        assert_eq!(deadline(0, 5), None);
        assert_eq!(deadline(1, 5), Some(5));
        assert_eq!(deadline(1, 0), Some(u64::MAX));
    }

    #[test]
    fn offload_belongs_to_the_vm_that_is_entered() {
        let vm2 = Controls {
            entry_rcx: 2 << 52,
            ..good()
        };
        let is_served = |controls: Controls| {
            controls
                .validate(&LIMITS, &GIVEN)
                .unwrap()
                .offload
                .takes_icr()
        };
        assert!(is_served(good()));
        assert!(!is_served(vm2));
    }

    #[test]
    fn a_flush_is_what_the_flags_ask_for_and_answers_no_more() {
        let flush = |vp_flags| {
            let controls = Controls { vp_flags, ..good() };
            controls.validate(&LIMITS, &GIVEN).unwrap().flush
        };
        assert_eq!(flush(0), None);
        assert_eq!(flush(1), Some(Flush::Invalidate));
        assert_eq!(flush(2), Some(Flush::WriteBack));
        assert_eq!(flush(3), Some(Flush::Invalidate));
        assert_eq!(Flush::Invalidate.flags(), 3);
        assert_eq!(Flush::WriteBack.flags(), 2);
    }
}
