// SPDX-License-Identifier: GPL-2.0-only
//! Everything that decides about memory: no allowed TDCALL accesses memory outside the list,
//! whatever list is accepted; no mapping extends beyond its VMA; and no accepted XSAVE image makes
//! XRSTOR fault or changes components that are not exchanged.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use vtl_pure::pure::field::VmIndex;
use vtl_pure::pure::lower::{LowerMemory, MAX_RANGES, Reason};
use vtl_pure::pure::mapping::whole_piece;
use vtl_pure::pure::policy::{POLICY, Scope, decide};
use vtl_pure::pure::ranges::{Frames, first_missing};
use vtl_pure::pure::tdcall::Registers;
use vtl_pure::pure::xsave::{Area, Layout, XSTATE_BV_WORD};

use crate::random::config;

const GIB: u64 = 1 << 30;
/// The lower VTLs' memory, as given to the module: ranges with gaps, one of which is a page.
const LIST: &[u8] = b"2G,0x7ffff000,4G,0x200000,5G,1G";
const LOWER: [Range<u64>; 3] = [
    2 * GIB..4 * GIB - 4096,
    4 * GIB..4 * GIB + (2 << 20),
    5 * GIB..6 * GIB,
];

fn lower_memory() -> LowerMemory {
    LowerMemory::parse(LIST, 1 << 47).expect("a good list")
}

/// Returns true if all of some bytes are lower VTLs' memory.
fn is_lower(wanted: &Range<u64>) -> bool {
    let holds = |range: &Range<u64>| range.start <= wanted.start && wanted.end <= range.end;
    LOWER.iter().any(holds)
}

/// Addresses in and around the ranges, with the low bits that mean something, and any others.
fn word() -> impl Strategy<Value = u64> {
    let page = (0..(7 * GIB) >> 12).prop_map(|page| page << 12);
    let large = (0..(7 * GIB) >> 21).prop_map(|page| page << 21);
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
    matches!(request.rax, 6 | 23 | 24 | 30).then(|| start..start + (4096 << (9 * level)))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_permitted_tdcall_touches_memory_that_is_not_listed(request in request()) {
        let Ok(allowed) = decide(&request, &lower_memory()) else { return Ok(()) };
        prop_assert!(POLICY.iter().any(|entry| entry.leaf == request.rax));
        if let Some(range) = acts_on(&request) {
            prop_assert!(is_lower(&range));
            prop_assert!(range.start % (range.end - range.start) == 0);
        }
        // The kernel itself checks whose page it is; here it must be requested.
        if let Scope::VirtualApic(vm) = allowed.scope() {
            prop_assert_ne!(vm, VmIndex::VM1);
            prop_assert_eq!((request.r8 & 0xfff, request.r9), (0, u64::MAX));
            let page = request.r8..request.r8 + 4096;
            prop_assert_eq!(allowed.own_page().is_some(), !is_lower(&page));
        }
        if let Some(page) = allowed.own_page() {
            prop_assert!(page.gpa % 4096 == 0 && !is_lower(&(page.gpa..page.gpa + 4096)));
        }
    }

    #[test]
    fn a_list_that_is_taken_is_what_was_written_and_gives_out_nothing_else(
        pairs in vec((0..64_u64, 0..9_u64, 0..16_u32), 0..12), spoiled in 0..40_usize
    ) {
        // Ranges of pages, seldom one that is not made of pages.
        let pairs: Vec<(u64, u64)> = pairs
            .into_iter()
            .map(|(first, pages, odd)| (first << 12, (pages << 12) | u64::from(odd == 0)))
            .collect();
        let written = |(start, len): &(u64, u64)| format!("{start:#x},{len}");
        let mut text = pairs.iter().map(written).collect::<Vec<_>>().join(",");
        // Seldom a text with something else in it.
        let is_spoiled = spoiled < text.len() && spoiled < 4;
        if is_spoiled {
            text.replace_range(spoiled..=spoiled, ";");
        }
        let is_good = |&(start, len): &(u64, u64)| len != 0 && len % 4096 == 0 && start + len <= 64 << 12;
        let meet = |a: &(u64, u64), b: &(u64, u64)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
        let apart = |at: usize| !pairs[..at].iter().any(|other| meet(other, &pairs[at]));
        let expected = !is_spoiled && pairs.iter().all(is_good) && (0..pairs.len()).all(apart);
        let list = LowerMemory::parse(text.as_bytes(), 64 << 12);
        prop_assert_eq!(list.is_ok(), expected, "{}", text);
        let Ok(list) = list else { return Ok(()) };

        let ranges = list.ranges();
        prop_assert!(ranges.windows(2).all(|two| two[0].end_gpa() < two[1].start_gpa()));
        for page in 0..66_u64 {
            let wanted = pairs.iter().any(|&(start, len)| (start..start + len).contains(&(page << 12)));
            prop_assert_eq!(list.range(page << 12, 4096).is_some(), wanted);
            for pages in 1..6 {
                let part = list.range(page << 12, pages << 12);
                let all = (page..page + pages).all(|page| list.range(page << 12, 1).is_some());
                prop_assert_eq!(part.is_some(), all);
                if let Some(part) = part {
                    prop_assert_eq!((part.start_gpa(), part.len_bytes()), (page << 12, pages << 12));
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_list_or_refused(text in vec(select(b"0129aKMGx,, \n".to_vec()), 0..400), limit in any::<u64>()) {
        match LowerMemory::parse(&text, limit) {
            Ok(list) => {
                prop_assert!(list.ranges().len() <= MAX_RANGES);
                prop_assert!(list.ranges().iter().all(|range| range.end_gpa() <= limit));
            }
            Err(refused) if refused.reason == Reason::TooMany => prop_assert!(text.len() > MAX_RANGES * 4),
            Err(_) => {}
        }
    }

    #[test]
    fn what_is_given_out_holds_what_was_asked_for(start in word(), len in prop_oneof![0..3 * GIB, 0..9000_u64, any::<u64>()]) {
        let Some(range) = lower_memory().range(start, len) else { return Ok(()) };
        prop_assert!(is_lower(&(range.start_gpa()..range.end_gpa())));
        prop_assert!(range.start_gpa() <= start && start + len <= range.end_gpa());
        prop_assert!(start - range.start_gpa() < 4096 && range.end_gpa() - (start + len) < 4096);
        prop_assert_eq!((range.start_gpa() | range.len_bytes()) % 4096, 0);
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
/// After the exchanged components: those that stay in the kernel.
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

/// Valid images.
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
