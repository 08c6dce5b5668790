// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attempts to get around the checks of page tables.

use vm_memory::{Bytes as _, GuestAddress};

use super::reports::MOST_FINDINGS;
use super::tests::{TEXT, found, round, watched};
use super::*;
use crate::monitor::fake::{self, CONSTANTS, DELTA, LARGE, NO_EXECUTE, PRESENT, TEXT_GPA};
use crate::monitor::finding::Kind;

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
        if cpl == 0 {
            assert_eq!(round(&guest, &mut checks), [], "nobody knows it");
            assert!(checks.has_suspects());
        }
        let all = found(&guest, &mut checks);
        assert!(
            all.iter().any(|it| it.starts_with("text-moved")),
            "{cpl}: {all:?}"
        );
    }
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
        let events = checks.round(&racing, &[Some(guest.registers)]);
        assert_eq!(events, []);
    }
}

/// A process ends after its processor was asked, and another one has its root as memory, or nobody.
#[test]
fn a_root_that_became_memory_of_a_process_is_not_read_as_one() {
    let (mut guest, mut checks) = watched();
    let (root, table) = (fake::ROOT + 0x10_0000, fake::ROOT + 0x11_0000);
    let page = 0x9000 | PRESENT | fake::WRITABLE;
    guest.write(table, &page.to_le_bytes().repeat(512));
    for turn in 0..60 {
        let at = root + (turn % 7) * 0x1000;
        let entry = [table | 0x7, 0][turn as usize % 2];
        guest.write(at, &entry.to_le_bytes().repeat(512));
        guest.registers.cr3 = at;
        assert_eq!(round(&guest, &mut checks), [], "{turn}");
    }
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
        assert_eq!(checks.round(&racing, &[Some(guest.registers)]), []);
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

/// Userspace's own tables have nothing but the gates, and the processor is there in each round.
#[test]
fn the_kernels_tables_are_walked_while_separate_ones_are_in_use() {
    let (mut guest, mut checks) = watched();
    let own = fake::ROOT + 0x10_0000;
    let kernel = own ^ 0x1000;
    guest.map(0xffff_c900_0000_0000, PRESENT | fake::WRITABLE | LARGE, 21);
    let mut table = vec![0; 4096];
    let root = GuestAddress(fake::ROOT);
    guest.memory.read_slice(&mut table, root).expect("memory");
    guest.write(kernel, &table);
    let gates = 8 * ((fake::IDT >> 39) & 0x1ff);
    let entry = guest.read_word(kernel + gates);
    guest.write(own + gates, &entry.to_le_bytes());
    guest.registers.cr3 = own;
    let told: Vec<Event> = (0..6).flat_map(|_| round(&guest, &mut checks)).collect();
    assert!(
        matches!(told.as_slice(), [Event::Finding(it)] if it.key.kind == Kind::WritableExecutable),
        "{told:?}"
    );
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
