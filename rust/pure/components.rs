// SPDX-License-Identifier: GPL-2.0
//! Components of extended state, by their bits in XFAM: how each is kept apart between lower VTL
//! and VTL2, which of them IA32_XSS may enable, and when IA32_XFD is in the way. [SDM1 13]
//!
//! | component | XFAM | kept apart by |
//! |---|---|---|
//! | x87, SSE, AVX, MPX, AVX-512, AMX, APX | 0 to 7, 17 to 19 | the VP's XSAVE image |
//! | PKRU | 9 | the register itself, at each entry |
//! | CET_U: U_CET, PL3_SSP | 11 | these MSRs, of each VM |
//! | CET_S: PL0_SSP, PL1_SSP, PL2_SSP | 12 | these MSRs, of each VM |
//! | PT, UINTR, LBR | 8, 14, 15 | not let through |
//! | PASID, HDC, HWP, others of IA32_XSS | 10, 13, 16 | not let through; no TD has them |
//!
//! A component of XCR0 counts only where VTL2 itself has it on. CET is switched by its MSRs, not by
//! XSAVES: five registers that are mostly equal are cheaper than IA32_XSS, whose writes leave the
//! TD for the TDX module. Not let through means three things: no bit of its MSRs may be cleared in
//! an MSR bitmap, nor its control be turned on in a VMCS (`passed_msrs.rs`), and IA32_XSS of a lower
//! VTL can't have its bit.

/// Where the values of both sides are kept apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeper {
    /// The XSAVE image of the VP (`fpu.rs`).
    Image,
    /// The register itself (`fpu.rs`).
    Pkru,
    /// MSRs (`msr.rs`).
    Msrs,
    /// Nowhere: a lower VTL can't use it.
    NotLetThrough,
}

const PKRU: u32 = 9;
const CET_U: u32 = 11;
const CET_S: u32 = 12;

/// Says it of a component. Those of XCR0 that are not known yet are in the image like the others: VTL2
/// has them on only if its kernel knows them.
pub const fn keeper(component: u32) -> Keeper {
    match component {
        PKRU => Keeper::Pkru,
        CET_U | CET_S => Keeper::Msrs,
        8 | 10 | 13..=16 => Keeper::NotLetThrough,
        _ => Keeper::Image,
    }
}

const CET: u64 = (1 << CET_U) | (1 << CET_S);

/// Components that IA32_XSS of a lower VTL may enable, of those that the TD offers.
pub const fn xss(offered: u64) -> u64 {
    offered & CET
}

/// Returns true if the TDX module lets L1 and L2 access the MSRs of CET: it does for both components
/// or for none.
pub const fn has_cet(xfam: u64) -> bool {
    xfam & CET == CET
}

/// Returns true if IA32_XFD must be zero for XSAVE and XRSTOR to move `components`, which are those that
/// an image has, or that are in use. XSAVE takes what IA32_XFD hides for unused, XRSTOR faults on it.
pub const fn must_clear_xfd(xfd: u64, components: u64) -> bool {
    xfd & components != 0
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_components),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn every_component_of_xfam_has_a_keeper() {
        let row = |list: &[u32], kept| list.iter().all(|&number| keeper(number) == kept);
        assert!(row(&[0, 1, 2, 3, 4, 5, 6, 7, 17, 18, 19], Keeper::Image));
        assert!(row(&[9], Keeper::Pkru));
        assert!(row(&[11, 12], Keeper::Msrs));
        assert!(row(&[8, 10, 13, 14, 15, 16], Keeper::NotLetThrough));
    }

    #[test]
    fn xss_enables_only_what_msrs_keep_apart() {
        assert_eq!(xss(u64::MAX), 0x1800);
        assert_eq!(xss(0xd900), 0x1800);
        assert_eq!(xss(0x1000), 0x1000);
        assert_eq!(xss(0), 0);
        for component in 0..64 {
            let is_enabled = xss(1 << component) != 0;
            assert_eq!(is_enabled, keeper(component) == Keeper::Msrs);
        }
    }

    #[test]
    fn cet_comes_whole() {
        assert!(has_cet(0x1800) && has_cet(0x618ff));
        for xfam in [0, 0x800, 0x1000, 0x600ff, !0x800, !0x1000] {
            assert_eq!((xfam, has_cet(xfam)), (xfam, false));
        }
    }

    #[test]
    fn xfd_is_cleared_only_for_what_it_hides() {
        const TILES: u64 = 1 << 18;
        assert!(must_clear_xfd(TILES, TILES | 3));
        assert!(must_clear_xfd(TILES, u64::MAX));
        assert!(!must_clear_xfd(TILES, 0x7 | (1 << 17)));
        assert!(!must_clear_xfd(0, u64::MAX));
    }
}
