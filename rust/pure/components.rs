// SPDX-License-Identifier: GPL-2.0
//! Components of the extended state, by their bits in XFAM: how each is kept apart between a lower
//! VTL and VTL2, which of them IA32_XSS may enable, and when IA32_XFD must be cleared. [SDM1 13]
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
//! A component of XCR0 counts only if VTL2 itself has enabled it. CET is switched by its MSRs and
//! not by XSAVES: five MSRs that rarely differ cost less than IA32_XSS, since each write to it is a
//! trip to the TDX module. "Not let through" means three things: no bit of its MSRs may be cleared
//! in an MSR bitmap, its control must not be set in a VMCS (`passed_msrs.rs`,
//! `vmcs_write.rs`), and IA32_XSS of a lower VTL can't have its bit.

/// What keeps the values of both sides apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ComponentKeeper {
    /// The XSAVE image of the VP (`fpu.rs`).
    Image,
    /// The register itself (`fpu.rs`).
    Pkru,
    /// MSRs (`msr.rs`).
    Msrs,
    /// Nothing: a lower VTL can't use it.
    NotLetThrough,
}

const PKRU: u32 = 9;
const CET_U: u32 = 11;
const CET_S: u32 = 12;

/// Returns what keeps a component apart. Components of XCR0 that are not known yet are in the image
/// like the others: VTL2 has enabled them only if its kernel knows them.
pub const fn keeper(component: u32) -> ComponentKeeper {
    match component {
        PKRU => ComponentKeeper::Pkru,
        CET_U | CET_S => ComponentKeeper::Msrs,
        8 | 10 | 13..=16 => ComponentKeeper::NotLetThrough,
        _ => ComponentKeeper::Image,
    }
}

const CET: u64 = (1 << CET_U) | (1 << CET_S);

/// Returns the components that IA32_XSS of a lower VTL may enable, out of those that the TD offers.
pub const fn xss(offered: u64) -> u64 {
    offered & CET
}

/// Returns true if L1 and L2 may access the CET MSRs: the TDX module allows both components or
/// none.
pub const fn has_cet(xfam: u64) -> bool {
    xfam & CET == CET
}

/// Returns true if IA32_XFD must be zero for XSAVE and XRSTOR to move `components`: those present
/// in an image, or in use. XSAVE treats what IA32_XFD disables as unused, XRSTOR faults on it.
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
        assert!(row(
            &[0, 1, 2, 3, 4, 5, 6, 7, 17, 18, 19],
            ComponentKeeper::Image
        ));
        assert!(row(&[9], ComponentKeeper::Pkru));
        assert!(row(&[11, 12], ComponentKeeper::Msrs));
        assert!(row(
            &[8, 10, 13, 14, 15, 16],
            ComponentKeeper::NotLetThrough
        ));
    }

    #[test]
    fn xss_enables_only_what_msrs_keep_apart() {
        assert_eq!(xss(u64::MAX), 0x1800);
        assert_eq!(xss(0xd900), 0x1800);
        assert_eq!(xss(0x1000), 0x1000);
        assert_eq!(xss(0), 0);
        for component in 0..64 {
            let is_enabled = xss(1 << component) != 0;
            assert_eq!(is_enabled, keeper(component) == ComponentKeeper::Msrs);
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
