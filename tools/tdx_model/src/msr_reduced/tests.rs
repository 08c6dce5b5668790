// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of the values of emulated MSRs; `rules/msrs.rs` has the table.

use super::*;
use crate::gpa::VmIndex;
use crate::l2_exit::Route;
use crate::l2_msr;
use crate::msr::l1_msr;
use crate::td::FeatureLevel;
use crate::testing::with_td;
use crate::vcpu::Vcpu;

const VE: MsrAction = MsrAction::Ve(Category::ConfigParavirt);
const UNSUPPORTED: MsrAction = MsrAction::Ve(Category::UnsupportedFeature);

fn read(td: &Td<'_>, vcpu: &mut Vcpu, index: u32) -> MsrAction {
    l1_msr(td, vcpu, index, Direction::Read, 0)
}

fn write(td: &Td<'_>, vcpu: &mut Vcpu, index: u32, value: u64) -> MsrAction {
    l1_msr(td, vcpu, index, Direction::Write(value), 0)
}

/// MSRs with the value that reading has where L1 reduces its #VE.
const VALUES: [(u32, u64); 8] = [
    (SMI_COUNT, 0),
    (FEATURE_CONTROL, 1),
    (PPIN_CTL, 1),
    (BIOS_SIGN_ID, 0xffff_ffff),
    (PLATFORM_INFO, 0),
    (FEATURE_ENABLES, 0),
    (X2APIC_APICID, 1),
    (MISC_ENABLE, MISC_ENABLE_VALUE),
];

#[test]
fn values_are_the_modules_where_l1_reduces_its_ve() {
    with_td(|td, vcpu, _| {
        td.config.feature_level = FeatureLevel::Second;
        for (index, value) in VALUES {
            td.td_ctls = 0;
            let is_value = index == MISC_ENABLE;
            let want = if is_value {
                MsrAction::Value(value)
            } else {
                VE
            };
            assert_eq!(read(td, vcpu, index), want, "{index:#x}");
            td.td_ctls = td_ctls::REDUCE_VE | td_ctls::ENUM_TOPOLOGY;
            let value = MsrAction::Value(value);
            assert_eq!(read(td, vcpu, index), value, "{index:#x}");
        }
        td.td_ctls = td_ctls::ENUM_TOPOLOGY;
        assert_eq!(read(td, vcpu, X2APIC_APICID), MsrAction::Value(1));
    });
}

#[test]
fn writes_are_kept_ignored_or_refused() {
    with_td(|td, vcpu, _| {
        td.config.feature_level = FeatureLevel::Second;
        for index in [
            SMI_COUNT,
            BIOS_UPDT_TRIG,
            BIOS_SIGN_ID,
            FEATURE_ENABLES,
            MISC_ENABLE,
        ] {
            assert_eq!(write(td, vcpu, index, 0), VE, "{index:#x}");
        }
        td.td_ctls = td_ctls::REDUCE_VE;
        for index in [SMI_COUNT, BIOS_UPDT_TRIG, BIOS_SIGN_ID] {
            assert_eq!(write(td, vcpu, index, 7), MsrAction::Written, "{index:#x}");
        }
        assert_eq!(read(td, vcpu, SMI_COUNT), MsrAction::Value(7));
        assert_eq!(read(td, vcpu, BIOS_SIGN_ID), MsrAction::Value(0xffff_ffff));
        assert_eq!(write(td, vcpu, FEATURE_ENABLES, 0), MsrAction::Written);
        assert_eq!(write(td, vcpu, FEATURE_ENABLES, 1), MsrAction::Gp);
        assert_eq!(write(td, vcpu, FEATURE_CONTROL, 0), MsrAction::Gp);
    });
}

#[test]
fn misc_enable_takes_what_a_td_can_have() {
    with_td(|td, vcpu, _| {
        td.config.feature_level = FeatureLevel::Second;
        td.td_ctls = td_ctls::REDUCE_VE;
        let mut set = |value| write(td, vcpu, MISC_ENABLE, value);
        for reserved in [1, 2, 4, 8, 17, 19, 34, 63].map(|bit| 1 << bit) {
            // Bit 0 is fast strings, bit 3 the thermal monitor: the two that may be set.
            let want = if reserved == 1 << 3 || reserved == 1 {
                MsrAction::Written
            } else {
                MsrAction::Gp
            };
            if reserved != 1 << 8 {
                assert_eq!(set(reserved), want, "{reserved:#x}");
            }
        }
        assert_eq!(set(1 << 16), MsrAction::Gp);
        assert_eq!(set(1 << 18), UNSUPPORTED);
        assert_eq!(set(1 << 22), UNSUPPORTED);
        assert_eq!(set(1 << 23), MsrAction::Gp);
        // Read-only bits keep their values.
        assert_eq!(set(1 << 7 | 1 << 3), MsrAction::Written);
        let value = MsrAction::Value(1 << 3 | 1 << 11 | 1 << 12);
        assert_eq!(read(td, vcpu, MISC_ENABLE), value);
    });
}

#[test]
fn l2_sees_what_l1_sees_where_l1_does_not_intercept_it() {
    with_td(|td, vcpu, m| {
        td.config.feature_level = FeatureLevel::Second;
        let mut access = |td: &Td<'_>, vcpu: &mut Vcpu, index, access| {
            let l2 = vcpu.l2_mut(VmIndex::Vm1);
            l2.msr_bitmap.fill(0);
            l2.gprs.rcx = u64::from(index);
            l2.gprs.rax = 9;
            l2.gprs.rdx = 0;
            let route = l2_msr::route(td, vcpu, VmIndex::Vm1, access, m);
            (route, vcpu.l2(VmIndex::Vm1).gprs.rax)
        };
        for index in [SMI_COUNT, 0x3b, 0x200, 0x480] {
            let (route, _) = access(td, vcpu, index, Access::Read);
            assert_eq!(route, Route::L1, "{index:#x}");
        }
        td.td_ctls = td_ctls::REDUCE_VE;
        for index in [0x3b, 0x200, 0x480] {
            let (route, _) = access(td, vcpu, index, Access::Read);
            assert_eq!(route, Route::InjectGp, "{index:#x}");
        }
        let (written, _) = access(td, vcpu, SMI_COUNT, Access::Write);
        assert_eq!(written, Route::Handled);
        assert_eq!(read(td, vcpu, SMI_COUNT), MsrAction::Value(9));
        let (route, value) = access(td, vcpu, BIOS_SIGN_ID, Access::Read);
        assert_eq!((route, value), (Route::Handled, 0xffff_ffff));
    });
}
