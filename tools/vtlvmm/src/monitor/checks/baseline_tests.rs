// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What one start learns from another.

use super::tests::{round, unwatched, watched};
use super::*;
use crate::monitor::fake::{self, DELTA, Guest, IDT_GPA, PATCHED, TEXT_GPA};

/// What is found in a guest that was changed before it was looked at, with a trusted start and without.
fn found_in(change: impl Fn(&mut Guest)) -> [Vec<String>; 2] {
    let (_, checks) = watched();
    let trusted = checks.learned();
    assert!(trusted.is_some());
    [trusted, None].map(|trusted| {
        let mut guest = Guest::new();
        change(&mut guest);
        let mut checks = Checks::new(Arc::new(fake::image()), trusted, Budget::default());
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
    let learned = checks.learned().expect("all is well");
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
    assert!(learned.fits(0x3000) && !learned.fits(0x600));
}

#[test]
fn the_next_start_that_is_the_same_has_no_finding() {
    assert_eq!(found_in(|_| {}), [const { Vec::<String>::new() }; 2]);
}

#[test]
fn what_was_changed_before_the_baseline_is_found() {
    let gate = |guest: &mut Guest| guest.write(IDT_GPA, &[0x80, 0]);
    let patched = |guest: &mut Guest| guest.write(TEXT_GPA + PATCHED, &[0xeb]);
    let smep = |guest: &mut Guest| guest.registers.cr4 &= !(1 << 20);
    let star = |guest: &mut Guest| guest.registers.star ^= 1 << 48;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Guest));
    let changes: [Change<'_>; 4] = [
        ("gate: VP 0: gate 0", &gate),
        ("text: 0xffffffff81", &patched),
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

#[test]
fn nothing_is_learned_of_a_start_with_a_finding() {
    let (mut guest, mut checks) = watched();
    guest.registers.lstar += 1;
    round(&guest, &mut checks);
    assert_eq!(checks.learned(), None, "it may be one");
    round(&guest, &mut checks);
    guest.registers.lstar -= 1;
    round(&guest, &mut checks);
    round(&guest, &mut checks);
    assert_eq!(checks.learned(), None, "there was one");
    let unseen = unwatched();
    assert_eq!(unseen.learned(), None);
}
