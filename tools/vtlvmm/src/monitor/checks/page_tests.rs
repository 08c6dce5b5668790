// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attempts to get around the checks of page tables.

use vm_memory::{Bytes as _, GuestAddress};

use super::reports::MOST_FINDINGS;
use super::tests::{TEXT, found, round, watched};
use super::*;
use crate::monitor::fake::{self, CONSTANTS, DELTA, LARGE, NO_EXECUTE, PRESENT, Random, TEXT_GPA};
use crate::monitor::finding::Kind;

/// Makes another root with the same tables.
pub(super) fn copy_root(guest: &fake::Guest, to: u64) {
    let mut table = vec![0; 4096];
    let root = GuestAddress(fake::ROOT);
    guest.memory.read_slice(&mut table, root).expect("memory");
    guest.write(to, &table);
}

/// Makes page tables of a process whose userspace has its own, with a part of the text and the gates. Returns
/// userspace's; the kernel's are in the page before.
pub(super) fn separate(guest: &fake::Guest) -> u64 {
    let own = fake::ROOT + 0x10_0000;
    copy_root(guest, own ^ 0x1000);
    let gates = 8 * ((fake::IDT >> 39) & 0x1ff);
    let entry = guest.read_word(fake::ROOT + gates);
    guest.write(own + gates, &entry.to_le_bytes());
    let tables = [own, own + 0x2000, own + 0x3000, own + 0x4000];
    for (level, pair) in (1..4).zip(tables.windows(2)) {
        let index = (TEXT >> (48 - 9 * level)) & 0x1ff;
        guest.write(pair[0] + 8 * index, &(pair[1] | 0x7).to_le_bytes());
    }
    guest.write(tables[3], &(TEXT_GPA | PRESENT).to_le_bytes());
    own
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
        copy_root(&guest, clean);
        // The kernel's text leads elsewhere, and its last page nowhere.
        copy_root(&guest, own);
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

/// Makes a root that leads to other memory at all addresses of the text.
fn with_other_text(guest: &fake::Guest) -> u64 {
    let own = fake::ROOT + 0x10_0000;
    copy_root(guest, own);
    let tables = [own, own + 0x2000, own + 0x3000, own + 0x4000];
    for (level, pair) in (1..4).zip(tables.windows(2)) {
        let index = (TEXT >> (48 - 9 * level)) & 0x1ff;
        guest.write(pair[0] + 8 * index, &(pair[1] | 0x7).to_le_bytes());
    }
    for page in 0..fake::TEXT_LEN / 0x1000 {
        let elsewhere = (TEXT_GPA + 0x40_0000 + page * 0x1000) | PRESENT;
        guest.write(tables[3] + 8 * page, &elsewhere.to_le_bytes());
    }
    own
}

#[test]
fn tables_that_nobody_knows_are_checked_whatever_else_is_in_cr3() {
    let (mut guest, mut checks) = watched();
    let own = with_other_text(&guest);
    guest.registers.cpl = 0;
    let told: Vec<Event> = (0..60)
        .flat_map(|turn| {
            guest.registers.cr3 = own | (turn % 8);
            round(&guest, &mut checks)
        })
        .collect();
    has_moved_text(&told);
}

fn has_moved_text(told: &[Event]) {
    let is_moved = |it: &Event| matches!(it, Event::Finding(it) if it.key.kind == Kind::TextMoved);
    assert!(told.iter().any(is_moved), "{told:?}");
}

/// Each is in use in one round of three.
#[test]
fn tables_that_nobody_knows_are_checked_even_if_they_take_turns() {
    let (mut guest, mut checks) = watched();
    let own = with_other_text(&guest);
    let mut random = Random(3);
    for copy in 1..3 {
        let mut table = vec![0; 4096];
        let from = GuestAddress(own);
        guest.memory.read_slice(&mut table, from).expect("memory");
        guest.write(own + copy * 0x1_0000, &table);
    }
    let told: Vec<Event> = (0..20)
        .flat_map(|_| {
            guest.registers.cr3 = own + random.below(3) * 0x1_0000;
            round(&guest, &mut checks)
        })
        .collect();
    has_moved_text(&told);
}

#[test]
fn a_second_image_is_found_whichever_is_executed() {
    for at in [TEXT - 0x20_0000, TEXT + 0x100_0000] {
        let (mut guest, mut checks) = watched();
        guest.map(at, (TEXT_GPA + 0x40_0000) | PRESENT | LARGE, 21);
        let all = found(&guest, &mut checks);
        assert!(
            all[0].starts_with(&format!("other-image: {at:#x}")),
            "{all:?}"
        );
    }
}

#[test]
fn a_table_that_is_also_elsewhere_is_looked_at_where_the_image_may_be() {
    for _ in 0..16 {
        let (mut guest, mut checks) = watched();
        let code = guest.map(0xffff_c900_0000_0000, 0x9000 | PRESENT, 12) & !0xfff;
        guest.map(TEXT + 0x100_0000, code | 0x7, 21);
        let all = found(&guest, &mut checks);
        assert!(
            all[0].starts_with("other-image: 0xffffffff82200000"),
            "{all:?}"
        );
    }
}

/// The processor has userspace's own tables in each round, which is also so while it enters the kernel.
#[test]
fn the_kernels_tables_are_walked_while_separate_ones_are_in_use() {
    for cpl in [0, 3] {
        let (mut guest, mut checks) = watched();
        guest.map(0xffff_c900_0000_0000, PRESENT | fake::WRITABLE | LARGE, 21);
        guest.registers.cr3 = separate(&guest);
        guest.registers.cpl = cpl;
        let told: Vec<Event> = (0..6).flat_map(|_| round(&guest, &mut checks)).collect();
        assert!(
            matches!(told.as_slice(), [Event::Finding(it)] if it.key.kind == Kind::WritableExecutable),
            "{cpl}: {told:?}"
        );
    }
}

/// What is freed after the text is in its last large page.
#[test]
fn code_between_text_and_constants_is_found() {
    let (mut guest, mut checks) = watched();
    guest.map(TEXT + fake::TEXT_LEN, 0x9000 | PRESENT, 12);
    assert!(found(&guest, &mut checks)[0].starts_with("other-image: 0xffffffff81203000"));
}

#[test]
fn a_writable_page_of_the_kernel_in_a_process_is_found() {
    let (mut guest, mut checks) = watched();
    let entry = TEXT_GPA | PRESENT | fake::WRITABLE | fake::USER | NO_EXECUTE;
    guest.map(0x7000_0000_0000, entry, 12);
    assert!(found(&guest, &mut checks)[0].starts_with("writable-text: 0x700000000000"));
}

/// Pages whose rights are wrong in two ways, one after the other.
#[test]
fn kinds_that_alternate_do_not_hide_a_third() {
    let (mut guest, mut checks) = watched();
    for number in 0..MOST_FINDINGS as u64 {
        let linear = 0xffff_c900_0000_0000 + (number << 22);
        guest.map(linear, PRESENT | fake::WRITABLE | LARGE, 21);
        let text = TEXT_GPA | PRESENT | fake::WRITABLE | NO_EXECUTE;
        guest.map(linear + (1 << 21), text, 12);
    }
    guest.map(TEXT + 0x100_0000, 0x9000 | PRESENT, 12);
    assert_eq!(round(&guest, &mut checks), []);
    let kinds: std::collections::BTreeSet<Kind> =
        checks.reports.previous().map(|it| it.kind).collect();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[test]
fn each_large_page_of_the_kernel_that_leads_elsewhere_is_found() {
    let (mut guest, mut checks) = watched();
    guest.map_text(0x60_0000 | PRESENT);
    let entry = (TEXT_GPA + 0x40_0000) | PRESENT | LARGE | NO_EXECUTE;
    guest.map(CONSTANTS + DELTA, entry, 21);
    let all = found(&guest, &mut checks);
    for expected in [
        "text-moved: 0xffffffff81200000",
        "text-moved: 0xffffffff81400000",
    ] {
        assert!(all.iter().any(|it| it.starts_with(expected)), "{all:?}");
    }
}
