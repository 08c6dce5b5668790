// SPDX-License-Identifier: GPL-2.0
//! Which state a lower VTL can't change without an exit, because L1 intercepts each instruction
//! that would: the loaded value is unchanged after a run and need not be read back.
//!
//! Hardware changes some state without such an instruction, and then it has to be read back:
//!
//! | register | changed without WRMSR by | so it is steady if, besides its own bit in the bitmap, |
//! |---|---|---|
//! | KERNEL_GS_BASE | SWAPGS, LKGS | never |
//! | XFD_ERR | #NM, for a component that XFD hides | WRMSR to XFD exits and XFD is zero |
//! | U_CET, PL0_SSP to PL3_SSP | XRSTORS, for components of XSS | WRMSR to XSS exits and XSS has no CET |
//! | the same | branches and changes of privilege, with shadow stacks or branch tracking | U_CET is zero |
//! | DR6 | #DB, also by RFLAGS.TF | never |
//! | SPEC_CTRL and others | – | |
//!
//! [SDM1 13.14, 17.2; SDM3 19.2; SDM3 27.1.3]

use super::field::{vmcs, FieldId, VmIndex};
use super::tdcall::{tdg_vp_rd, Tdcall};

/// A set of the MSRs that lower VTL and VTL2 share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MsrSet(u16);

impl MsrSet {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// IA32_UMWAIT_CONTROL.
    pub const UMWAIT_CONTROL: Self = Self(1 << 0);
    /// IA32_TSX_CTRL.
    pub const TSX_CTRL: Self = Self(1 << 1);
    /// IA32_XFD_ERR.
    pub const XFD_ERR: Self = Self(1 << 2);
    /// IA32_U_CET, IA32_PL3_SSP, IA32_PL0_SSP, IA32_PL1_SSP, IA32_PL2_SSP.
    pub const CET: Self = Self(0x1f << 3);
    /// IA32_XFD.
    pub const XFD: Self = Self(1 << 8);
    /// IA32_STAR.
    pub const STAR: Self = Self(1 << 9);
    /// IA32_LSTAR.
    pub const LSTAR: Self = Self(1 << 10);
    /// IA32_FMASK.
    pub const SFMASK: Self = Self(1 << 11);
    /// IA32_XSS.
    pub const XSS: Self = Self(1 << 12);
    /// IA32_TSC_AUX.
    pub const TSC_AUX: Self = Self(1 << 13);
    /// IA32_SPEC_CTRL, which the entry stub exchanges.
    const SPEC_CTRL: Self = Self(1 << 14);

    /// Returns true if all of `other` are in the set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The first eight, in the order above, one bit each.
    pub const fn first_eight(self) -> u8 {
        self.0 as u8 // CAST: the low eight bits
    }
}

/// MSR numbers, in the order of the bits of [`MsrSet`].
const NUMBERS: [u32; 15] = [
    0xe1,
    0x122,
    0x1c5,
    0x6a0,
    0x6a7,
    0x6a4,
    0x6a5,
    0x6a6,
    0x1c4,
    0xc000_0081,
    0xc000_0082,
    0xc000_0084,
    0xda0,
    0xc000_0103,
    0x48,
];

/// All of them but IA32_SPEC_CTRL.
const ALL: MsrSet = MsrSet(0x3fff);

/// CET_U and CET_S of IA32_XSS.
const XSS_CET: u64 = 0x3 << 11;
/// Primary processor-based control: MOV-DR exiting.
const MOV_DR_EXITING: u64 = 1 << 23;
/// Bits of DR7 that make debug registers matter: the enabled breakpoints, and GD.
const DR7_IN_USE: u64 = 0x20ff;

/// What L1 intercepts of one VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Intercepts {
    writes: MsrSet,
    has_no_breakpoints: bool,
}

impl Intercepts {
    /// Reads it from the TDX module. What can't be read counts as not intercepted.
    pub fn read(tdcall: &mut impl Tdcall, vm: VmIndex) -> Self {
        let mut writes = 0;
        let (mut place, mut word) = (None, 0);
        for (bit, msr) in NUMBERS.into_iter().enumerate() {
            let (wanted, place_in_word) = write_bit(msr);
            if place != Some(wanted) {
                place = Some(wanted);
                word = tdg_vp_rd(tdcall, FieldId::l2_msr_bitmap(vm, wanted)).unwrap_or(0);
            }
            writes |= (((word >> place_in_word) & 1) as u16) << bit; // CAST: one bit
        }
        let mut vmcs = |code| tdg_vp_rd(tdcall, FieldId::l2_vmcs(vm, code));
        let exits = vmcs(vmcs::PRIMARY_CONTROLS).is_ok_and(|value| value & MOV_DR_EXITING != 0);
        Self {
            writes: MsrSet(writes),
            has_no_breakpoints: exits
                && vmcs(vmcs::GUEST_DR7).is_ok_and(|value| value & DR7_IN_USE == 0),
        }
    }

    /// The MSRs that still hold what was loaded, given the loaded values of IA32_XSS, IA32_XFD and
    /// IA32_U_CET.
    #[inline]
    pub const fn steady(self, xss: u64, xfd: u64, u_cet: u64) -> MsrSet {
        let mut steady = self.writes;
        if !steady.has(MsrSet::XFD) || xfd != 0 {
            steady = steady.without(MsrSet::XFD_ERR);
        }
        let is_cet_steady =
            steady.has(MsrSet::CET) && steady.has(MsrSet::XSS) && xss & XSS_CET == 0 && u_cet == 0;
        if !is_cet_steady {
            steady = steady.without(MsrSet::CET);
        }
        steady
    }

    /// Returns true if [`Self::steady`] has all, as in a TD whose paravisor has not changed the bitmaps.
    #[inline]
    pub const fn are_all_steady(self, xss: u64, xfd: u64, u_cet: u64) -> bool {
        self.writes.has(ALL) && xss & XSS_CET | xfd | u_cet == 0
    }

    /// Returns true if IA32_SPEC_CTRL still holds what was loaded.
    pub const fn is_spec_ctrl_steady(self) -> bool {
        self.writes.has(MsrSet::SPEC_CTRL)
    }

    /// Returns true if the lower VTL neither reads nor writes DR0 to DR3 and has no breakpoint
    /// enabled, so that their contents do not matter to it.
    pub const fn has_no_breakpoints(self) -> bool {
        self.has_no_breakpoints
    }
}

/// Word of the bitmap, and bit in it, that intercepts writes of an MSR. [SDM3 26.6.9]
const fn write_bit(msr: u32) -> (u64, u32) {
    const WRITES_LOW: u64 = 256;
    const WRITES_HIGH: u64 = 384;
    let first = if msr >= 0xc000_0000 {
        WRITES_HIGH
    } else {
        WRITES_LOW
    };
    (first + (msr & 0x1fff) as u64 / 64, msr % 64)
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_intercepts),
    allow(unsafe_code)
)]
mod tests {
    use super::*;
    use crate::pure::tdcall::{Call, Registers};

    /// A module that answers every read by what a function makes of the field.
    struct FieldReader<F>(F);

    impl<F: Fn(u64) -> Option<u64>> Tdcall for FieldReader<F> {
        fn tdcall(&mut self, call: Call) -> Registers {
            let request = call.registers();
            let (rax, r8) = match (self.0)(request.rdx) {
                Some(value) => (0, value),
                None => (0xc000_0100_0000_0000, 0),
            };
            Registers {
                rax,
                r8,
                ..Registers::default()
            }
        }
    }

    fn read(answer: impl Fn(u64) -> Option<u64>) -> Intercepts {
        Intercepts::read(&mut FieldReader(answer), VmIndex::VM1)
    }

    const fn bitmap_field(word: u64) -> u64 {
        0x2520_0003_0000_0000 + word
    }

    const PRIMARY: u64 = 0x2420_0002_0000_4002;
    const DR7: u64 = 0x2420_0003_0000_681a;

    #[test]
    fn each_register_has_its_own_bit_of_the_bitmap() {
        let bits = [
            (MsrSet::UMWAIT_CONTROL, 259, 0x21),
            (MsrSet::TSX_CTRL, 260, 0x22),
            (MsrSet::XFD_ERR, 263, 5),
            (MsrSet::XFD, 263, 4),
            (MsrSet::XSS, 310, 0x20),
            (MsrSet::STAR, 386, 1),
            (MsrSet::LSTAR, 386, 2),
            (MsrSet::SFMASK, 386, 4),
            (MsrSet::TSC_AUX, 388, 3),
            (MsrSet::SPEC_CTRL, 257, 8),
        ];
        for (set, word, bit) in bits {
            let passes = |field| match field == bitmap_field(word) {
                true => Some(!(1 << bit)),
                false => Some(u64::MAX),
            };
            let all = read(|_| Some(u64::MAX)).writes;
            assert_eq!(read(passes).writes, all.without(set));
        }
        for bit in [0x20, 0x24, 0x25, 0x26, 0x27] {
            let passes = |field| match field == bitmap_field(282) {
                true => Some(!(1 << bit)),
                false => Some(u64::MAX),
            };
            let writes = read(passes).writes;
            assert!(!writes.has(MsrSet::CET) && writes.has(ALL.without(MsrSet::CET)));
        }
    }

    #[test]
    fn what_the_module_does_not_tell_is_not_intercepted() {
        assert_eq!(read(|_| None), Intercepts::default());
        assert_eq!(Intercepts::default().steady(0, 0, 0), MsrSet::NONE);
        assert!(!Intercepts::default().has_no_breakpoints());
    }

    #[test]
    fn xfd_err_is_steady_only_while_xfd_hides_nothing_and_stays() {
        let of = |writes, xfd| {
            Intercepts {
                writes,
                ..Intercepts::default()
            }
            .steady(0, xfd, 0)
            .has(MsrSet::XFD_ERR)
        };
        assert!(of(ALL, 0));
        assert!(!of(ALL, 1 << 18));
        assert!(!of(ALL.without(MsrSet::XFD), 0));
        assert!(!of(ALL.without(MsrSet::XFD_ERR), 0));
    }

    #[test]
    fn all_are_steady_exactly_if_each_is() {
        let values = [0, 1, 1 << 11, 1 << 12, 1 << 18];
        let sets = (0..14).map(|bit| ALL.without(MsrSet(1 << bit)));
        for writes in sets.chain([ALL, MsrSet::NONE]) {
            let intercepts = Intercepts {
                writes,
                ..Intercepts::default()
            };
            for xss in values {
                for xfd in values {
                    for u_cet in values {
                        assert_eq!(
                            intercepts.are_all_steady(xss, xfd, u_cet),
                            intercepts.steady(xss, xfd, u_cet) == ALL
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn cet_is_steady_only_while_nothing_but_wrmsr_reaches_it() {
        let of = |writes, xss, u_cet| {
            Intercepts {
                writes,
                ..Intercepts::default()
            }
            .steady(xss, 0, u_cet)
            .0 & MsrSet::CET.0
        };
        assert_eq!(of(ALL, 0, 0), MsrSet::CET.0);
        assert_eq!(of(ALL, 1 << 8, 0), MsrSet::CET.0);
        for (writes, xss, u_cet) in [
            (ALL, 1 << 11, 0),
            (ALL, 1 << 12, 0),
            (ALL, 0, 1),
            (ALL, 0, 1 << 11),
            (ALL.without(MsrSet::XSS), 0, 0),
            (ALL.without(MsrSet(1 << 4)), 0, 0),
        ] {
            assert_eq!(of(writes, xss, u_cet), 0);
        }
    }

    #[test]
    fn breakpoints_count_unless_mov_dr_exits_and_none_is_on() {
        let of = |primary, dr7| {
            read(|field| match field {
                PRIMARY => primary,
                DR7 => dr7,
                _ => Some(0),
            })
            .has_no_breakpoints()
        };
        let exits = Some(MOV_DR_EXITING);
        assert!(of(exits, Some(0x400)));
        assert!(!of(Some(!MOV_DR_EXITING), Some(0x400)));
        for bit in [0, 1, 2, 3, 4, 5, 6, 7, 13] {
            assert!(!of(exits, Some(0x400 | (1 << bit))));
        }
        assert!(!of(exits, None));
        assert!(!of(None, Some(0x400)));
    }
}
