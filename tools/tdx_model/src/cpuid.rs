// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The CPUID that L1 sees: the processor's values, restricted to the TD's features, and leaf 0x21.
//!
//! An L2's CPUID always exits to L1, so the model does not handle it [ABI CPUID].

use crate::td::{Td, TdConfig, attributes, td_ctls, xfam};
use crate::vcpu::Vcpu;
use crate::ve::Category;
use crate::ve_reduction::Feature;

/// The four registers CPUID returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CpuidResult {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// What happens to a CPUID of L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuidOutcome {
    /// It returns these values.
    Value(CpuidResult),
    /// #VE, reason 10.
    Ve(Category),
}

/// CPUID as L1 executes it.
#[derive(Clone, Copy, Debug)]
pub struct CpuidRequest {
    /// EAX.
    pub leaf: u32,
    /// ECX.
    pub subleaf: u32,
    /// What the processor below answers for [`effective_leaf`].
    pub native: CpuidResult,
    /// The highest basic leaf of the processor below: leaf 0, EAX.
    pub native_max_basic: u32,
    /// L1's privilege level.
    pub cpl: u8,
}

/// The highest basic leaf of a TD.
const MAX_BASIC: u32 = 0x23;
/// The highest extended leaf of a TD.
const MAX_EXTENDED: u32 = 0x8000_0008;
const TDX_LEAF: u32 = 0x21;

/// The leaf whose values CPUID returns: one that is too high for its range is the highest basic one.
#[must_use]
pub const fn effective_leaf(leaf: u32) -> u32 {
    match leaf {
        0..=MAX_BASIC | 0x4000_0000..=0x4fff_ffff | 0x8000_0000..=MAX_EXTENDED => leaf,
        _ => MAX_BASIC,
    }
}

/// Decides on a CPUID of L1 [ABI CPUID virtualization].
#[must_use]
pub fn l1_cpuid(td: &Td<'_>, vcpu: &Vcpu, request: &CpuidRequest) -> CpuidOutcome {
    let leaf = effective_leaf(request.leaf);
    if matches!(leaf, 0x4000_0000..=0x4fff_ffff) {
        return CpuidOutcome::Ve(Category::NonConfigParavirt);
    }
    let index = index_of(td, leaf, request.subleaf);
    // What L1 wants to be told about, and leaves that nobody virtualizes.
    let is_hosts = match index {
        Some(_) => is_faulting(td, leaf),
        None => !td.reduces_ve(),
    };
    if is_hosts || vcpu.cpuid_is_ve(request.cpl, index) {
        return CpuidOutcome::Ve(Category::ConfigParavirt);
    }
    if index.is_none() {
        return CpuidOutcome::Value(absent(leaf, request.subleaf));
    }
    CpuidOutcome::Value(match leaf {
        // Leaves the processor does not have are absent.
        0..=MAX_BASIC if leaf > request.native_max_basic && leaf != TDX_LEAF => {
            fixed(&td.config, leaf).unwrap_or_default()
        }
        0..=MAX_BASIC => basic(td, leaf, request),
        _ => extended(td, leaf, request.native),
    })
}

/// What a leaf that is not in the table tells where L1 has reduced its #VE: nothing, but for the levels
/// of the topology, which end here. The processor's number is the emulator's to fill in.
fn absent(leaf: u32, subleaf: u32) -> CpuidResult {
    let ecx = if matches!(leaf, 0xb | 0x1f) {
        subleaf & 0xff
    } else {
        0
    };
    CpuidResult {
        ecx,
        ..CpuidResult::default()
    }
}

/// The number of a leaf and subleaf in the TDX module's table, which is also that of its
/// CPUID_CONTROL; `None` if the table does not have it.
#[rustfmt::skip]
fn index_of(td: &Td<'_>, leaf: u32, subleaf: u32) -> Option<usize> {
    // CAST: subleaves of at most 18.
    let sub = subleaf as usize;
    Some(match (leaf, subleaf) {
        (0x18, 0..=3) if td.config.is_second() => 68 + sub,
        (0x18, 4..=8) if td.config.is_second() => 69 + sub,
        (0x8000_0002, _) if td.config.is_second() => 78,
        (0, _) => 10,
        (1, _) => 0,
        (2, _) => 72,
        (3, _) => 11,
        (4, 0..=3) => 1 + sub,
        (4, 4) => 12,
        (5, _) => 63,
        (6, _) => 13,
        (7, 0..=1) => 5 + sub,
        (7, 2) => 14,
        (8, _) => 15,
        (0xa, _) => 7,
        (0xb, 0..=2) => 64 + sub,
        (0xd, 0..=0x12) => 16 + sub,
        (0xe, _) => 35,
        (0x11, _) => 36,
        (0x12, _) => 37,
        (0x13, _) => 38,
        (0x14, 0..=1) => 39 + sub,
        (0x15, _) => 41,
        (0x19, _) => 42,
        (0x1a, _) => 67,
        (0x1c, _) => 8,
        (0x1d, 0..=1) => 43 + sub,
        (0x1e, _) => 45,
        (0x1f, 0..=5) => 46 + sub,
        (0x20, _) => 52,
        (0x21, 0) => 53,
        (0x22, _) => 58,
        (0x23, 0..=3) => 59 + sub,
        (0x8000_0000, _) => 54,
        (0x8000_0001, _) => 55,
        (0x8000_0006, _) => 56,
        (0x8000_0007, _) => 57,
        (0x8000_0008, _) => 9,
        _ => return None,
    })
}

/// Leaves of the table that are a #VE all the same, some of them unless L1 has asked for a value.
fn is_faulting(td: &Td<'_>, leaf: u32) -> bool {
    match leaf {
        2 => td.td_ctls & td_ctls::VIRT_CPUID2 == 0,
        0xb | 0x1f => td.td_ctls & td_ctls::ENUM_TOPOLOGY == 0,
        6 | 0x8000_0002 => !td.reduces_ve(),
        0x8000_0006 => !td.config.is_second(),
        _ => false,
    }
}

/// Leaves whose value does not depend on the processor.
fn fixed(config: &TdConfig, leaf: u32) -> Option<CpuidResult> {
    match leaf {
        // TSC: crystal of 1 GHz, ratio in MHz, so that the kernel's 32-bit arithmetic holds.
        0x15 => Some(CpuidResult {
            eax: 1000,
            ebx: config.tsc_khz / 1000,
            ecx: 1_000_000_000,
            edx: 0,
        }),
        // Caches and TLBs are described by leaf 4.
        2 => Some(CpuidResult {
            eax: 0x00fe_ff01,
            ..CpuidResult::default()
        }),
        // The APIC timer never stops.
        6 => Some(CpuidResult {
            eax: 1 << 2,
            ..CpuidResult::default()
        }),
        // "IntelTDX    " in EBX, EDX, ECX.
        TDX_LEAF => Some(CpuidResult {
            eax: 0,
            ebx: u32::from_le_bytes(*b"Inte"),
            ecx: u32::from_le_bytes(*b"    "),
            edx: u32::from_le_bytes(*b"lTDX"),
        }),
        _ => None,
    }
}

fn basic(td: &Td<'_>, leaf: u32, request: &CpuidRequest) -> CpuidResult {
    let config = &td.config;
    let mut r = request.native;
    if let Some(value) = fixed(config, leaf) {
        return value;
    }
    let has_perfmon = config.has_attributes(attributes::PERFMON);
    match (leaf, request.subleaf) {
        (0, _) => r.eax = MAX_BASIC,
        (1, _) => {
            mask_leaf_1(&mut r, has_perfmon);
            let features = [(7, Feature::Mca), (12, Feature::Mtrr), (14, Feature::Mca)];
            for (bit, feature) in features {
                set_feature(td, &mut r.edx, bit, feature);
            }
            set_feature(td, &mut r.ecx, 24, Feature::TscDeadline);
        }
        (7, 0) => {
            virtualize_leaf_7(config, &mut r);
            set_feature(td, &mut r.edx, 30, Feature::CoreCapabilities);
        }
        (7, 1) => {
            // LASS, FRED and LKGS, HRESET, user MSR and the rest of new system features.
            r.eax &= 1 << 4 | 1 << 5 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 23;
        }
        // EDX: controls of IA32_SPEC_CTRL, in every TD: PSFD, IPRED_CTRL, RRSBA_CTRL, BHI_CTRL.
        (7, 2) => r.edx |= 1 | 1 << 1 | 1 << 2 | 1 << 4,
        (0xa | 0x23, _) if !has_perfmon => r = CpuidResult::default(),
        (0xd, 0) => {
            // CAST: halves of XFAM.
            r.eax &= config.xfam as u32;
            r.edx &= (config.xfam >> 32) as u32;
        }
        (0xd, 1) => {
            r.ecx &= config.xss_allowed() as u32;
            r.edx &= (config.xss_allowed() >> 32) as u32;
        }
        // Reserved leaves, SGX, key locker, and what only hypervisors have.
        (3 | 8 | 0xe | 0x11 | 0x12 | 0x13 | 0x19 | 0x20 | 0x22, _) => r = CpuidResult::default(),
        (0x14, _) if !config.has_xfam(xfam::PT) => r = CpuidResult::default(),
        (0x1c, _) if !config.has_xfam(xfam::LBR) => r = CpuidResult::default(),
        _ => {}
    }
    r
}

/// Sets or clears the bit of a feature of which L1 of the 2.0 line decides.
fn set_feature(td: &Td<'_>, word: &mut u32, bit: u32, feature: Feature) {
    if td.config.is_second() {
        let is_configured = *word >> bit & 1 != 0;
        let value = td.has_feature(feature, is_configured);
        *word = *word & !(1 << bit) | u32::from(value) << bit;
    }
}

fn mask_leaf_1(r: &mut CpuidResult, has_perfmon: bool) {
    const HYPERVISOR: u32 = 1 << 31;
    const X2APIC: u32 = 1 << 21;
    // MONITOR, VMX, SMX, EIST, TM2, xTPR, DCA.
    const HIDDEN: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 14 | 1 << 18;
    const PERFMON: u32 = 1 << 2 | 1 << 4 | 1 << 15;
    r.ecx = (r.ecx & !HIDDEN) | HYPERVISOR | X2APIC;
    if !has_perfmon {
        r.ecx &= !PERFMON;
    }
    // ACPI thermal, TM, PBE: thermal control is the host's.
    r.edx &= !(1 << 22 | 1 << 29 | 1 << 31);
}

fn virtualize_leaf_7(config: &TdConfig, r: &mut CpuidResult) {
    // EBX: SGX, platform QoS monitoring and allocation.
    r.ebx &= !(1 << 2 | 1 << 12 | 1 << 15);
    if !config.has_xfam(xfam::PT) {
        r.ebx &= !(1 << 25);
    }
    // ECX: TME, key locker, SGX launch control, ENQCMD.
    r.ecx &= !(1 << 13 | 1 << 23 | 1 << 29 | 1 << 30);
    if !config.cpu.has_waitpkg {
        r.ecx &= !(1 << 5);
    }
    if !config.has_xfam(xfam::PKU) {
        r.ecx &= !(1 << 3 | 1 << 4);
    }
    if !config.has_attributes(attributes::PKS) {
        r.ecx &= !(1 << 31);
    }
    if !config.has_xfam(xfam::CET_U | xfam::CET_S) {
        r.ecx &= !(1 << 7);
        r.edx &= !(1 << 20);
    }
    if !config.has_xfam(xfam::UINTR) {
        r.edx &= !(1 << 5);
    }
    if !config.has_xfam(xfam::LBR) {
        r.edx &= !(1 << 19);
    }
    if !config.has_xfam(xfam::TILE_DATA) {
        r.edx &= !(1 << 22 | 1 << 24 | 1 << 25);
    }
    // EDX: PCONFIG.
    r.edx &= !(1 << 18);
    // What stops speculation is in every TD: MD_CLEAR, IBRS and IBPB, STIBP, SSBD, and
    // IA32_ARCH_CAPABILITIES. More of it is in subleaf 2.
    r.edx |= 1 << 10 | 1 << 26 | 1 << 27 | 1 << 29 | 1 << 31;
    r.eax = r.eax.max(2);
}

fn extended(td: &Td<'_>, leaf: u32, native: CpuidResult) -> CpuidResult {
    let mut r = native;
    match leaf {
        0x8000_0001 => {
            // LAHF, LZCNT, PREFETCHW; SYSCALL, NX, pages of 1 GiB, RDTSCP, 64-bit mode.
            r = CpuidResult {
                ecx: native.ecx & 0x121,
                edx: native.edx & 0x2c10_0800,
                ..CpuidResult::default()
            }
        }
        0x8000_0000 => {
            r = CpuidResult {
                eax: MAX_EXTENDED,
                ..CpuidResult::default()
            }
        }
        0x8000_0008 => {
            // Widths of addresses; WBNOINVD.
            r = CpuidResult {
                eax: native.eax & 0xffff,
                ebx: native.ebx & 0x200,
                ..CpuidResult::default()
            }
        }
        // The module's name, which it spreads over the registers like this.
        0x8000_0002 => {
            r = CpuidResult {
                eax: u32::from_le_bytes(*b"Inte"),
                ebx: u32::from_le_bytes(*b"TD X"),
                ecx: u32::from_le_bytes(*b"   l"),
                edx: 0,
            }
        }
        // Size, associativity and line of the L2 cache.
        0x8000_0006 if td.config.is_second() => {
            r = CpuidResult {
                ecx: native.ecx & 0xffff_0000 | 0x7040,
                ..CpuidResult::default()
            }
        }
        // The TSC never stops.
        0x8000_0007 => {
            r = CpuidResult {
                edx: 1 << 8,
                ..CpuidResult::default()
            }
        }
        _ => {}
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_td;

    const ONES: CpuidResult = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };

    fn request(leaf: u32, subleaf: u32) -> CpuidRequest {
        CpuidRequest {
            leaf,
            subleaf,
            native: ONES,
            native_max_basic: 0xd,
            cpl: 0,
        }
    }

    fn value(td: &Td<'_>, vcpu: &Vcpu, leaf: u32, subleaf: u32) -> CpuidResult {
        match l1_cpuid(td, vcpu, &request(leaf, subleaf)) {
            CpuidOutcome::Value(value) => value,
            CpuidOutcome::Ve(_) => panic!("leaf {leaf:#x} is a #VE"),
        }
    }

    #[test]
    fn td_names_itself_and_hides_virtualization() {
        with_td(|td, vcpu, _| {
            let tdx = value(td, vcpu, 0x21, 0);
            assert_eq!((tdx.eax, tdx.ebx), (0, 0x6574_6e49));
            assert_eq!((tdx.ecx, tdx.edx), (0x2020_2020, 0x5844_546c));
            assert_eq!(value(td, vcpu, 0, 0).eax, 0x23);
            let one = value(td, vcpu, 1, 0);
            assert_eq!((one.ecx >> 5 & 1, one.ecx >> 31), (0, 1));
            assert_eq!(value(td, vcpu, 0x8000_0001, 0).ecx >> 2 & 1, 0);
            assert_eq!(value(td, vcpu, 0x8000_0000, 0).eax, 0x8000_0008);
            assert_eq!(value(td, vcpu, 0xd, 0).eax, 0x207);
        });
    }

    #[test]
    fn tsc_leaf_fits_the_kernels_arithmetic() {
        with_td(|td, vcpu, _| {
            let r = value(td, vcpu, 0x15, 0);
            assert_eq!((r.eax, r.ebx, r.ecx), (1000, 2450, 1_000_000_000));
        });
    }

    #[test]
    fn extended_leaves_have_no_bits_but_those_a_td_has() {
        with_td(|td, vcpu, _| {
            let get = |leaf| {
                let r = value(td, vcpu, leaf, 0);
                (r.eax, r.ebx, r.ecx, r.edx)
            };
            assert_eq!(get(0x8000_0000), (0x8000_0008, 0, 0, 0));
            assert_eq!(get(0x8000_0001), (0, 0, 0x121, 0x2c10_0800));
            assert_eq!(get(0x8000_0007), (0, 0, 0, 0x100));
            assert_eq!(get(0x8000_0008), (0xffff, 0x200, 0, 0));
            for leaf in [3, 8, 0xe, 0x11, 0x12, 0x13, 0x19, 0x20, 0x22] {
                assert_eq!(get(leaf), (0, 0, 0, 0), "{leaf:#x}");
            }
        });
    }

    #[test]
    fn leaves_too_high_for_their_range_are_the_highest_basic_one() {
        with_td(|td, vcpu, _| {
            td.config.attributes |= attributes::PERFMON;
            for leaf in [0x24, 0x3fff_ffff, 0x5000_0000, 0x8000_0009, u32::MAX] {
                assert_eq!(effective_leaf(leaf), 0x23, "{leaf:#x}");
                let mut request = request(leaf, 1);
                request.native_max_basic = 0x23;
                let outcome = l1_cpuid(td, vcpu, &request);
                assert_eq!(outcome, CpuidOutcome::Value(ONES), "{leaf:#x}");
            }
        });
    }

    #[test]
    fn topology_and_leaf_2_are_told_where_l1_asks_for_them() {
        with_td(|td, vcpu, _| {
            let is_ve = |td: &Td<'_>, leaf, subleaf| {
                l1_cpuid(td, vcpu, &request(leaf, subleaf))
                    == CpuidOutcome::Ve(Category::ConfigParavirt)
            };
            assert!(is_ve(td, 2, 0) && is_ve(td, 0xb, 0) && is_ve(td, 0x1f, 0));
            td.td_ctls = td_ctls::VIRT_CPUID2;
            assert_eq!(value(td, vcpu, 2, 0).eax, 0x00fe_ff01);
            assert!(is_ve(td, 0xb, 0));
            td.td_ctls = td_ctls::ENUM_TOPOLOGY;
            assert_eq!(value(td, vcpu, 0xb, 1), ONES);
            assert!(!is_ve(td, 0x1f, 5) && is_ve(td, 0x1f, 6) && is_ve(td, 0xb, 3));
            assert!(is_ve(td, 2, 0));
        });
    }

    #[test]
    fn controls_of_l1_turn_a_leaf_or_all_of_them_into_ve() {
        with_td(|td, vcpu, _| {
            let is_ve = |vcpu: &Vcpu, leaf, subleaf, cpl| {
                let request = CpuidRequest {
                    cpl,
                    ..request(leaf, subleaf)
                };
                l1_cpuid(td, vcpu, &request) == CpuidOutcome::Ve(Category::ConfigParavirt)
            };
            // CPUID_CONTROL of leaf 7, subleaf 1: for user mode, then for the kernel.
            vcpu.cpuid_control[6] = 2;
            assert!(is_ve(vcpu, 7, 1, 3) && !is_ve(vcpu, 7, 1, 0) && !is_ve(vcpu, 7, 0, 3));
            vcpu.cpuid_control[6] = 1;
            assert!(!is_ve(vcpu, 7, 1, 3) && is_ve(vcpu, 7, 1, 0));
            vcpu.cpuid_user_ve = 1;
            assert!(is_ve(vcpu, 0, 0, 3) && !is_ve(vcpu, 0, 0, 0));
            vcpu.cpuid_supervisor_ve = 1;
            assert!(is_ve(vcpu, 0, 0, 0));
        });
    }

    #[test]
    fn what_stops_speculation_is_there_whatever_the_processor_has() {
        with_td(|td, vcpu, _| {
            let edx = |subleaf| {
                let request = CpuidRequest {
                    native: CpuidResult::default(),
                    ..request(7, subleaf)
                };
                match l1_cpuid(td, vcpu, &request) {
                    CpuidOutcome::Value(value) => value.edx,
                    CpuidOutcome::Ve(_) => panic!("leaf 7 is virtualized"),
                }
            };
            assert_eq!((edx(0), edx(1), edx(2)), (0xac00_0400, 0, 0x17));
        });
    }
}
