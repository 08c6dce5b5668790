// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of the values of MSRs; `rules/msrs.rs` has the table.

use super::*;
use crate::testing::with_td;

#[test]
fn rows_are_sorted_and_apart() {
    assert!(ROWS.windows(2).all(|w| w[0].last < w[1].first));
    assert_eq!(ROWS.len(), 134);
}

#[test]
fn x2apic_registers_not_listed_are_ve_and_listed_ones_native() {
    with_td(|td, vcpu, _| {
        for index in [
            0x802, 0x803, 0x80d, 0x80f, 0x828, 0x82f, 0x830, 0x832, 0x83e,
        ] {
            assert_eq!(
                l1_msr(td, vcpu, index, Direction::Read, 0),
                MsrAction::Ve(Category::ConfigParavirt),
                "{index:#x}"
            );
        }
        for index in [0x808, 0x80a, 0x80b, 0x810, 0x827, 0x83f] {
            let write = l1_msr(td, vcpu, index, Direction::Write(0), 0);
            assert_eq!(write, MsrAction::Native, "{index:#x}");
        }
        assert_eq!(l1_msr(td, vcpu, 0x831, Direction::Read, 0), MsrAction::Gp);
        assert_eq!(
            l1_msr(td, vcpu, 0x4000_0000, Direction::Read, 0),
            MsrAction::Ve(Category::NonConfigParavirt)
        );
    });
}

#[test]
fn efer_of_l1_changes_only_in_sce() {
    with_td(|td, vcpu, _| {
        let mut set = |v| l1_msr(td, vcpu, EFER, Direction::Write(v), 0xd00);
        assert_eq!(set(0xd01), MsrAction::SetEfer(0xd01));
        assert_eq!(set(0x901), MsrAction::SetEfer(0xd01));
        assert_eq!(set(0x501), MsrAction::Ve(Category::UnsupportedFeature));
        assert_eq!(set(0xc01), MsrAction::Ve(Category::UnsupportedFeature));
        assert_eq!(
            l1_msr(td, vcpu, EFER, Direction::Read, 0xd00),
            MsrAction::Native
        );
    });
}

#[test]
fn bitmap_quarters_are_read_low_read_high_write_low_write_high() {
    assert_eq!(bitmap_position(0x41, Access::Read), Some((1, 1)));
    assert_eq!(bitmap_position(0xc000_0080, Access::Read), Some((130, 0)));
    assert_eq!(bitmap_position(0, Access::Write), Some((256, 0)));
    assert_eq!(bitmap_position(0xc000_1fff, Access::Write), Some((511, 63)));
    assert_eq!(bitmap_position(0x2000, Access::Read), None);
}

#[test]
fn unsupported_xss_bits_are_refused() {
    with_td(|td, vcpu, _| {
        assert_eq!(
            l1_msr(td, vcpu, XSS, Direction::Write(1 << 8), 0),
            MsrAction::Gp
        );
        assert_eq!(
            l1_msr(td, vcpu, XSS, Direction::Write(0), 0),
            MsrAction::SetXss(0)
        );
    });
}
