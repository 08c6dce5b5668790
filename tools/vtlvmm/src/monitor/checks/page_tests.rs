// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attempts to get around the checks of page tables.

use std::cell::{Cell, RefCell};

use vm_memory::{Bytes as _, GuestAddress};

use super::reports::MOST_FINDINGS;
use super::tests::{TEXT, found, round, unwatched, watched};
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
    assert!(
        told.iter()
            .any(|it| matches!(it, Event::Finding(it) if it.key.kind == Kind::TextMoved)),
        "{told:?}"
    );
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
    assert!(
        told.iter()
            .any(|it| matches!(it, Event::Finding(it) if it.key.kind == Kind::TextMoved)),
        "{told:?}"
    );
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

/// A process frees a table of pages, and gets its memory, between two reads of the monitor.
#[test]
fn a_table_that_became_memory_of_a_process_is_not_read_as_one() {
    const LINEAR: u64 = 0x7000_0000_0000;
    struct Racing<'a> {
        guest: &'a fake::Guest,
        directory: u64,
        child: u64,
    }
    impl Physical for Racing<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            let is_read = Physical::read(&self.guest.memory, gpa, bytes);
            if gpa & !0xfff == self.directory {
                self.guest.write(self.directory, &[0; 8]);
                self.guest.write(self.child, &[1; 4096]);
            }
            is_read
        }
    }
    let (mut guest, mut checks) = watched();
    let entry = guest.map(LINEAR, 0x9000 | PRESENT | fake::USER | NO_EXECUTE, 12);
    let (child, directory) = (entry & !0xfff, (entry & !0xfff) - 0x1000);
    let link = guest.read_word(directory);
    let mut table = [0; 4096];
    let at = GuestAddress(child);
    guest.memory.read_slice(&mut table, at).expect("memory");
    for _ in 0..40 {
        guest.write(directory, &link.to_le_bytes());
        guest.write(child, &table);
        let racing = Racing {
            guest: &guest,
            directory,
            child,
        };
        let events = checks.round(&racing, &[Some(guest.stopped())]);
        assert_eq!(events, []);
    }
}

/// A process ends after its processor was stopped, and another one has its root as memory.
fn forget_root(guest: &mut fake::Guest, checks: &mut Checks, root: u64) {
    let table = fake::ROOT + 0x12_0000;
    let page = 0x9000 | PRESENT | fake::WRITABLE;
    guest.write(table, &page.to_le_bytes().repeat(512));
    let mut before = vec![0; 4096];
    let at = GuestAddress(root);
    guest.memory.read_slice(&mut before, at).expect("memory");
    let mut random = Random(7);
    guest.registers.cr3 = root;
    for turn in 0..60 {
        guest.write(root, &before);
        let stopped = guest.stopped();
        let entry = [table | 0x7, 0][random.below(2) as usize];
        guest.write(root, &entry.to_le_bytes().repeat(512));
        let events = checks.round(&guest.memory, &[Some(stopped)]);
        assert_eq!(events, [], "{turn}");
    }
    guest.write(root, &before);
}

#[test]
fn a_root_that_became_memory_of_a_process_is_not_read_as_one() {
    let (mut guest, mut checks) = watched();
    let root = fake::ROOT + 0x10_0000;
    copy_root(&guest, root);
    forget_root(&mut guest, &mut checks, root);
}

#[test]
fn a_separate_root_that_became_memory_of_a_process_is_not_read_as_one() {
    for cpl in [0, 3] {
        let (mut guest, mut checks) = watched();
        let own = separate(&guest);
        guest.registers.cpl = cpl;
        forget_root(&mut guest, &mut checks, own);
    }
}

/// The kernel is entered with userspace's tables, and changes them.
#[test]
fn the_kernels_tables_are_those_of_the_baseline_whichever_were_in_use() {
    let mut guest = fake::Guest::new();
    guest.registers.cr3 = separate(&guest);
    guest.registers.cpl = 0;
    let mut checks = unwatched();
    checks.saw_user();
    let events: Vec<Event> = (0..3).flat_map(|_| round(&guest, &mut checks)).collect();
    assert!(
        matches!(events.as_slice(), [Event::Baseline(it)] if it.text.linear == TEXT),
        "{events:?}"
    );
    let root = fake::ROOT + 0x11_0000;
    copy_root(&guest, root);
    forget_root(&mut guest, &mut checks, root);
}

#[test]
fn a_root_that_becomes_memory_while_it_is_walked_is_not_read_as_one() {
    struct Racing<'a>(&'a fake::Guest, u64);
    impl Physical for Racing<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            let is_read = Physical::read(&self.0.memory, gpa, bytes);
            if bytes.len() == 4096 && gpa == self.1 {
                self.0
                    .write(self.1, &0x1_0001_u64.to_le_bytes().repeat(512));
            }
            is_read
        }
    }
    let (mut guest, mut checks) = watched();
    let own = fake::ROOT + 0x10_0000;
    let mut table = vec![0; 4096];
    let root = GuestAddress(fake::ROOT);
    guest.memory.read_slice(&mut table, root).expect("memory");
    guest.registers.cr3 = own;
    for _ in 0..40 {
        guest.write(own, &table);
        let racing = Racing(&guest, own);
        assert_eq!(checks.round(&racing, &[Some(guest.stopped())]), []);
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

/// Linux maps the page of its text that it patches to where nobody else looks, and patches all the time.
#[test]
fn pages_of_the_text_that_are_writable_for_a_moment_are_not_found() {
    const LINEAR: u64 = 0x7000_0000_0000;
    struct Patching<'a> {
        guest: &'a fake::Guest,
        at: u64,
        random: RefCell<Random>,
    }
    impl Physical for Patching<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            let mut random = self.random.borrow_mut();
            let page = TEXT_GPA + (random.below(3) << 12);
            let entry = page | PRESENT | fake::WRITABLE | NO_EXECUTE;
            let now = if random.below(3) == 0 { entry } else { 0 };
            self.guest.write(self.at, &now.to_le_bytes());
            Physical::read(&self.guest.memory, gpa, bytes)
        }

        fn pause(&self) {}
    }
    let (mut guest, mut checks) = watched();
    let at = guest.map(LINEAR, 0, 12);
    let patching = Patching {
        guest: &guest,
        at,
        random: RefCell::new(Random(17)),
    };
    for turn in 0..1000 {
        let events = checks.round(&patching, &[Some(guest.stopped())]);
        assert_eq!(events, [], "{turn}");
    }
    // One that stays is.
    let entry = TEXT_GPA | PRESENT | fake::WRITABLE | NO_EXECUTE;
    guest.write(at, &entry.to_le_bytes());
    assert!(found(&guest, &mut checks)[0].starts_with("writable-text: 0x700000000000"));
}

/// One that Linux maps to patch its text is next to one that stays.
#[test]
fn a_page_that_is_writable_for_a_moment_does_not_hide_another() {
    const LINEAR: u64 = 0x7000_0000_0000;
    struct Patching<'a>(&'a fake::Guest, u64);
    impl Physical for Patching<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            Physical::read(&self.0.memory, gpa, bytes)
        }

        fn pause(&self) {
            self.0.write(self.1, &[0; 8]);
        }
    }
    // A pass begins with any of them.
    for _ in 0..32 {
        let (mut guest, mut checks) = watched();
        let entry = TEXT_GPA | PRESENT | fake::WRITABLE | NO_EXECUTE;
        let at = guest.map(LINEAR, entry, 12);
        guest.map(LINEAR + 0x1000, entry | fake::USER, 12);
        let told: Vec<Event> = (0..3)
            .flat_map(|_| {
                guest.write(at, &entry.to_le_bytes());
                let patching = Patching(&guest, at);
                checks.round(&patching, &[Some(guest.stopped())])
            })
            .collect();
        assert!(
            matches!(told.as_slice(), [Event::Finding(it)] if it.key.place == LINEAR + 0x1000),
            "{told:?}"
        );
    }
}

/// A process ends, and its root is memory that leads to more pages than can be looked at.
#[test]
fn a_root_that_is_gone_is_left_at_its_first_page() {
    struct Counted<'a>(&'a fake::Guest, Cell<u32>);
    impl Physical for Counted<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            self.1.set(self.1.get() + 1);
            Physical::read(&self.0.memory, gpa, bytes)
        }
    }
    let (mut guest, mut checks) = watched();
    let counted = Counted(&guest, Cell::new(0));
    let before = guest.stopped();
    checks.round(&counted, &[Some(before)]);
    let usual = counted.1.get();
    let (root, table) = (fake::ROOT + 0x10_0000, fake::ROOT + 0x12_0000);
    copy_root(&guest, root);
    guest.registers.cr3 = root;
    let stopped = guest.stopped();
    let page = 0x9000 | PRESENT | fake::WRITABLE;
    guest.write(table, &page.to_le_bytes().repeat(512));
    guest.write(root, &(table | 0x7).to_le_bytes().repeat(512));
    let counted = Counted(&guest, Cell::new(0));
    for _ in 0..8 {
        counted.1.set(0);
        assert_eq!(checks.round(&counted, &[Some(stopped)]), []);
        assert!(counted.1.get() < usual + 200, "{} {usual}", counted.1.get());
    }
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
