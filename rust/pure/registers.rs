// SPDX-License-Identifier: GPL-2.0
//! Registers of the lower VTLs that `MSHV_GET_VP_REGISTERS` and `MSHV_SET_VP_REGISTERS` access, and
//! which values the processor accepts for them.

use super::mtrr::Mtrr;

/// A register, by its name in the hypervisor's interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// XCR0.
    Xfem,
    /// DR0 to DR3 (0 to 3) and DR6 (4): an index into [`DEBUG_START`].
    Debug(usize),
    /// A virtual MTRR.
    Mtrr(Mtrr),
}

/// XCR0, by its name in the hypervisor's interface.
pub const XFEM: u32 = 0x0004_0005;
/// DR0; DR1 to DR3 follow.
pub const DR0: u32 = 0x0005_0000;
/// DR6.
pub const DR6: u32 = 0x0005_0004;

/// DR0 to DR3 and DR6 after a reset.
pub const DEBUG_START: [u64; 5] = [0, 0, 0, 0, 0xffff_0ff0];
/// Index of DR6.
pub const INDEX_DR6: usize = 4;

/// XCR0 after a reset: only x87.
pub const XFEM_START: u64 = 1;

impl Register {
    /// Decodes a name. `None` for registers that are accessed in another way, or don't exist.
    pub const fn new(name: u32) -> Option<Self> {
        match name {
            XFEM => Some(Self::Xfem),
            DR0..=DR6 => Some(Self::Debug((name - DR0) as usize)), // CAST: at most 4
            _ => match Mtrr::new(name) {
                Some(mtrr) => Some(Self::Mtrr(mtrr)),
                None => None,
            },
        }
    }

    /// Returns true if the processor accepts the value. `xcr0` is what VTL2 itself has enabled.
    pub const fn takes(self, value: u64, xcr0: u64) -> bool {
        match self {
            Self::Xfem => is_xfem(value, xcr0),
            Self::Debug(INDEX_DR6) => value >> 32 == 0,
            Self::Debug(_) => true,
            Self::Mtrr(mtrr) => mtrr.takes(value),
        }
    }
}

const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const MPX: u64 = 0b11 << 3;
const AVX512: u64 = 0b111 << 5;
const AMX: u64 = 0b11 << 17;

/// Returns true if XSETBV accepts the value: x87 is set, and each group of components is set
/// completely or not at all. [SDM1 13.3]
const fn is_xfem(value: u64, xcr0: u64) -> bool {
    value & X87 != 0
        && value & !(xcr0 | X87) == 0
        && is_whole(value, MPX)
        && is_whole(value, AVX512)
        && is_whole(value, AMX)
        && implies(value, AVX, SSE)
        && implies(value, AVX512, AVX)
}

const fn is_whole(value: u64, group: u64) -> bool {
    value & group == 0 || value & group == group
}

const fn implies(value: u64, this: u64, that: u64) -> bool {
    value & this == 0 || value & that != 0
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_registers),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_hypervisor() {
        assert_eq!(Register::new(0x40005), Some(Register::Xfem));
        assert_eq!(Register::new(0x50000), Some(Register::Debug(0)));
        assert_eq!(Register::new(0x50003), Some(Register::Debug(3)));
        assert_eq!(Register::new(0x50004), Some(Register::Debug(4)));
        for name in [0, 0x40004, 0x40006, 0x4ffff, 0x50005, u32::MAX] {
            assert_eq!(Register::new(name), None);
        }
    }

    #[test]
    fn xfem_is_what_xsetbv_takes() {
        let all = X87 | SSE | AVX | MPX | AVX512 | (1 << 9) | AMX;
        for good in [1, 3, 7, 0x1f, 0xe7, 0xff, 0x201, 0x6_0003, all] {
            assert_eq!((good, Register::Xfem.takes(good, all)), (good, true));
        }
        for bad in [0, 2, 5, 9, 0x11, 0x23, 0xe3, 0x2_0003, (1 << 63) | 1, 0x101] {
            assert_eq!((bad, Register::Xfem.takes(bad, all)), (bad, false));
        }
    }

    #[test]
    fn xfem_never_exceeds_what_is_on() {
        assert!(!Register::Xfem.takes(7, 3));
        assert!(Register::Xfem.takes(3, 3));
        assert!(Register::Xfem.takes(1, 0));
        assert!(!Register::Xfem.takes(3, 0));
    }

    #[test]
    fn every_combination_of_low_bits_obeys_the_rules() {
        for value in 0..0x400_u64 {
            let taken = Register::Xfem.takes(value, 0x2ff);
            let wanted = value & 1 == 1
                && value & 0x100 == 0
                && matches!((value >> 3) & 3, 0 | 3)
                && matches!((value >> 5) & 7, 0 | 7)
                && (value & 4 == 0 || value & 2 == 2)
                && (value & 0xe0 == 0 || value & 4 == 4);
            assert_eq!((value, taken), (value, wanted));
        }
    }

    #[test]
    fn the_high_half_of_dr6_is_zero() {
        assert!(Register::Debug(4).takes(0xffff_0ff1, 0));
        assert!(!Register::Debug(4).takes(1 << 32, 0));
        assert!(Register::Debug(0).takes(u64::MAX, 0));
    }
}
