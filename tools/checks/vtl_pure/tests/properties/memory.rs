// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Everything that decides about memory: no TDCALL that is let through touches
//! System RAM of VTL2, no mapping reaches out of its area, and no XSAVE image that is taken makes
//! XRSTOR fault or changes what is not handed over.

use std::cell::RefCell;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use vtl_pure::pure::field::VmIndex;
use vtl_pure::pure::mapping::whole_piece;
use vtl_pure::pure::policy::{GuestMemory, POLICY, Scope, decide};
use vtl_pure::pure::ranges::{Frames, first_missing};
use vtl_pure::pure::tdcall::Registers;
use vtl_pure::pure::xsave::{Area, Layout, XSTATE_BV_WORD};

use crate::random::config;

const GIB: u64 = 1 << 30;
/// System RAM of this Linux.
const SYSTEM_RAM: Range<u64> = 2 * GIB..4 * GIB;

/// Remembers what it was asked, so that a test knows what was looked at.
#[derive(Default)]
struct Memory(RefCell<Vec<Range<u64>>>);

impl GuestMemory for Memory {
    fn is_lower(&self, start_gpa: u64, len_bytes: u64) -> bool {
        let end = start_gpa
            .checked_add(len_bytes)
            .expect("a range that wraps");
        self.0.borrow_mut().push(start_gpa..end);
        end <= SYSTEM_RAM.start || SYSTEM_RAM.end <= start_gpa
    }
}

/// Addresses in and around System RAM, with the low bits that mean something, and any others.
fn word() -> impl Strategy<Value = u64> {
    let page = (0..(6 * GIB) >> 12).prop_map(|page| page << 12);
    let large = (0..(6 * GIB) >> 21).prop_map(|page| page << 21);
    prop_oneof![
        2 => (page, 0..4_u64).prop_map(|(gpa, low)| gpa | low),
        2 => (large, 0..4_u64).prop_map(|(gpa, low)| gpa | low),
        1 => any::<u64>(),
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
    ]
}

fn request() -> impl Strategy<Value = Registers> {
    let leaves: Vec<u64> = POLICY.iter().map(|entry| entry.leaf).collect();
    let leaf = prop_oneof![8 => select(leaves), 1 => 0..64_u64, 1 => any::<u64>()];
    // Fields of L2 VMs, the virtual APIC address among them.
    let field = (
        select(vec![36_u64, 44, 52, 33, 1]),
        select(vec![0x2012_u64, 0x2013, 0x4002, 0x51]),
    );
    let field = field.prop_map(|(class, code)| (class << 56) | code);
    let rdx = prop_oneof![1 => field, 1 => word()];
    let mask = prop_oneof![1 => Just(u64::MAX), 1 => any::<u64>()];
    (leaf, word(), rdx, word(), mask).prop_map(|(rax, rcx, rdx, r8, r9)| Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        ..Registers::default()
    })
}

/// Memory that a leaf acts on, by the TDX module's specification: MEM.PAGE.ACCEPT, MEM.PAGE.ATTR.RD
/// and MEM.PAGE.ATTR.WR.
fn acts_on(request: &Registers) -> Option<Range<u64>> {
    let start = request.rcx & 0x000f_ffff_ffff_f000;
    let level = if request.rax == 23 {
        0
    } else {
        request.rcx & 7
    };
    matches!(request.rax, 6 | 23 | 24).then(|| start..start + (4096 << (9 * level)))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_permitted_tdcall_touches_system_ram(request in request()) {
        let memory = Memory::default();
        let Ok(permit) = decide(&request, &memory) else { return Ok(()) };
        prop_assert!(POLICY.iter().any(|entry| entry.leaf == request.rax));
        if let Some(range) = acts_on(&request) {
            prop_assert!(range.end <= SYSTEM_RAM.start || SYSTEM_RAM.end <= range.start);
            prop_assert!(range.start % (range.end - range.start) == 0);
            prop_assert_eq!(memory.0.take(), vec![range]);
        }
        // Whose page it is decides the kernel's own look at the caller; here it must be asked for.
        if let Scope::VirtualApic(vm) = permit.scope {
            prop_assert_ne!(vm, VmIndex::VM1);
            prop_assert_eq!((request.r8 & 0xfff, request.r9), (0, u64::MAX));
            prop_assert_eq!(permit.own_page.is_some(), SYSTEM_RAM.contains(&request.r8));
        }
        if let Some(page) = permit.own_page {
            prop_assert!(SYSTEM_RAM.contains(&page.gpa) && page.gpa % 4096 == 0);
        }
    }

    #[test]
    fn a_piece_lies_in_its_area_and_is_aligned_on_both_sides(
        area in (0..0x4000_usize, 1..0x4000_usize), at in 0..0x4000_usize,
        order in 0..14_u32, further in prop_oneof![Just(None), (0..64_u64).prop_map(Some)],
        any_offset in any::<u64>()
    ) {
        let area = area.0 << 12..(area.0 + area.1) << 12;
        let address = area.start + at % (area.len() >> 12) * 4096;
        // An offset that is aligned as the address is, or any.
        let offset = further.map_or(any_offset, |pieces| (address as u64 >> 12) + (pieces << order));
        let Some(first) = whole_piece(area.clone(), address, offset, order) else { return Ok(()) };
        let pages = 1_u64 << order;
        let start = address - ((offset - first) << 12) as usize;
        prop_assert!(first % pages == 0 && start % (4096 << order) == 0);
        prop_assert!((first..first + pages).contains(&offset));
        prop_assert!(area.start <= start && start + (4096 << order) <= area.end);
    }

    #[test]
    fn what_is_missing_is_added_once_and_nothing_else(
        wanted in (0..40_u64, 1..24_u64), pieces in vec((0..60_u64, 1..8_u64), 0..12)
    ) {
        let frames = |(first, count): (u64, u64)| Frames { first, end: first + count };
        let wanted = frames(wanted);
        let mut known: Vec<Frames> = Vec::new();
        for piece in pieces.into_iter().map(frames) {
            if !known.iter().any(|other| other.overlaps(piece)) {
                known.push(piece);
            }
        }
        let before = known.clone();
        while let Some(new) = first_missing(wanted, known.iter()) {
            prop_assert!(wanted.first <= new.first && new.first < new.end && new.end <= wanted.end);
            prop_assert!(!known.iter().any(|other| other.overlaps(new)));
            known.push(new);
        }
        for frame in 0..100 {
            let is_in = |set: &[Frames]| set.iter().any(|frames| frames.contains(frame));
            prop_assert_eq!(is_in(&known), is_in(&before) || wanted.contains(frame));
        }
    }
}

const AVX: u64 = 1 << 2;
const PKRU: u64 = 1 << 9;
/// Where a processor keeps AVX and PKRU in the standard format.
const AVX_WORDS: Range<usize> = 72..104;
const PKRU_WORD: usize = 336;
const IMAGE_WORDS: usize = PKRU_WORD + 1;
/// Behind what is handed over: of components that stay in the kernel.
const KEPT_WORDS: usize = 400;

fn layout() -> Layout {
    let area = |number| match number {
        2 => Area {
            offset: 576,
            len_bytes: 256,
        },
        9 => Area {
            offset: 2688,
            len_bytes: 8,
        },
        _ => Area::default(),
    };
    Layout::new(3 | AVX | PKRU, KEPT_WORDS * 8, area)
}

/// Images of userspace, good ones mostly.
fn image() -> impl Strategy<Value = Vec<u64>> {
    let words = vec(any::<u64>(), IMAGE_WORDS);
    let present = prop_oneof![6 => (0..8_u64, any::<bool>())
        .prop_map(|(low, pkru)| low | if pkru { PKRU } else { 0 }), 1 => any::<u64>()];
    let spoiled = prop_oneof![6 => Just(None), 1 => (65..72_usize).prop_map(Some)];
    let mxcsr = prop_oneof![6 => 0..0x1_0000_u64, 1 => any::<u64>()];
    (words, present, spoiled, mxcsr).prop_map(|(mut words, present, spoiled, mxcsr)| {
        words[3] = mxcsr;
        words[65..72].fill(0);
        words[XSTATE_BV_WORD] = present;
        if let Some(index) = spoiled {
            words[index] = 1 << (index % 64);
        }
        words
    })
}

/// Images that are taken.
fn good_image() -> impl Strategy<Value = Vec<u64>> {
    image().prop_map(|mut words| {
        words[3] &= 0xffff;
        words[XSTATE_BV_WORD] &= 7 | PKRU;
        words[65..72].fill(0);
        words
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_image_is_taken_exactly_if_xrstor_takes_it(image in image()) {
        let would_fault = image[XSTATE_BV_WORD] & !(7 | PKRU) != 0
            || image[65..72].iter().any(|&word| word != 0)
            || image[3] & 0xffff_0000 != 0;
        prop_assert_eq!(layout().takes(&image, 0xffff), !would_fault);
        prop_assert!(!layout().takes(&image[1..], 0xffff));
    }

    #[test]
    fn an_image_comes_back_as_it_went_and_leaves_the_rest_alone(image in good_image(), other in any::<u64>()) {
        let layout = layout();
        prop_assert!(layout.takes(&image, 0xffff));
        let mut kept = vec![other; KEPT_WORDS];
        kept[XSTATE_BV_WORD] = 1 << 5;
        kept[65..72].fill(0);
        let pkru = layout.import(&image, &mut kept);
        let present = image[XSTATE_BV_WORD];
        prop_assert_eq!(kept[XSTATE_BV_WORD], (1 << 5) | (present & AVX) | 3);
        prop_assert!(kept[65..72].iter().all(|&word| word == 0));
        prop_assert!(kept[AVX_WORDS.end..].iter().all(|&word| word == other));

        let mut back = vec![0; IMAGE_WORDS];
        layout.export(&kept, pkru, &mut back);
        prop_assert!(layout.takes(&back, 0xffff));
        let same = |words: Range<usize>| image[words.clone()] == back[words];
        prop_assert!(present & 1 == 0 || same(4..20));
        prop_assert!(present & 2 == 0 || same(20..52));
        prop_assert!(present & AVX == 0 || same(AVX_WORDS));
        prop_assert!(present & 1 != 0 || back[4..20].iter().all(|&word| word == 0));
        prop_assert!(present & 2 != 0 || back[20..52].iter().all(|&word| word == 0));
        let low = |word: u64| word & 0xffff_ffff;
        let expected = if present & PKRU != 0 { low(image[PKRU_WORD]) } else { 0 };
        prop_assert_eq!(low(back[PKRU_WORD]), expected);
    }
}
