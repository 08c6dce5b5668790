// SPDX-License-Identifier: GPL-2.0
//! Tests of `audit.rs`.

use super::*;
use crate::pure::exit::classify;

fn exit(status: u64, reason: u64) -> RawExit {
    RawExit {
        rax: (status << 32) | reason,
        ..RawExit::default()
    }
}

fn switch(exit: &RawExit) -> SwitchRecord<'_> {
    SwitchRecord {
        entry_tsc: 0x1111,
        cycles: 0x2222,
        rip: 0x3333,
        who: Who::new(0x4444_5555, 0x6677, VmIndex::VM2),
        entry_rcx: EntryRcx::new((2 << 52) | 1, 3).unwrap(),
        reason: EntryReason::USERSPACE,
        exit,
        class: classify(exit),
        kind: kind(exit),
    }
}

fn kind(exit: &RawExit) -> ExitKind {
    ExitKind::new(classify(exit), exit)
}

#[test]
fn kinds_are_basic_reasons_or_what_became_of_the_entry() {
    assert_eq!(kind(&exit(0, 10)).number(), 10);
    assert_eq!(kind(&exit(0, 0x8000_0021)).number(), 33);
    assert_eq!(kind(&exit(0, 95)).number(), 95);
    assert_eq!(kind(&exit(0, 96)), ExitKind::OTHER);
    assert_eq!(kind(&exit(0, 0xffff)), ExitKind::OTHER);
    assert_eq!(kind(&exit(0x1100, 10)), ExitKind::HOST_ROUTED);
    assert_eq!(kind(&exit(0x1101, 77)), ExitKind::HOST_ROUTED);
    assert_eq!(kind(&exit(0x1102, 1)), ExitKind::INTERRUPTED);
    assert_eq!(kind(&exit(0x1120, 0)), ExitKind::NOT_ENTERED);
    assert_eq!(kind(&exit(0xc000_0100, 1)), ExitKind::REFUSED);
}

#[test]
fn every_status_and_reason_has_a_kind_that_can_be_counted() {
    for status in [0, 0x1100, 0x1101, 0x1102, 0x1120, 0x1140, 0xc000_0100] {
        // Miri is slow.
        for reason in (0..=0x1_ffff).step_by(if cfg!(miri) { 509 } else { 1 }) {
            let kind = kind(&exit(status, reason));
            assert!(usize::from(kind.number()) < ExitKind::COUNT);
            let reason = EntryReason::after(kind);
            assert_eq!(
                (reason.number(), reason.handled()),
                (kind.number() + 1, Some(kind))
            );
        }
    }
}

#[test]
fn userspace_is_no_exit_that_the_kernel_dealt_with() {
    let reason = EntryReason::USERSPACE;
    assert_eq!((reason.number(), reason.handled()), (0, None));
}

#[test]
fn a_record_says_who_what_and_why() {
    let exit = RawExit {
        rcx: 0x7777,
        ..exit(0, 48)
    };
    let mut switch = switch(&exit);
    switch.reason = EntryReason::after(ExitKind::INTERRUPTED);
    let words = switch.words();
    assert_eq!(words[..2], [0x1111, 0x2222]);
    assert_eq!(words[2..5], [48, 0x7777, 0x3333]);
    assert_eq!(
        words[5],
        (98 << 56) | (2 << 48) | (0x6677 << 32) | 0x4444_5555
    );
    assert_eq!(words[6], 48 | ((1 | 4) << 8));
}

#[test]
fn an_event_cut_off_and_the_qualification_are_told_only_when_the_l2_ran() {
    let words = |status| {
        let exit = RawExit {
            rcx: 0x7777,
            r10: 0x8000_0030,
            ..exit(status, 1)
        };
        switch(&exit).words()
    };
    let (ran, did_not_run) = (words(0x1102), words(0x1120));
    assert_eq!((ran[3], (ran[6] >> 8) & 2), (0x7777, 2));
    assert_eq!((did_not_run[3], (did_not_run[6] >> 8) & 3), (0, 0));
}

#[test]
fn slots_repeat_after_the_size_of_the_ring() {
    assert_eq!(slot(1, 64), 1);
    assert_eq!(slot(64, 64), 0);
    assert_eq!(slot(65, 64), 1);
    assert_eq!(slot(u64::MAX, 1 << 16), 0xffff);
    for sequence in 1..1000 {
        assert_eq!(slot(sequence, 128) as u64, sequence % 128);
    }
    assert_eq!(slot(7, 0), 7, "no ring, no slot in it");
}

#[test]
fn rings_fill_whole_pages() {
    for records in [64, 1024, 1 << 16] {
        assert!(is_ring_size(records));
        assert_eq!(records as usize * RECORD_WORDS * 8 % 4096, 0);
    }
    for records in [0, 1, 32, 63, 65, 1000, 1 << 17, u32::MAX] {
        assert!(!is_ring_size(records), "{records}");
    }
}
