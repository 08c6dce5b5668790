// SPDX-License-Identifier: MIT OR GPL-2.0-only

use super::reports::MOST_FINDINGS;
use super::*;
use crate::monitor::fake::{
    self, BASE, CALL, CALLED, CONSTANTS, DELTA, DIRECT, Guest, IDT, IDT_GPA, LABEL, LARGE,
    NO_EXECUTE, PRESENT, Random, TEXT_GPA, TRACED, WRITABLE,
};
use crate::monitor::finding::Kind;

pub(super) const TEXT: u64 = BASE + DELTA;

/// Checks of a guest that was not looked at yet.
pub(super) fn unwatched() -> Checks {
    Checks::new(Arc::new(fake::image()), None, Budget::default())
}

/// A guest and its checks, with the baseline taken and confirmed.
pub(super) fn watched() -> (Guest, Checks) {
    let guest = Guest::new();
    let mut checks = unwatched();
    let events = round(&guest, &mut checks);
    assert!(
        matches!(events.as_slice(), [Event::Baseline(_)]),
        "{events:?}"
    );
    assert_eq!(round(&guest, &mut checks), []);
    assert!(!checks.has_suspects());
    (guest, checks)
}

pub(super) fn round(guest: &Guest, checks: &mut Checks) -> Vec<Event> {
    checks.round(&guest.memory, &[Some(guest.stopped())])
}

/// What two rounds find, and that it is found once.
pub(super) fn found(guest: &Guest, checks: &mut Checks) -> Vec<String> {
    assert_eq!(round(guest, checks), [], "one round is not enough");
    assert!(checks.has_suspects());
    let found = round(guest, checks);
    assert_eq!(round(guest, checks), [], "it is told once");
    let text = found.into_iter().map(|event| match event {
        Event::Finding(finding) => finding.to_string(),
        other => format!("{other:?}"),
    });
    text.collect()
}

#[test]
fn there_is_no_baseline_before_userspace_runs() {
    let mut guest = Guest::new();
    let mut checks = unwatched();
    guest.registers.cpl = 0;
    guest.map_text(TEXT_GPA | PRESENT | WRITABLE);
    for _ in 0..50 {
        assert_eq!(round(&guest, &mut checks), []);
    }
    assert_eq!(checks.round(&guest.memory, &[None]), []);
    guest.map_text(TEXT_GPA | PRESENT);
    guest.registers.cpl = 3;
    let facts = Facts {
        text: Place {
            linear: TEXT,
            gpa: TEXT_GPA,
        },
        text_len: 0x3000,
        adopted: 5,
        sites: 4,
        constants: 2,
    };
    assert_eq!(round(&guest, &mut checks), [Event::Baseline(facts)]);
}

#[test]
fn a_kernel_that_never_lets_userspace_run_is_checked_when_its_text_is_read_only() {
    let mut guest = Guest::new();
    guest.registers.cpl = 0;
    let mut checks = unwatched();
    for _ in 0..30 {
        assert_eq!(round(&guest, &mut checks), []);
    }
    assert!(checks.expects_baseline());
    checks.hurry();
    let events = round(&guest, &mut checks);
    assert!(matches!(events.as_slice(), [Event::Baseline(_)]));
}

/// A processor that idles most of the time is at CPL 0 whenever a round looks.
#[test]
fn a_process_that_was_seen_between_two_rounds_counts() {
    let mut guest = Guest::new();
    guest.registers.cpl = 0;
    let mut checks = unwatched();
    assert_eq!(round(&guest, &mut checks), []);
    checks.saw_user();
    let events = round(&guest, &mut checks);
    assert!(matches!(events.as_slice(), [Event::Baseline(_)]));
}

#[test]
fn a_kernel_that_is_still_writable_gets_some_time() {
    let mut guest = Guest::new();
    guest.map_text(TEXT_GPA | PRESENT | WRITABLE);
    let mut checks = unwatched();
    for _ in 0..30 {
        assert_eq!(round(&guest, &mut checks), []);
    }
    assert!(checks.expects_baseline());
    checks.hurry();
    let events = round(&guest, &mut checks);
    assert!(matches!(events.as_slice(), [Event::Baseline(_)]));
    let events = round(&guest, &mut checks);
    assert!(matches!(&events[0], Event::Finding(it) if it.key.kind == Kind::WritableText));
}

#[test]
fn a_guest_without_a_kernel_is_told_once() {
    let mut guest = Guest::new();
    guest.registers.cr3 = 1 << 40;
    let mut checks = unwatched();
    assert_eq!(round(&guest, &mut checks), []);
    checks.hurry();
    let all: Vec<Event> = (0..100).flat_map(|_| round(&guest, &mut checks)).collect();
    assert!(matches!(all.as_slice(), [Event::Finding(it)] if it.key.kind == Kind::Unchecked));
}

#[test]
fn a_kernel_that_never_starts_is_told_once() {
    let mut guest = Guest::new();
    guest.registers.cpl = 0;
    guest.map_text(TEXT_GPA | PRESENT | WRITABLE);
    let mut checks = unwatched();
    assert_eq!(round(&guest, &mut checks), []);
    assert!(!checks.expects_baseline());
    let events = checks.never_started();
    assert!(matches!(events.as_slice(), [Event::Finding(it)] if it.key.kind == Kind::Unchecked));
    assert_eq!(checks.never_started(), []);
    let (_, mut checks) = watched();
    assert_eq!(checks.never_started(), []);
}

#[test]
fn a_change_from_before_the_baseline_is_found_by_the_image() {
    let guest = Guest::new();
    guest.write(TEXT_GPA + 0x1234, &[0xcc]);
    let mut checks = unwatched();
    round(&guest, &mut checks);
    let events = round(&guest, &mut checks);
    assert!(matches!(events.as_slice(), [Event::Finding(it)] if it.key.kind == Kind::Text));
}

#[test]
fn each_register_is_compared() {
    type Change = fn(&mut Registers);
    let changes: [(&str, Change); 11] = [
        ("VP 0: STAR: expected 0x23000000000000", |it| it.star = 0),
        ("VP 0: SFMASK: expected 0x257fd5, found 0x0", |it| {
            it.sfmask = 0
        }),
        ("VP 0: CR0.WP: expected 1", |it| it.cr0 &= !(1 << 16)),
        ("VP 0: CR4.SMEP: expected 1", |it| it.cr4 &= !(1 << 20)),
        ("VP 0: CR4.SMAP: expected 1", |it| it.cr4 &= !(1 << 21)),
        ("VP 0: EFER.NXE: expected 1", |it| it.efer &= !(1 << 11)),
        ("VP 0: EFER.SCE: expected 1", |it| it.efer &= !1),
        (
            "VP 0: IDTR: expected 0xfffffe0000000000 limit 0xfff",
            |it| it.idtr.limit = 0xffe,
        ),
        ("VP 0: GDTR: expected", |it| it.gdtr.base += 8),
        (
            "VP 0: LSTAR: expected 0xffffffff81200080 (entry_SYSCALL_64)",
            |it| it.lstar += 1,
        ),
        ("VP 0: SYSENTER_EIP: expected 0x0, found 0x1000", |it| {
            it.sysenter_eip = 0x1000
        }),
    ];
    for (expected, change) in changes {
        let (mut guest, mut checks) = watched();
        change(&mut guest.registers);
        let all = found(&guest, &mut checks);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].contains(expected), "{all:?}");
    }
}

#[test]
fn a_bit_that_is_set_later_may_not_be_cleared_either() {
    let (mut guest, mut checks) = watched();
    guest.registers.cr4 |= 1 << 11;
    assert_eq!(round(&guest, &mut checks), []);
    guest.registers.cr4 &= !(1 << 11);
    assert!(found(&guest, &mut checks)[0].contains("CR4.UMIP"));
}

#[test]
fn a_system_call_that_leads_elsewhere_before_the_baseline_is_found() {
    let mut guest = Guest::new();
    guest.registers.lstar = TEXT + CALLED;
    let mut checks = unwatched();
    round(&guest, &mut checks);
    let events = round(&guest, &mut checks);
    assert!(matches!(events.as_slice(), [Event::Finding(it)] if it.place == "LSTAR"));
}

#[test]
fn a_changed_gate_is_found() {
    let (guest, mut checks) = watched();
    guest.write(IDT_GPA + 1, &[0x33]);
    let all = found(&guest, &mut checks);
    assert!(
        all[0].contains("gate 0: expected 0xffffffff81200400 (called)"),
        "{all:?}"
    );
    // One that was not present.
    let (guest, mut checks) = watched();
    guest.write(
        IDT_GPA + 0xf1 * 16,
        &[0, 0, 0x10, 0, 0, 0x8e, 0, 0xc0, 0xff, 0xff, 0xff, 0xff],
    );
    let all = found(&guest, &mut checks);
    assert!(all[0].contains("gate 241: expected [00"), "{all:?}");
    assert!(all[0].contains("found 0xffffffffc0000000 ["), "{all:?}");
}

#[test]
fn an_unmapped_table_of_gates_is_found() {
    let (mut guest, mut checks) = watched();
    guest.map(IDT, 0, 12);
    let all = found(&guest, &mut checks);
    assert!(all[0].contains("expected memory, found none"), "{all:?}");
}

#[test]
fn a_changed_byte_of_the_text_is_found_with_its_place() {
    for at in [0, 0x12, 0xfff, 0x1000, 0x2fff] {
        let (guest, mut checks) = watched();
        guest.write(TEXT_GPA + at, &[0xcc]);
        let all = found(&guest, &mut checks);
        assert_eq!(all.len(), 1);
        assert!(
            all[0].starts_with(&format!("text: {:#x}", TEXT + at)),
            "{all:?}"
        );
        assert!(
            all[0].contains("expected 90") && all[0].contains("found cc"),
            "{all:?}"
        );
    }
}

#[test]
fn what_linux_changes_itself_is_not_found_and_anything_else_there_is() {
    let place = |at| TEXT_GPA + at;
    let nop = [0x0f, 0x1f, 0x44, 0, 0];
    let (guest, mut checks) = watched();
    let mut is_quiet = |at, bytes: &[u8]| {
        guest.write(place(at), bytes);
        for _ in 0..3 {
            assert_eq!(round(&guest, &mut checks), [], "{at:#x} {bytes:x?}");
        }
    };
    is_quiet(CALL, &nop);
    is_quiet(CALL, &[0xcc, 0x1f, 0x44, 0, 0]);
    is_quiet(CALL, &fake::call(CALL, TRACED));
    is_quiet(LABEL, &[0xe9, 0x7b, 0, 0, 0]);
    is_quiet(TRACED, &fake::call(TRACED, 0x800));
    for (at, bytes) in [
        (CALL, fake::call(CALL, CALLED + 1)),
        (LABEL, [0xe9, 0x7c, 0, 0, 0]),
        (TRACED, fake::call(TRACED, CALLED)),
        (TRACED, fake::call(TRACED, 0x100_0000)),
    ] {
        let (guest, mut checks) = watched();
        guest.write(place(at), &bytes);
        assert!(
            found(&guest, &mut checks)[0].starts_with("text:"),
            "{bytes:x?}"
        );
    }
}

#[test]
fn a_copy_of_the_tracer_is_allowed_if_it_calls_the_kernel() {
    const COPY: u64 = 0x80_0000;
    let linear = TEXT + 0x4000_0000;
    let copy = |called: u64| {
        let mut copy = vec![0x90; 0x30];
        copy[0x10..0x17].copy_from_slice(&[0x48, 0x8b, 0x15, 9, 9, 9, 9]);
        copy[0x20..0x25].copy_from_slice(&fake::call(0x4000_0020, called));
        copy.extend_from_slice(&[0xc3, 0xcc, 0, 0, 0]);
        copy
    };
    let traced = || {
        let (mut guest, checks) = watched();
        guest.map(linear, COPY | PRESENT, 12);
        guest.write(TEXT_GPA + TRACED, &fake::call(TRACED, 0x4000_0000));
        (guest, checks)
    };
    let (guest, mut checks) = traced();
    guest.write(COPY, &copy(CALLED));
    for _ in 0..3 {
        assert_eq!(round(&guest, &mut checks), []);
    }
    let mut hostile = vec![copy(0x6000_0000), copy(CALLED), copy(CALLED), copy(CALLED)];
    hostile[1][0] = 0xcc;
    hostile[2][0x30] = 0xff;
    hostile[3][0x20] = 0xe9;
    for bytes in hostile {
        let (guest, mut checks) = traced();
        guest.write(COPY, &bytes);
        assert!(
            found(&guest, &mut checks)[0].starts_with("text:"),
            "{bytes:x?}"
        );
    }
}

#[test]
fn changed_constants_are_found() {
    let (guest, mut checks) = watched();
    guest.write(TEXT_GPA + CONSTANTS - BASE + 0x1fff, &[1]);
    let all = found(&guest, &mut checks);
    assert!(
        all[0].starts_with("constants: page 0xffffffff81401000"),
        "{all:?}"
    );
}

#[test]
fn pages_with_wrong_rights_are_found_wherever_they_are() {
    let (mut guest, mut checks) = watched();
    guest.map(DIRECT + 0x4000_0000, 0x9000 | PRESENT | WRITABLE, 12);
    let all = found(&guest, &mut checks);
    assert!(all[0].starts_with("writable-executable: 0xffff888040000000 (4 KiB at 0x9000)"));
    // The text in the direct map.
    guest.map(
        DIRECT + 0x40_0000,
        TEXT_GPA | PRESENT | WRITABLE | LARGE | NO_EXECUTE,
        21,
    );
    let all = found(&guest, &mut checks);
    assert!(
        all[0].contains("found a writable page of the kernel's text"),
        "{all:?}"
    );
    // Its second page, in another process' tables.
    guest.map(
        0xffff_c900_0000_1000,
        (TEXT_GPA + 0x1000) | PRESENT | WRITABLE | NO_EXECUTE,
        12,
    );
    assert!(found(&guest, &mut checks)[0].starts_with("writable-text: 0xffffc90000001000"));
    guest.map(0x1000, 0x9000 | PRESENT, 12);
    assert!(found(&guest, &mut checks)[0].starts_with("low-executable: 0x1000"));
    // Neighbours are the same finding.
    guest.map(0x2000, 0x9000 | PRESENT, 12);
    assert_eq!(round(&guest, &mut checks), []);
    assert_eq!(round(&guest, &mut checks), []);
}

#[test]
fn text_whose_addresses_lead_elsewhere_is_found() {
    let (mut guest, mut checks) = watched();
    guest.map_text(0x60_0000 | PRESENT);
    let all = found(&guest, &mut checks);
    assert!(
        all.iter().any(|it| it.starts_with(
            "text-moved: 0xffffffff81200000: expected guest-physical address 0x400000"
        )),
        "{all:?}"
    );
}

#[test]
fn the_number_of_findings_that_are_told_is_bounded() {
    let (mut guest, mut checks) = watched();
    for number in 0..200 {
        guest.map(
            0xffff_c900_0000_0000 + (number << 21),
            PRESENT | WRITABLE | LARGE,
            21,
        );
    }
    let all: Vec<Event> = (0..20).flat_map(|_| round(&guest, &mut checks)).collect();
    assert_eq!(all.len(), MOST_FINDINGS + 1);
    assert_eq!(all.last(), Some(&Event::Silenced));
    assert!(!checks.has_suspects());
}

#[test]
fn random_registers_and_memory_do_no_harm() {
    let mut random = Random(5);
    for _ in 0..40 {
        let (mut guest, mut checks) = watched();
        for _ in 0..5 {
            let it = &mut guest.registers;
            let values = [
                &mut it.cr0,
                &mut it.cr3,
                &mut it.cr4,
                &mut it.efer,
                &mut it.lstar,
            ];
            for value in values {
                if random.below(3) == 0 {
                    *value = random.next();
                }
            }
            it.idtr.base = [IDT, random.next(), u64::MAX][random.below(3) as usize];
            it.idtr.limit = random.next() >> random.below(64);
            for _ in 0..50 {
                let at = random.below(fake::MEMORY_LEN as u64 - 8);
                guest.write(at, &random.next().to_le_bytes());
                guest.write(
                    fake::ROOT + random.below(0x8000),
                    &random.next().to_le_bytes(),
                );
            }
            round(&guest, &mut checks);
        }
    }
}
