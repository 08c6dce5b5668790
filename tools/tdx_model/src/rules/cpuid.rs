// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! CPUID of L1: for each leaf and subleaf if it has a value or is a #VE
//! [BASE CPUID virtualization; ABI CPUID].

use crate::cpuid::{CpuidOutcome, CpuidRequest, CpuidResult, l1_cpuid};
use crate::testing::with_td;

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

#[test]
fn each_leaf_and_subleaf_has_a_value_or_is_a_ve() {
    with_td(|td, vcpu, _| {
        for (first, last, subleaves) in ROWS.iter().copied() {
            for leaf in first..=last {
                for subleaf in [0, 1, 2, 3, 4, 5, 0x12, 0x13, 0x3f, ANY] {
                    let request = CpuidRequest {
                        leaf,
                        subleaf,
                        native: CpuidResult::default(),
                        native_max_basic: 0x23,
                        cpl: 0,
                    };
                    let outcome = l1_cpuid(td, vcpu, &request);
                    let has_value = subleaves == ANY || subleaf < subleaves;
                    let is_value = matches!(outcome, CpuidOutcome::Value(_));
                    assert_eq!(is_value, has_value, "{leaf:#x} {subleaf:#x}");
                }
            }
        }
    });
}
