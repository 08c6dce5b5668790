// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attempts to get around the checks.

use std::cell::RefCell;

use vm_memory::{Bytes as _, GuestAddress};

use super::page_tests::{copy_root, separate};
use super::starting::MOST_STARTING;
use super::tests::{TEXT, found, round, unwatched, watched};
use super::*;
use crate::monitor::fake::{self, LARGE, NO_EXECUTE, PRESENT, Random, TEXT_GPA, TRACED};
use crate::monitor::finding::Kind;

#[test]
fn a_place_that_stays_in_the_middle_of_a_change_is_found() {
    let (guest, mut checks) = watched();
    guest.write(TEXT_GPA + TRACED, &[0xcc]);
    let all: Vec<Event> = (0..10).flat_map(|_| round(&guest, &mut checks)).collect();
    assert!(
        matches!(all.as_slice(), [Event::Finding(one)] if one.key.kind == Kind::Text),
        "{all:?}"
    );
    // One that is changed again and again, but whole in between, is not.
    let (guest, mut checks) = watched();
    let mut random = Random(11);
    for _ in 0..40 {
        let first = if random.below(4) == 0 { 0xcc } else { 0x0f };
        guest.write(TEXT_GPA + TRACED, &[first]);
        assert_eq!(round(&guest, &mut checks), []);
    }
}

#[test]
fn a_place_that_is_in_the_middle_of_a_change_most_of_the_time_is_found() {
    let (guest, mut checks) = watched();
    let (mut told, mut random) = (Vec::new(), Random(12));
    for _ in 0..100 {
        let first = if random.below(4) == 0 { 0x0f } else { 0xcc };
        guest.write(TEXT_GPA + TRACED, &[first]);
        told.extend(round(&guest, &mut checks));
    }
    assert!(
        matches!(told.as_slice(), [Event::Finding(one)] if one.key.kind == Kind::Text),
        "{told:?}"
    );
}

/// A process makes Linux patch the same places without end.
#[test]
fn places_that_are_changed_all_the_time_are_not_found() {
    struct Patched<'a>(&'a fake::Guest, RefCell<Random>);
    impl Physical for Patched<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            let is_read = Physical::read(&self.0.memory, gpa, bytes);
            for at in [fake::LABEL, TRACED] {
                let offset = (TEXT_GPA + at).checked_sub(gpa);
                let first = offset.and_then(|at| bytes.get_mut(usize::try_from(at).ok()?));
                if let (Some(first), 0) = (first, self.1.borrow_mut().below(2)) {
                    *first = 0xcc;
                }
            }
            is_read
        }

        fn pause(&self) {}
    }
    let (guest, mut checks) = watched();
    let patched = Patched(&guest, RefCell::new(Random(13)));
    for turn in 0..2000 {
        let events = checks.round(&patched, &[Some(guest.stopped())]);
        assert_eq!(events, [], "{turn}");
    }
}

/// Userspace's tables, of which a clean neighbour looks like the kernel's, lead interrupts elsewhere.
#[test]
fn gates_are_those_of_the_tables_in_use() {
    let (mut guest, mut checks) = watched();
    let own = fake::ROOT + 0x10_0000;
    let clean = own ^ 0x1000;
    let mut table = vec![0; 4096];
    let root = GuestAddress(fake::ROOT);
    guest
        .memory
        .read_slice(&mut table, root)
        .expect("in its memory");
    guest.write(clean, &table);
    // Only the interrupt gates are there, on another page.
    let tables = [own, own + 0x2000, own + 0x3000, own + 0x4000];
    for (level, pair) in (1..4).zip(tables.windows(2)) {
        let index = (fake::IDT >> (48 - 9 * level)) & 0x1ff;
        guest.write(pair[0] + 8 * index, &(pair[1] | 0x7).to_le_bytes());
    }
    let (other, last) = (fake::IDT_GPA + 0x1_0000, (fake::IDT >> 12) & 0x1ff);
    guest.write(
        tables[3] + 8 * last,
        &(other | PRESENT | NO_EXECUTE).to_le_bytes(),
    );
    let mut gates = vec![0; 4096];
    let honest = GuestAddress(fake::IDT_GPA);
    guest
        .memory
        .read_slice(&mut gates, honest)
        .expect("in its memory");
    guest.write(other, &gates);
    (guest.registers.cr3, guest.registers.cpl) = (own, 3);
    for _ in 0..3 {
        assert_eq!(
            round(&guest, &mut checks),
            [],
            "this is how separate tables are"
        );
    }
    guest.write(other, &[gates[0] ^ 0x10]);
    assert!(found(&guest, &mut checks)[0].starts_with("gate: VP 0: gate 0"));
}

#[test]
fn a_register_that_is_wrong_on_one_processor_after_the_other_is_found() {
    let (guest, mut checks) = watched();
    let wrong = Registers {
        lstar: guest.registers.lstar + 1,
        ..guest.stopped()
    };
    let pairs = [[wrong, guest.stopped()], [guest.stopped(), wrong]];
    let events = pairs.map(|pair| checks.round(&guest.memory, &pair.map(Some)));
    assert!(events[0].is_empty());
    assert!(
        matches!(events[1].as_slice(), [Event::Finding(it)] if it.key.name == "LSTAR"),
        "{events:?}"
    );
}

#[test]
fn a_change_that_moves_on_before_it_is_confirmed_is_found() {
    let (mut guest, mut checks) = watched();
    let mut told = Vec::new();
    for turn in 0..20 {
        let linear = 0xffff_c900_0000_0000 + (turn << 30);
        let at = guest.map(linear, PRESENT | fake::WRITABLE | LARGE, 21);
        told.extend(round(&guest, &mut checks));
        guest.write(at, &[0; 8]);
    }
    assert!(
        matches!(told.first(), Some(Event::Finding(it)) if it.key.kind == Kind::WritableExecutable),
        "{told:?}"
    );
}

/// A page is wrong only when the tables of the other processor would be gone through, if they took turns.
#[test]
fn a_page_that_is_wrong_in_every_other_round_is_found() {
    let (mut guest, mut checks) = watched();
    let root = fake::ROOT + 0x10_0000;
    copy_root(&guest, root);
    let at = guest.map(0x7000_0000_0000, 0, 12);
    let top = 8 * (0x7000_0000_0000_u64 >> 39);
    guest.write(root + top, &[0; 8]);
    let mut other = guest.registers;
    other.cr3 = root;
    let is_found = (0..200).any(|turn| {
        let entry = if turn % 2 == 0 { 0x9000 | PRESENT } else { 0 };
        guest.write(at, &entry.to_le_bytes());
        let other = other.with_tops(&guest.memory);
        let all = [Some(other), Some(guest.stopped())];
        let events = checks.round(&guest.memory, &all);
        events
            .iter()
            .any(|it| matches!(it, Event::Finding(it) if it.key.kind == Kind::LowExecutable))
    });
    assert!(is_found);
}

#[test]
fn a_label_whose_key_is_constant_does_not_change_any_more() {
    let (guest, mut checks) = watched();
    let jump = [0xe9, 0xbb, 0xff, 0xff, 0xff];
    guest.write(TEXT_GPA + fake::SEALED, &jump);
    assert!(found(&guest, &mut checks)[0].starts_with("text:"));
    // Before the constants became read-only it may.
    let guest = fake::Guest::new();
    guest.write(TEXT_GPA + fake::SEALED, &jump);
    let mut checks = unwatched();
    let events: Vec<Event> = (0..3).flat_map(|_| round(&guest, &mut checks)).collect();
    assert!(
        matches!(events.as_slice(), [Event::Baseline(_)]),
        "{events:?}"
    );
}

/// A module that is loaded while the kernel starts runs a process long before the text is read-only.
#[test]
fn an_early_process_does_not_make_a_baseline_of_a_kernel_that_has_not_started() {
    let mut guest = fake::Guest::new();
    guest.map_text(TEXT_GPA | PRESENT | fake::WRITABLE);
    let mut checks = unwatched();
    for _ in 0..100 {
        assert_eq!(round(&guest, &mut checks), []);
    }
    guest.map_text(TEXT_GPA | PRESENT);
    let events: Vec<Event> = (0..3).flat_map(|_| round(&guest, &mut checks)).collect();
    assert!(
        matches!(events.as_slice(), [Event::Baseline(_)]),
        "{events:?}"
    );
}

/// It is started anew whenever it would be checked.
#[test]
fn a_processor_that_reaches_userspace_has_no_more_time_to_start() {
    let (guest, mut checks) = watched();
    let mut told = Vec::new();
    for turn in 0..60 {
        let mut registers = guest.stopped();
        if turn % 11 != 0 {
            (registers.cpl, registers.cr4) = (0, 0);
        }
        told.extend(checks.round(&guest.memory, &[Some(registers)]));
        if turn % 11 == 0 {
            checks.restarted(0);
        }
    }
    assert!(
        matches!(told.first(), Some(Event::Finding(it)) if it.key.name.starts_with("CR4")),
        "{told:?}"
    );
}

/// A call of something that is no copy of the tracer's entry.
#[test]
fn trampolines_are_judged_while_all_processors_start() {
    for has_other_root in [false, true] {
        let (guest, mut checks) = watched();
        checks.restarted(0);
        guest.write(TEXT_GPA + TRACED, &fake::call(TRACED, 0x4000_0000));
        if has_other_root {
            let (at, copy) = (fake::ROOT + 8 * 511, fake::ROOT + 0x10_0000);
            let mut table = vec![0; 4096];
            let old = GuestAddress(guest.read_word(at) & !0xfff);
            guest.memory.read_slice(&mut table, old).expect("memory");
            guest.write(copy, &table);
            guest.write(at, &(copy | 0x7).to_le_bytes());
        }
        let starting = [Some(Registers::default())];
        let events: Vec<Event> = (0..3)
            .flat_map(|_| checks.round(&guest.memory, &starting))
            .collect();
        assert!(
            matches!(events.as_slice(), [Event::Finding(it)] if it.key.kind == Kind::Text),
            "{events:?}"
        );
    }
}

/// There is a copy of the tracer's entry, but not in the tables that are in use.
#[test]
fn trampolines_are_judged_in_all_tables() {
    const COPY: u64 = 0x80_0000;
    let linear = TEXT + 0x4000_0000;
    let mut copy = vec![0x90; 0x30];
    copy[0x10..0x17].copy_from_slice(&[0x48, 0x8b, 0x15, 9, 9, 9, 9]);
    copy[0x20..0x25].copy_from_slice(&fake::call(0x4000_0020, fake::CALLED));
    copy.extend_from_slice(&[0xc3, 0xcc, 0, 0, 0]);
    let traced = |elsewhere: Option<u64>| {
        let (mut guest, mut checks) = watched();
        guest.map(linear, COPY | PRESENT, 12);
        guest.write(COPY, &copy);
        guest.write(TEXT_GPA + TRACED, &fake::call(TRACED, 0x4000_0000));
        let own = separate(&guest);
        let tables = [own + 0x2000, own + 0x5000, own + 0x6000];
        let index = |shift: u32| 8 * ((linear >> shift) & 0x1ff);
        if let Some(gpa) = elsewhere {
            guest.write(tables[0] + index(30), &(tables[1] | 0x7).to_le_bytes());
            guest.write(tables[1] + index(21), &(tables[2] | 0x7).to_le_bytes());
            guest.write(tables[2] + index(12), &(gpa | PRESENT).to_le_bytes());
        }
        (guest.registers.cr3, guest.registers.cpl) = (own, 0);
        let events = (0..3).flat_map(|_| round(&guest, &mut checks));
        let kinds = events.filter_map(|event| match event {
            Event::Finding(it) => Some(it.key.kind),
            _ => None,
        });
        kinds.collect::<Vec<Kind>>()
    };
    assert_eq!(traced(None), []);
    assert_eq!(traced(Some(COPY)), []);
    assert_eq!(traced(Some(COPY + 0x1000)), [Kind::Text]);
}

#[test]
fn many_findings_of_one_kind_do_not_hide_another() {
    let (mut guest, mut checks) = watched();
    for vector in 1..5 {
        guest.write(fake::IDT_GPA + 16 * vector, &[0x33]);
    }
    guest.map(0xffff_c900_0000_0000, PRESENT | fake::WRITABLE | LARGE, 21);
    let all = [Some(guest.stopped()); 64];
    let events: Vec<Event> = (0..3)
        .flat_map(|_| checks.round(&guest.memory, &all))
        .collect();
    let kinds: Vec<Kind> = events
        .iter()
        .filter_map(|event| match event {
            Event::Finding(it) => Some(it.key.kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds.len(), 5, "{events:?}");
    assert!(kinds.contains(&Kind::WritableExecutable));
}

#[test]
fn a_change_that_is_gone_in_the_next_round_is_not_told() {
    let (mut guest, mut checks) = watched();
    for _ in 0..5 {
        guest.registers.lstar += 1;
        assert_eq!(round(&guest, &mut checks), []);
        guest.registers.lstar -= 1;
        assert_eq!(round(&guest, &mut checks), []);
    }
}

#[test]
fn a_processor_that_does_not_answer_each_time_is_found_all_the_same() {
    let (mut guest, mut checks) = watched();
    guest.registers.lstar += 1;
    assert_eq!(round(&guest, &mut checks), []);
    for _ in 0..3 {
        assert_eq!(checks.round(&guest.memory, &[None]), []);
        assert!(!checks.has_suspects());
    }
    assert!(matches!(
        round(&guest, &mut checks).as_slice(),
        [Event::Finding(_)]
    ));
}

#[test]
fn a_processor_that_starts_anew_is_left_alone_until_it_runs_userspace() {
    let (mut guest, mut checks) = watched();
    checks.restarted(0);
    let before = guest.registers;
    guest.registers = Registers::default();
    for _ in 0..MOST_STARTING - 1 {
        checks.restarted(0);
        assert_eq!(round(&guest, &mut checks), []);
    }
    guest.registers = before;
    // The segment descriptors may be elsewhere now.
    guest.registers.gdtr.base += 0x1000;
    for _ in 0..3 {
        assert_eq!(round(&guest, &mut checks), []);
    }
    guest.registers.gdtr.base += 0x1000;
    assert!(found(&guest, &mut checks)[0].contains("GDTR"));
    // One that never gets there is not left alone for ever, however often it starts.
    guest.registers.cpl = 0;
    guest.registers.cr4 = 0;
    let all: Vec<Event> = (0..20)
        .flat_map(|_| {
            checks.restarted(0);
            round(&guest, &mut checks)
        })
        .collect();
    assert_eq!(all.len(), 2, "{all:?}");
    checks.restarted(7);
}
