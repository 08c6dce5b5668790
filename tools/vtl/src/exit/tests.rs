// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of [`super`]: what an exit image becomes, and what an answer does.

use super::instruction::step_over;
use super::*;
use crate::run_page::tests::loose_page;
use proptest::prelude::*;
use rustix::io::Errno;

fn info(rax: u64) -> ExitInfo {
    ExitInfo {
        rax,
        ..ExitInfo::default()
    }
}

#[test]
fn status_decides_before_the_reason() {
    assert_eq!(classify(&info(10)), Kind::Cpuid);
    for code in [0x1100_u64, 0x1101, 0x1102, 0x1120, 0xc000_0100] {
        let raw = (code << 32) | 10;
        assert_eq!(
            classify(&info(raw)),
            Kind::NotEntered(Status::from_raw(raw))
        );
    }
}

#[test]
fn flags_above_the_basic_reason_are_ignored_but_entry_failure() {
    assert_eq!(classify(&info((1 << 26) | 12)), Kind::Halt);
    let failed = ExitInfo {
        rax: 0x8000_0021,
        rcx: 4,
        ..ExitInfo::default()
    };
    assert_eq!(
        classify(&failed),
        Kind::EntryFailure {
            reason: 33,
            qualification: 4
        }
    );
}

#[test]
fn every_basic_reason_has_an_arm() {
    for reason in 0..=u16::MAX {
        let kind = classify(&info(u64::from(reason)));
        assert!(!matches!(
            kind,
            Kind::NotEntered(_) | Kind::EntryFailure { .. }
        ));
    }
}

proptest! {
    #[test]
    fn no_exit_makes_it_panic_and_only_an_exit_for_this_level_is_one(
        rax: u64, rcx: u64, r8: u64, r13: u64,
    ) {
        let info = ExitInfo { rax, rcx, r8, r13, ..ExitInfo::default() };
        let kind = classify(&info);
        let is_exit = !matches!(kind, Kind::NotEntered(_));
        prop_assert!(!is_exit || rax >> 32 == 0 || matches!(kind, Kind::Mmio(_)));
    }
}

#[test]
fn reasons_that_need_no_answer_have_their_own_arms() {
    let expected = [
        (7, Kind::InterruptWindow),
        (8, Kind::NmiWindow),
        (43, Kind::TprBelowThreshold),
        (52, Kind::Deadline),
        (54, Kind::Wbinvd),
        (55, Kind::Xsetbv),
    ];
    for (reason, kind) in expected {
        assert_eq!(classify(&info(reason)), kind);
    }
    let with = |reason, rcx| {
        classify(&ExitInfo {
            rax: reason,
            rcx,
            ..ExitInfo::default()
        })
    };
    assert_eq!(with(45, 0x31), Kind::Eoi { vector: 0x31 });
    assert_eq!(with(56, 0x300), Kind::ApicWrite { offset: 0x300 });
    assert_eq!(with(4, 0x9a), Kind::Sipi { vector: 0x9a });
}

#[test]
fn an_exception_has_its_vector_and_code() {
    let exit = ExitInfo {
        rax: 0,
        rcx: 0x1234,
        r9: (0x15 << 32) | 0x8000_0b0e,
        ..ExitInfo::default()
    };
    let expected = ExceptionExit {
        vector: 14,
        error_code: Some(0x15),
        qualification: 0x1234,
    };
    assert_eq!(classify(&exit), Kind::Exception(expected));
    assert_eq!(classify(&ExitInfo { r9: 0xb0e, ..exit }), Kind::Unknown);
    let nmi = ExitInfo {
        r9: 0x8000_0202,
        ..exit
    };
    assert_eq!(classify(&nmi), Kind::Unknown);
}

#[test]
fn pending_pages_are_told_from_missing_rights() {
    let violation = |r13| {
        classify(&ExitInfo {
            rax: 48,
            rcx: 2,
            r8: 0x1000,
            r13,
            ..ExitInfo::default()
        })
    };
    let expected = |is_pending| {
        Kind::EptViolation(EptViolation {
            gpa: 0x1000,
            qualification: 2,
            is_pending,
        })
    };
    assert_eq!(violation(6), expected(true));
    assert_eq!(violation(0), expected(false));
}

#[test]
fn rip_wraps_at_32_bits_outside_64_bit_code() -> core::result::Result<(), Errno> {
    let page = loose_page()?;
    let mut info = ExitInfo {
        r11: 2 << 32,
        ..ExitInfo::default()
    };
    page.set_rip(0xffff_ffff);
    step_over(&page, &info);
    assert_eq!(page.rip(), 1);
    info.rsi = 0xa09b << 16;
    page.set_rip(0xffff_ffff);
    step_over(&page, &info);
    assert_eq!(page.rip(), 0x1_0000_0001);
    Ok(())
}

#[test]
fn exit_info_is_read_from_its_place() -> core::result::Result<(), Errno> {
    let page = loose_page()?;
    page.poke(272, 18);
    page.poke(336, 3 << 32);
    assert_eq!(page.exit_info().rax, 18);
    assert_eq!(page.exit_info().r11 >> 32, 3);
    Ok(())
}
