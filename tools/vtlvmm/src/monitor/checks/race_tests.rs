// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory that changes while it is checked, as it does in a guest that does nothing wrong.

use std::cell::{Cell, RefCell};

use vm_memory::{Bytes as _, GuestAddress};

use super::page_tests::{copy_root, separate};
use super::tests::{TEXT, found, round, unwatched, watched};
use super::*;
use crate::monitor::fake::{self, NO_EXECUTE, PRESENT, Random, TEXT_GPA};

/// A process frees a table of pages, and gets its memory, while the monitor reads what led there.
#[test]
fn a_table_that_became_memory_of_a_process_is_not_read_as_one() {
    const LINEAR: u64 = 0x7000_0000_0000;
    struct Racing<'a> {
        guest: &'a fake::Guest,
        directory: u64,
        child: u64,
        reads: Cell<u32>,
        visits: Cell<u32>,
    }
    impl Physical for Racing<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            let is_read = Physical::read(&self.guest.memory, gpa, bytes);
            let is_table = bytes.len() == 4096;
            if is_table && gpa == self.directory {
                self.reads.set(self.reads.get() + 1);
                // The first one is to find where to begin.
                if self.reads.get() == 2 {
                    self.guest.write(self.directory, &[0; 8]);
                    self.guest.write(self.child, &[1; 4096]);
                }
            }
            if is_table && gpa == self.child && self.reads.get() >= 2 {
                self.visits.set(self.visits.get() + 1);
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
            reads: Cell::new(0),
            visits: Cell::new(0),
        };
        let events = checks.round(&racing, &[Some(guest.stopped())]);
        assert_eq!(events, []);
        assert_eq!(racing.visits.get(), 1, "its pages are wrong");
    }
}

/// A process ends after its processor was stopped, and another one has its root as memory.
fn forget_root(guest: &mut fake::Guest, checks: &mut Checks, root: u64) {
    let table = fake::ROOT + 0x12_0000;
    // As a table of any level it leads to itself, and as one of pages to pages that are wrong.
    let page = table | PRESENT | fake::WRITABLE;
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
    const MEMORY: u64 = 0x1_0000;
    struct Racing<'a>(&'a fake::Guest, u64, Cell<u32>);
    impl Physical for Racing<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            let is_read = Physical::read(&self.0.memory, gpa, bytes);
            if bytes.len() == 4096 && gpa == self.1 {
                let entry = MEMORY | PRESENT | fake::WRITABLE;
                self.0.write(self.1, &entry.to_le_bytes().repeat(512));
            }
            if bytes.len() == 4096 && gpa == MEMORY {
                self.2.set(self.2.get() + 1);
            }
            is_read
        }
    }
    let (mut guest, mut checks) = watched();
    // As a table of any level it leads to itself, and as one of pages to pages that are wrong.
    let entry = MEMORY | PRESENT | fake::WRITABLE;
    guest.write(MEMORY, &entry.to_le_bytes().repeat(512));
    let own = fake::ROOT + 0x10_0000;
    guest.registers.cr3 = own;
    for _ in 0..40 {
        copy_root(&guest, own);
        let racing = Racing(&guest, own, Cell::new(0));
        let events = checks.round(&racing, &[Some(guest.stopped())]);
        assert_eq!(events, []);
        assert!(racing.2.get() >= 3, "its pages are wrong");
    }
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
    // As a table of any level it leads to itself, and as one of pages to pages that are wrong.
    let page = table | PRESENT | fake::WRITABLE;
    guest.write(table, &page.to_le_bytes().repeat(512));
    guest.write(root, &(table | 0x7).to_le_bytes().repeat(512));
    let counted = Counted(&guest, Cell::new(0));
    for _ in 0..8 {
        counted.1.set(0);
        assert_eq!(checks.round(&counted, &[Some(stopped)]), []);
        assert!(counted.1.get() < usual + 200, "{} {usual}", counted.1.get());
    }
}
