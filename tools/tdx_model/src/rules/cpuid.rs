// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! CPUID of L1: for each leaf and subleaf if it has a value or is a #VE
//! [BASE CPUID virtualization; ABI CPUID].

use crate::cpuid::{CpuidOutcome, CpuidRequest, CpuidResult, l1_cpuid};
use crate::td::{FeatureLevel, Td, td_ctls};
use crate::testing::with_td;
use crate::vcpu::Vcpu;

/// First and last leaf, how many subleaves have a value (`ANY`: all; 0: none, each is a #VE).
type CpuidRow = (u32, u32, u32);

const ANY: u32 = u32::MAX;

#[rustfmt::skip]
const ROWS: &[CpuidRow] = &[
    (0, 1, ANY),
    (2, 2, 0),
    (3, 3, ANY),
    (4, 4, 5),
    (5, 5, ANY),
    (6, 6, 0),
    (7, 7, 3),
    (8, 8, ANY),
    (9, 9, 0),
    (0xa, 0xa, ANY),
    (0xb, 0xc, 0),
    (0xd, 0xd, 0x13),
    (0xe, 0xe, ANY),
    (0xf, 0x10, 0),
    (0x11, 0x13, ANY),
    (0x14, 0x14, 2),
    (0x15, 0x15, ANY),
    (0x16, 0x18, 0),
    (0x19, 0x1a, ANY),
    (0x1b, 0x1b, 0),
    (0x1c, 0x1c, ANY),
    (0x1d, 0x1d, 2),
    (0x1e, 0x1e, ANY),
    (0x1f, 0x1f, 0),
    (0x20, 0x20, ANY),
    (0x21, 0x21, 1),
    (0x22, 0x22, ANY),
    // As are all leaves above it.
    (0x23, 0x30, 4),
    (0x3fff_fff0, 0x3fff_ffff, 4),
    (0x4000_0000, 0x4000_0020, 0),
    (0x4fff_fff0, 0x4fff_ffff, 0),
    (0x5000_0000, 0x5000_0010, 4),
    (0x7fff_fff0, 0x7fff_ffff, 4),
    (0x8000_0000, 0x8000_0001, ANY),
    (0x8000_0002, 0x8000_0006, 0),
    (0x8000_0007, 0x8000_0008, ANY),
    (0x8000_0009, 0x8000_0030, 4),
    (0xffff_fff0, 0xffff_ffff, 4),
];

fn outcome(td: &Td<'_>, vcpu: &Vcpu, leaf: u32, subleaf: u32, native: u32) -> CpuidOutcome {
    let request = CpuidRequest {
        leaf,
        subleaf,
        native: CpuidResult {
            eax: native,
            ebx: native,
            ecx: native,
            edx: native,
        },
        native_max_basic: 0x23,
        cpl: 0,
    };
    l1_cpuid(td, vcpu, &request)
}

#[test]
fn each_leaf_and_subleaf_has_a_value_or_is_a_ve() {
    with_td(|td, vcpu, _| {
        for (first, last, subleaves) in ROWS.iter().copied() {
            for leaf in first..=last {
                for subleaf in [0, 1, 2, 3, 4, 5, 0x12, 0x13, 0x3f, ANY] {
                    let outcome = outcome(td, vcpu, leaf, subleaf, 0);
                    let has_value = subleaves == ANY || subleaf < subleaves;
                    let is_value = matches!(outcome, CpuidOutcome::Value(_));
                    assert_eq!(is_value, has_value, "{leaf:#x} {subleaf:#x}");
                }
            }
        }
    });
}

/// What leaves and subleaves of a TD of the 2.0 line tell that reduces its #VE, on a processor that has
/// all bits [ABI CPUID of module 2.0: `cpuid_configurations.c`, `td_cpuid.c`].
type Reduced = (u32, u32, [u32; 4]);

#[rustfmt::skip]
const REDUCED: &[Reduced] = &[
    (2, 0, [0x00fe_ff01, 0, 0, 0]),
    (4, 5, [0; 4]),
    (6, 0, [4, 0, 0, 0]),
    (7, 3, [0; 4]),
    (9, 0, [0; 4]),
    (0xb, 3, [0, 0, 3, 0]),
    (0xc, 0, [0; 4]),
    (0xf, 1, [0; 4]),
    (0x10, 0, [0; 4]),
    (0x16, 0, [0; 4]),
    (0x17, 0, [0; 4]),
    (0x18, 9, [0; 4]),
    (0x1b, 0, [0; 4]),
    (0x1f, 6, [0, 0, 6, 0]),
    (0x21, 1, [0; 4]),
    (0x8000_0002, 0, [0x6574_6e49, 0x5820_4454, 0x6c20_2020, 0]),
    (0x8000_0003, 0, [0; 4]),
    (0x8000_0005, 0, [0; 4]),
    (0x8000_0006, 0, [0, 0, 0xffff_7040, 0]),
];

#[test]
fn leaves_of_the_host_have_values_where_l1_reduces_its_ve() {
    with_td(|td, vcpu, _| {
        td.config.feature_level = FeatureLevel::Second;
        for (leaf, subleaf, [eax, ebx, ecx, edx]) in REDUCED.iter().copied() {
            td.td_ctls = 0;
            let without = outcome(td, vcpu, leaf, subleaf, ANY);
            let has_value = leaf == 0x8000_0006;
            let is_value = matches!(without, CpuidOutcome::Value(_));
            assert_eq!(is_value, has_value, "{leaf:#x} {subleaf:#x}");
            td.td_ctls = td_ctls::REDUCE_VE | td_ctls::ENUM_TOPOLOGY | td_ctls::VIRT_CPUID2;
            let want = CpuidOutcome::Value(CpuidResult { eax, ebx, ecx, edx });
            let reduced = outcome(td, vcpu, leaf, subleaf, ANY);
            assert_eq!(reduced, want, "{leaf:#x} {subleaf:#x}");
        }
        let hypervisor = outcome(td, vcpu, 0x4000_0000, 0, ANY);
        assert!(matches!(hypervisor, CpuidOutcome::Ve(_)));
    });
}

#[test]
fn reduction_takes_features_out_of_leaves_1_and_7() {
    with_td(|td, vcpu, _| {
        let value = |td: &Td<'_>, vcpu: &Vcpu, leaf| match outcome(td, vcpu, leaf, 0, ANY) {
            CpuidOutcome::Value(value) => value,
            CpuidOutcome::Ve(_) => panic!("{leaf:#x}"),
        };
        td.config.feature_level = FeatureLevel::Second;
        // MCE, MTRR, MCA; the TSC deadline; core capabilities.
        const EDX: u32 = 1 << 7 | 1 << 12 | 1 << 14;
        const ECX: u32 = 1 << 24;
        const CORE: u32 = 1 << 30;
        let features = |td: &Td<'_>| {
            let one = value(td, vcpu, 1);
            let seven = value(td, vcpu, 7);
            (one.edx & EDX, one.ecx & ECX, seven.edx & CORE)
        };
        assert_eq!(features(td), (EDX, ECX, CORE));
        td.td_ctls = td_ctls::REDUCE_VE;
        assert_eq!(features(td), (0, 0, 0));
        td.feature_paravirt = 1 << 3 | 1 << 11;
        assert_eq!(features(td), (1 << 7 | 1 << 14, ECX, 0));
        td.feature_paravirt = 1 << 4 | 1;
        assert_eq!(features(td), (1 << 12, 0, CORE));
    });
}
