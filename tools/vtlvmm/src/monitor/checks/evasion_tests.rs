// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attempts to get around the checks.

use vm_memory::{Bytes as _, GuestAddress};

use super::tests::{TEXT, found, round, watched};
use super::*;
use crate::monitor::fake::{self, CONSTANTS, DELTA, LARGE, NO_EXECUTE, PRESENT, TEXT_GPA, TRACED};

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
    for turn in 0..20 {
        let first = if turn % 3 == 2 { 0x0f } else { 0xcc };
        guest.write(TEXT_GPA + TRACED, &[first]);
        assert_eq!(round(&guest, &mut checks), []);
    }
}

#[test]
fn constants_whose_addresses_lead_elsewhere_are_found() {
    let (mut guest, mut checks) = watched();
    let entry = (TEXT_GPA + 0x40_0000) | PRESENT | LARGE | NO_EXECUTE;
    guest.map(CONSTANTS + DELTA, entry, 21);
    let all = found(&guest, &mut checks);
    assert!(
        all.iter()
            .any(|it| it.starts_with("text-moved: 0xffffffff81400000")),
        "{all:?}"
    );
}

/// Tables in neighbouring pages, of which one is clean, are not taken for those of separate page tables.
#[test]
fn tables_that_lack_a_part_of_the_kernel_are_checked_themselves() {
    for cpl in [0, 3] {
        let (mut guest, mut checks) = watched();
        let own = fake::ROOT + 0x10_0000;
        let clean = own ^ 0x1000;
        let mut table = vec![0; 4096];
        guest
            .memory
            .read_slice(&mut table, GuestAddress(fake::ROOT))
            .expect("in its memory");
        guest.write(clean, &table);
        // The kernel's text leads elsewhere, and its last page nowhere.
        guest.write(own, &table);
        let top = 8 * ((TEXT >> 39) & 0x1ff);
        let tables = [own + 0x2000, own + 0x3000, own + 0x4000];
        guest.write(own + top, &(tables[0] | 0x7).to_le_bytes());
        let third = 8 * ((TEXT >> 30) & 0x1ff);
        guest.write(tables[0] + third, &(tables[1] | 0x7).to_le_bytes());
        let second = 8 * ((TEXT >> 21) & 0x1ff);
        guest.write(tables[1] + second, &(tables[2] | 0x7).to_le_bytes());
        for page in 0..2 {
            let elsewhere = (TEXT_GPA + 0x40_0000 + page * 0x1000) | PRESENT;
            guest.write(tables[2] + 8 * page, &elsewhere.to_le_bytes());
        }
        guest.registers.cr3 = own;
        guest.registers.cpl = cpl;
        let all = found(&guest, &mut checks);
        assert!(
            all.iter().any(|it| it.starts_with("text-moved")),
            "{cpl}: {all:?}"
        );
    }
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
