// SPDX-License-Identifier: GPL-2.0
//! Tests of `xsave.rs`.

use super::*;

const XCR0: u64 = X87 | SSE | AVX | PKRU;
const BYTES: usize = 2752;
const MASK: u32 = 0xffff;

/// A processor with AVX at 576 and PKRU at 2688, as in Intel's.
fn area(number: u32) -> Area {
    let (offset, len_bytes) = match number {
        2 => (576, 256),
        3 => (960, 64),
        5 => (1088, 64),
        9 => (2688, 8),
        18 => (2752, 8192),
        _ => (0, 0),
    };
    Area { offset, len_bytes }
}

fn layout() -> Layout {
    Layout::new(XCR0, BYTES, area)
}

/// A valid image in which each word contains its index.
fn image(present: u64) -> Vec<u64> {
    let mut image: Vec<u64> = (0..337).map(|word| 0xabcd_0000 + word).collect();
    image[MXCSR_WORD] = 0x1f80;
    image[64..72].fill(0);
    image[XSTATE_BV_WORD] = present;
    image
}

#[test]
fn an_image_ends_with_its_last_component() {
    assert_eq!(layout().len_words(), 337);
    assert_eq!(layout().components(), XCR0);
    let without = Layout::new(0, 576, area);
    assert_eq!((without.len_words(), without.components()), (72, 3));
}

#[test]
fn components_that_xrstor_may_refuse_are_left_out() {
    let all = Layout::new(u64::MAX, 16384, area);
    assert_eq!(all.components(), XCR0 | (1 << 5));
}

#[test]
fn nonsense_of_cpuid_is_left_out() {
    let bad = [
        (0, 64),
        (568, 64),
        (580, 64),
        (576, 0),
        (576, 63),
        (2752, 8),
        (u32::MAX & !7, 64),
        (576, u32::MAX & !7),
    ];
    for (offset, len_bytes) in bad {
        let layout = Layout::new(7, BYTES, |_| Area { offset, len_bytes });
        assert_eq!(layout.components(), 3, "{offset} {len_bytes}");
        assert_eq!(layout.len_words(), 72);
    }
}

#[test]
fn a_good_image_is_taken() {
    for present in [0, 1, 2, 4, 7, PKRU, XCR0] {
        assert!(layout().takes(&image(present), MASK), "{present:#x}");
    }
}

#[test]
fn another_length_is_refused() {
    let mut long = image(7);
    long.push(0);
    assert!(!layout().takes(&long, MASK));
    assert!(!layout().takes(&long[..336], MASK));
    assert!(!layout().takes(&[], MASK));
}

#[test]
fn each_bit_that_xrstor_faults_on_is_refused() {
    for bit in 0..64 {
        let is_known = (XCR0 >> bit) & 1 == 1;
        assert_eq!(layout().takes(&image(1 << bit), MASK), is_known, "{bit}");
        for word in 65..72 {
            let mut image = image(7);
            image[word] = 1 << bit;
            assert!(!layout().takes(&image, MASK), "word {word}, bit {bit}");
        }
        let mut image = image(7);
        image[MXCSR_WORD] = 1 << bit;
        // The high half is MXCSR_MASK, which XRSTOR ignores.
        let is_free = !(16..32).contains(&bit);
        assert_eq!(layout().takes(&image, MASK), is_free, "MXCSR {bit}");
    }
}

#[test]
fn what_goes_in_comes_out() {
    let layout = layout();
    for present in [3, 7, 3 | PKRU, XCR0] {
        let (mut kept, mut told) = (vec![0x55; 344], vec![0; 337]);
        kept[XSTATE_BV_WORD] = 0x7;
        let pkru = layout.import(&image(present), &mut kept);
        assert_eq!(pkru != 0, present & PKRU != 0);
        layout.export(&kept, pkru, &mut told);
        assert_eq!(told[..64], image(present)[..64]);
        assert_eq!(told[64..72], image(present)[64..72]);
        match present & AVX {
            0 => assert!(told[72..104].iter().all(|&word| word == 0)),
            _ => assert_eq!(told[72..104], image(present)[72..104]),
        }
        assert!(told[104..336].iter().all(|&word| word == 0));
        assert_eq!(told[336], u64::from(pkru));
    }
}

#[test]
fn what_an_image_leaves_out_gets_its_initial_state() {
    let (layout, mut kept) = (layout(), vec![0x55; 344]);
    kept[XSTATE_BV_WORD] = 0x7;
    assert_eq!(layout.import(&image(0), &mut kept), 0);
    assert_eq!(kept[0..4], [0x37f, 0, 0, 0x1f80]);
    assert!(kept[4..52].iter().all(|&word| word == 0));
    // SSE is present because MXCSR is; AVX is not.
    assert_eq!(kept[XSTATE_BV_WORD], 3);
}

#[test]
fn what_is_not_handed_over_stays() {
    let layout = Layout::new(XCR0, 16384, area);
    let mut kept = vec![0x55; 2048];
    kept[XSTATE_BV_WORD] = (1 << 18) | (1 << 3);
    layout.import(&image(7), &mut kept);
    assert_eq!(kept[XSTATE_BV_WORD], (1 << 18) | (1 << 3) | 7);
    assert!(kept[104..].iter().all(|&word| word == 0x55));
}

#[test]
fn short_slices_do_no_harm() {
    let (layout, mut kept) = (layout(), [0; 3]);
    assert_eq!(layout.import(&image(XCR0)[..70], &mut kept), 0);
    layout.export(&kept, 7, &mut []);
}
