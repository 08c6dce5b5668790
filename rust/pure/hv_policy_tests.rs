// SPDX-License-Identifier: GPL-2.0
//! Tests of `hv_policy.rs`, written as somebody who wants the host to reach VTL2.

use super::*;
use crate::pure::hv_call;
use crate::pure::lower::LowerMemory;

const SHARED: u64 = 1 << 47;
const LOWER: core::ops::Range<u64> = 0x4000_0000..0x5000_0000;
const RAM: core::ops::Range<u64> = 0x10_0000..0x3000_0000;

struct ToyMemory;

impl MemoryFacts for ToyMemory {
    fn lower(&self, start: u64, len: u64) -> Option<LowerRange> {
        let list = LowerMemory::parse(b"0x40000000,0x10000000", SHARED).unwrap();
        list.range(start, len)
    }

    fn has_system_ram(&self, start: u64, len: u64) -> bool {
        start < RAM.end && start + len > RAM.start
    }

    fn without_shared(&self, gpa: u64) -> u64 {
        gpa & !SHARED
    }
}

fn decide_words(control: u64, words: &[u64]) -> Option<HvCallPermit> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    decide(Control::new(control).unwrap(), Input(&bytes), &ToyMemory)
}

const fn reps(code: u64, count: u64, start: u64) -> u64 {
    code | (count << 32) | (start << 48)
}

fn see(visibility: u64, pages: &[u64]) -> Option<HvCallPermit> {
    let head = [u64::MAX, visibility];
    let words = [head.as_slice(), pages].concat();
    decide_words(reps(0xdb, pages.len() as u64, 0), &words)
}

fn set(vtl: u64, name: u64, value: u64) -> Option<HvCallPermit> {
    let words = [u64::MAX, vtl << 32, name, 0, value, 0];
    decide_words(reps(0x51, 1, 0), &words)
}

#[test]
fn calls_without_a_line_are_refused() {
    let codes = POLICY.map_codes();
    for code in 0..=u64::from(u16::MAX) {
        let is_listed = codes.contains(&code);
        // Operands that every call accepts.
        let words = [0x4000_0000, 0, 0, 0, 0, 0x50];
        let is_allowed = decide_words(code, &words).is_some();
        assert_eq!(is_allowed, is_listed, "{code:#x}");
    }
    // HvCallModifyVtlProtectionMask: the TDX module, not the host, protects private pages.
    assert!(!codes.contains(&0x0c));
}

trait Codes {
    fn map_codes(&self) -> Vec<u64>;
}

impl Codes for [HvCallRule; 13] {
    fn map_codes(&self) -> Vec<u64> {
        self.iter().map(|entry| u64::from(entry.code)).collect()
    }
}

#[test]
fn texts_fit_into_the_answer_of_the_ioctl() {
    for entry in &POLICY {
        assert!(entry.name.len() < 24, "{}", entry.name);
        assert!(entry.reason.len() < 128, "{}", entry.name);
    }
}

#[test]
fn only_lower_memory_changes_hands() {
    let first = LOWER.start >> 12;
    let last = (LOWER.end >> 12) - 1;
    assert_eq!(see(3, &[first, last]), Some(HvCallPermit::ToShared));
    assert_eq!(see(0, &[first, last]), Some(HvCallPermit::ToPrivate));
    // Visibility for reading alone counts as shared.
    assert_eq!(see(1, &[first]), Some(HvCallPermit::ToShared));
    for other in [2, 4, 7, 8, 0xffff_ffff] {
        assert_eq!(see(other, &[first]), None, "{other:#x}");
    }
    for page in [RAM.start >> 12, 0, last + 1, first - 1, u64::MAX] {
        for visibility in [0, 3] {
            assert_eq!(see(visibility, &[page]), None, "{page:#x}");
            assert_eq!(see(visibility, &[first, page]), None, "{page:#x}");
        }
    }
    // Numbers whose address overflows into lower memory, or that name the shared alias.
    for page in [first | (1 << 52), first | (1 << 40), first | (SHARED >> 12)] {
        assert_eq!(see(3, &[page]), None, "{page:#x}");
    }
}

#[test]
fn elements_that_were_not_given_are_page_zero() {
    let words = [u64::MAX, 3, LOWER.start >> 12];
    assert_eq!(
        decide_words(reps(0xdb, 1, 0), &words),
        Some(HvCallPermit::ToShared)
    );
    assert_eq!(decide_words(reps(0xdb, 2, 0), &words), None);
    assert_eq!(decide_words(reps(0xdb, 0xfff, 0), &words), None);
}

#[test]
fn elements_that_are_done_do_not_count() {
    let words = [u64::MAX, 3, RAM.start >> 12, LOWER.start >> 12];
    assert_eq!(
        decide_words(reps(0xdb, 2, 1), &words),
        Some(HvCallPermit::ToShared)
    );
    assert_eq!(decide_words(reps(0xdb, 2, 0), &words), None);
    let control = Control::new(reps(0xdb, 2, 1)).unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let changed: Vec<_> = pages(control, Input(&bytes), &ToyMemory).collect();
    assert_eq!(changed, [ToyMemory.lower(LOWER.start, 4096)]);
    assert!(changed[0].is_some());
}

#[test]
fn what_the_driver_itself_asks_back_is_made_private() {
    let page = ToyMemory.lower(LOWER.start + 4096, 4096).unwrap();
    let (control, input) = hv_call::make_private(page);
    assert_eq!(Control::new(control.word()), Some(control));
    assert_eq!(
        decide(control, Input(&input), &ToyMemory),
        Some(HvCallPermit::ToPrivate)
    );
    let changed: Vec<_> = pages(control, Input(&input), &ToyMemory).collect();
    assert_eq!(changed, [Some(page)]);
}

/// A variable-size header would move the elements away from where they are checked.
#[test]
fn elements_can_not_be_moved() {
    let words = [u64::MAX, 3, LOWER.start >> 12, RAM.start >> 12];
    assert_eq!(decide_words(reps(0xdb, 1, 0) | (1 << 17), &words), None);
    let words = [u64::MAX, 0x10 << 32, 0xa_0000, 0, 0, 0];
    assert_eq!(decide_words(reps(0x51, 1, 0) | (1 << 26), &words), None);
}

#[test]
fn pages_of_vtl0s_synic_are_lower_memory() {
    for name in [0xa_0012, 0xa_0013] {
        let allowed = Some(HvCallPermit::Plain);
        assert_eq!(set(0x10, name, LOWER.start | 1), allowed);
        assert_eq!(set(0x10, name, LOWER.start | SHARED | 1), allowed);
        assert_eq!(set(0x10, name, 0), allowed);
        // Disabled, so the address is not used.
        assert_eq!(set(0x10, name, RAM.start), allowed);
        for gpa in [RAM.start, LOWER.end, 0, RAM.start | SHARED, u64::MAX << 12] {
            assert_eq!(set(0x10, name, gpa | 1), None, "{gpa:#x}");
        }
    }
}

#[test]
fn no_register_of_vtl2_is_set_but_two_without_address() {
    let own = [0x00, 0x12, 0x11, 0x02, 0xff];
    for vtl in own {
        for name in [0xa_0000, 0xa_000f, 0xa_0012, 0xa_0013] {
            assert_eq!(set(vtl, name, LOWER.start | 1), None, "{vtl:#x} {name:#x}");
        }
    }
    for vtl in own.into_iter().chain([0x10]) {
        assert!(set(vtl, 0xd_0007, 1).is_some());
        assert!(set(vtl, 0x9_0032, 0).is_some());
        // Hypercall page, guest OS ID, assist page, crash control, RIP, and the neighbours of each
        // allowed group.
        for name in [
            0x2, 0x9_0013, 0x9_0001, 0x9_0002, 0x210, 0x2_0010, 0xa_0010, 0xa_0011, 0xa_0014,
        ] {
            assert_eq!(set(vtl, name, 0), None, "{vtl:#x} {name:#x}");
        }
    }
}

#[test]
fn each_register_of_a_call_is_looked_at() {
    let good = [0xa_0000, 0, 0x50, 0];
    let bad = [0xa_0013, 0, RAM.start | 1, 0];
    let head = [u64::MAX, 0x10 << 32];
    let both = [head.as_slice(), &good, &bad].concat();
    assert_eq!(decide_words(reps(0x51, 2, 0), &both), None);
    assert!(decide_words(reps(0x51, 1, 0), &both).is_some());
    // An element that was not given is read as zeros: name 0.
    assert_eq!(decide_words(reps(0x51, 3, 0), &both), None);
}

#[test]
fn no_device_sends_an_exception() {
    for vector in 0..600 {
        let words = [u64::MAX, 1, 1, 0, 0, vector];
        let is_allowed = decide_words(0x7e | (1 << 17), &words).is_some();
        assert_eq!(is_allowed, (32..256).contains(&vector), "{vector}");
    }
    assert_eq!(decide_words(0x7e, &[]), None);
}

#[test]
fn registers_of_devices_are_no_memory_of_this_kernel() {
    for code in [0x106, 0x107] {
        for gpa in [0xfec0_0000, 0xfec0_0000 | SHARED, RAM.end, LOWER.start] {
            assert_eq!(
                decide_words(code, &[gpa, 4]),
                Some(HvCallPermit::Plain),
                "{gpa:#x}"
            );
        }
        for gpa in [
            RAM.start,
            RAM.end - 4,
            RAM.start - 8,
            RAM.start | SHARED,
            u64::MAX,
        ] {
            assert_eq!(decide_words(code, &[gpa, 8]), None, "{gpa:#x}");
        }
    }
}
