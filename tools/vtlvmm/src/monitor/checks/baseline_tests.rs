// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What one start learns from another.

use vm_memory::{Bytes as _, GuestAddress};

use super::page_tests::copy_root;
use super::tests::{round, unwatched, watched};
use super::*;
use crate::monitor::fake::{self, DELTA, Guest, IDT_GPA, PATCHED, PRESENT, SEALED, TEXT_GPA};

/// What is found in a guest that was changed before it was looked at, with a trusted start and without.
fn found_in(change: impl Fn(&mut Guest)) -> [Vec<String>; 2] {
    found_in_kernel(&Arc::new(fake::image()), |_| {}, change)
}

/// The same with another kernel, and a trusted start of it that is like `first`.
fn found_in_kernel(
    image: &Arc<KernelImage>,
    first: impl Fn(&mut Guest),
    change: impl Fn(&mut Guest),
) -> [Vec<String>; 2] {
    let mut guest = Guest::new();
    first(&mut guest);
    let mut checks = Checks::new(Arc::clone(image), None, Budget::default());
    for _ in 0..3 {
        round(&guest, &mut checks);
    }
    let trusted = checks.learned(|_| true);
    assert!(trusted.as_ref().is_some_and(|it| it.fits(image)));
    [trusted, None].map(|trusted| {
        let mut guest = Guest::new();
        change(&mut guest);
        let mut checks = Checks::new(Arc::clone(image), trusted, Budget::default());
        let events = (0..3).flat_map(|_| round(&guest, &mut checks));
        let findings = events.filter_map(|event| match event {
            Event::Finding(finding) => Some(finding.to_string()),
            _ => None,
        });
        findings.collect()
    })
}

#[test]
fn a_start_tells_what_the_kernel_has_patched_and_where_its_gates_lead() {
    let (guest, checks) = watched();
    let learned = checks.learned(|_| true).expect("all is well");
    // CAST: small.
    assert_eq!(learned.patched, [(PATCHED as u32, vec![0xc3, 0xcc])]);
    assert_eq!(learned.gates.len(), 256);
    let first = u64::from_le_bytes(*learned.gates[0].first_chunk().expect("16 bytes"));
    assert_eq!(first & 0xffff, fake::CALLED);
    assert_eq!(
        learned.control,
        [(1 << 31) | (1 << 16) | 1, (1 << 20) | (1 << 21), 0x901]
    );
    assert_eq!(learned.star, guest.registers.star);
    assert!(learned.fits(&fake::image()) && learned.elsewhere.is_empty());
}

#[test]
fn the_next_start_that_is_the_same_has_no_finding() {
    assert_eq!(found_in(|_| {}), [const { Vec::<String>::new() }; 2]);
}

#[test]
fn what_was_changed_before_the_baseline_is_found() {
    let gate = |guest: &mut Guest| guest.write(IDT_GPA, &[0x80, 0]);
    let label = |guest: &mut Guest| guest.write(TEXT_GPA + SEALED, &[0xe9, 0xbb, 0xff, 0xff, 0xff]);
    let patched = |guest: &mut Guest| guest.write(TEXT_GPA + PATCHED, &[0xeb]);
    let smep = |guest: &mut Guest| guest.registers.cr4 &= !(1 << 20);
    let star = |guest: &mut Guest| guest.registers.star ^= 1 << 48;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Guest));
    let changes: [Change<'_>; 5] = [
        ("gate: VP 0: gate 0", &gate),
        ("text: 0xffffffff81", &patched),
        ("text: 0xffffffff812002c0", &label),
        ("register: VP 0: CR4.SMEP", &smep),
        ("register: VP 0: STAR", &star),
    ];
    for (expected, change) in changes {
        let [with, without] = found_in(change);
        assert!(
            matches!(with.as_slice(), [one] if one.starts_with(expected)),
            "{expected}: {with:?}"
        );
        assert_eq!(without, [""; 0], "{expected}");
    }
    const { assert!(DELTA != 0) };
}

const INDIRECT: u64 = 0x900;
const THUNK: u64 = 0xa00;
/// Where the kernel makes a thunk, as a distance from the text, and in memory.
const ELSEWHERE: u64 = 0x4000_0000;
const ELSEWHERE_GPA: u64 = 0x80_0000;

/// A kernel with a branch through a thunk of RBX.
fn with_thunk() -> Arc<KernelImage> {
    let mut image = fake::image();
    // CAST: small.
    let (indirect, thunk) = (INDIRECT as u32, THUNK as u32);
    image.indirect = vec![indirect];
    image.thunks.insert(thunk, 3);
    image.adopted.add(INDIRECT, 6);
    let at = INDIRECT as usize; // CAST: small
    image.text[at..at + 5].copy_from_slice(&fake::call(INDIRECT, THUNK));
    Arc::new(image)
}

fn not_patched(guest: &mut Guest) {
    guest.write(TEXT_GPA + INDIRECT, &fake::call(INDIRECT, THUNK));
}

/// The branch leads to `code` elsewhere.
fn with_code(guest: &mut Guest, to: u64, code: &[u8]) {
    guest.map(super::tests::TEXT + to, ELSEWHERE_GPA | PRESENT, 12);
    guest.write(ELSEWHERE_GPA, code);
    guest.write(TEXT_GPA + INDIRECT, &fake::call(INDIRECT, to));
}

#[test]
fn a_branch_that_the_trusted_start_left_alone_may_not_lead_elsewhere() {
    let image = with_thunk();
    for hostile in [[0xe9, 0, 0, 0x10, 0], fake::call(INDIRECT, ELSEWHERE)] {
        let [with, _] = found_in_kernel(&image, not_patched, |guest| {
            with_code(guest, ELSEWHERE, &[0xff, 0xe3, 0xcc]);
            guest.write(TEXT_GPA + INDIRECT, &hostile);
        });
        assert!(
            matches!(with.as_slice(), [one] if one.starts_with("text: 0xffffffff8120090")),
            "{with:?}"
        );
    }
}

#[test]
fn a_branch_to_a_thunk_elsewhere_may_be_one_to_another_thunk_of_its_register() {
    let image = with_thunk();
    let first = |guest: &mut Guest| with_code(guest, ELSEWHERE, &[0xff, 0xe3, 0xcc]);
    let other = ELSEWHERE + 0x1000;
    let [with, _] = found_in_kernel(&image, first, |guest| {
        with_code(guest, other, &[0xff, 0xe3, 0xcc]);
    });
    assert_eq!(with, [""; 0]);
    // Another register, other code, none.
    for code in [[0xff, 0xe0, 0xcc], [0x90, 0xff, 0xe3], [0; 3]] {
        let [with, _] = found_in_kernel(&image, first, |guest| with_code(guest, other, &code));
        assert!(with.len() == 1 && with[0].starts_with("text:"), "{with:?}");
    }
    let [with, _] = found_in_kernel(&image, first, |guest| {
        with_code(guest, other, &[0xff, 0xe3, 0xcc]);
        guest.write(TEXT_GPA + INDIRECT, &[0xe9]);
    });
    assert!(with.len() == 1 && with[0].starts_with("text:"), "{with:?}");
}

#[test]
fn nothing_is_learned_of_a_start_whose_pages_were_wrong() {
    for _ in 0..16 {
        let mut guest = Guest::new();
        let linear = |number: u64| 0xffff_c900_0000_0000 + (number << 21);
        for number in 0..64 {
            let rights = if number == 7 {
                fake::WRITABLE
            } else {
                fake::NO_EXECUTE
            };
            guest.map(linear(number), 0x9000 | PRESENT | rights, 12);
        }
        let budget = Budget {
            tables: 1,
            ..Budget::default()
        };
        let mut checks = Checks::new(Arc::new(fake::image()), None, budget);
        assert_eq!(round(&guest, &mut checks), []);
        checks.hurry();
        let events = round(&guest, &mut checks);
        assert!(matches!(events.as_slice(), [Event::Baseline(_), ..]));
        // Nobody finds the page later, but it was wrong.
        guest.map(linear(7), 0x9000 | PRESENT | fake::NO_EXECUTE, 12);
        for _ in 0..80 {
            assert_eq!(round(&guest, &mut checks), []);
        }
        assert!(checks.reports.are_none());
        assert_eq!(checks.learned(|_| true), None);
    }
}

#[test]
fn nothing_is_learned_before_all_tables_were_visited() {
    let mut guest = Guest::new();
    for number in 0..64 {
        let linear = 0x7000_0000_0000 + (number << 21);
        guest.map(linear, 0x9000 | PRESENT | fake::USER, 12);
    }
    let budget = Budget {
        tables: 1,
        ..Budget::default()
    };
    let mut checks = Checks::new(Arc::new(fake::image()), None, budget);
    round(&guest, &mut checks);
    assert_eq!(checks.learned(|_| true), None);
    for _ in 0..80 {
        round(&guest, &mut checks);
    }
    assert!(checks.learned(|_| true).is_some());
}

#[test]
fn nothing_is_learned_before_each_processor_was_looked_at() {
    let (guest, checks) = watched();
    assert!(checks.learned(|_| true).is_some());
    drop(checks);
    let mut checks = unwatched();
    for _ in 0..5 {
        checks.round(&guest.memory, &[Some(guest.stopped()), None]);
        assert_eq!(checks.learned(|_| true), None);
        assert!(checks.learned(|number| number == 0).is_some(), "one runs");
    }
    // Nobody knows the tables of the other one, but nothing is wrong with them.
    let mut other = guest.registers;
    other.cr3 = fake::ROOT + 0x10_0000;
    copy_root(&guest, other.cr3);
    let copy = other.cr3 + 0x1000;
    let top = 8 * 511;
    let mut table = vec![0; 4096];
    let image = GuestAddress(guest.read_word(fake::ROOT + top) & !0xfff);
    guest.memory.read_slice(&mut table, image).expect("memory");
    guest.write(copy, &table);
    guest.write(other.cr3 + top, &(copy | 0x7).to_le_bytes());
    let strange = other.with_tops(&guest.memory);
    for registers in [strange, strange, guest.stopped()] {
        assert_eq!(checks.learned(|_| true), None);
        let all = [Some(guest.stopped()), Some(registers)];
        assert_eq!(checks.round(&guest.memory, &all), []);
    }
    assert!(checks.learned(|_| true).is_some());
}

#[test]
fn nothing_is_learned_of_a_start_with_a_finding() {
    let (mut guest, mut checks) = watched();
    guest.registers.lstar += 1;
    round(&guest, &mut checks);
    assert_eq!(checks.learned(|_| true), None, "it may be one");
    round(&guest, &mut checks);
    guest.registers.lstar -= 1;
    round(&guest, &mut checks);
    round(&guest, &mut checks);
    assert_eq!(checks.learned(|_| true), None, "there was one");
    let unseen = unwatched();
    assert_eq!(unseen.learned(|_| true), None);
}
