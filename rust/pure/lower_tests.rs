// SPDX-License-Identifier: GPL-2.0
//! Tests of the list of the lower VTLs' memory.

use super::*;

const LIMIT: u64 = 1 << 47;

fn parse(text: &str) -> Result<LowerMemory, Refused> {
    LowerMemory::parse(text.as_bytes(), LIMIT)
}

fn shown(text: &str) -> Vec<(u64, u64)> {
    let list = parse(text).unwrap();
    let ends = |range: &LowerRange| (range.start_gpa(), range.end_gpa());
    list.ranges().iter().map(ends).collect()
}

#[test]
fn numbers_have_bases_and_suffixes() {
    assert_eq!(shown("0x3c000000,0x4000000"), [(0x3c00_0000, 0x4000_0000)]);
    assert_eq!(shown("4096,8192"), [(0x1000, 0x3000)]);
    assert_eq!(shown("0X1G,2m\n"), [(1 << 30, (1 << 30) + (2 << 20))]);
    assert_eq!(shown(" 4K,0x4k "), [(0x1000, 0x2000)]);
    assert_eq!(shown("0,0x7FFFFFFFF000"), [(0, LIMIT - 4096)]);
    assert_eq!(shown(""), []);
    assert_eq!(shown(" \n"), []);
}

#[test]
fn what_is_no_list_of_pairs_is_refused() {
    for text in [
        ",",
        "0x1000",
        "0x1000,",
        ",0x1000",
        "0x1000,0x1000,",
        "0x1000,0x1000,0x3000",
        "0x1000 ,0x1000",
        "0x1000;0x1000",
        "0x,0x1000",
        "K,0x1000",
        "0xK,0x1000",
        "+4096,4096",
        "-4096,4096",
        "4096,+4096",
        "0x+1000,4096",
        "1000h,4096",
        "0x1000,4Q",
        "18446744073709551616,4096",
        "0x1000,0xfffffffffffG",
        "\u{e4},4096",
    ] {
        let reason = parse(text).map_err(|refused| refused.reason);
        assert_eq!(reason, Err(Reason::NotNumbers), "{text}");
    }
}

#[test]
fn a_range_that_cannot_be_memory_is_named() {
    for (text, reason, start_gpa, len_bytes) in [
        ("0x2000,0x1000,0x1000,0", Reason::Empty, 0x1000, 0),
        ("0x1001,0x1000", Reason::NotPages, 0x1001, 0x1000),
        ("0x1000,0x1001", Reason::NotPages, 0x1000, 0x1001),
        (
            "0x7ffffffff000,0x2000",
            Reason::TooHigh,
            LIMIT - 0x1000,
            0x2000,
        ),
        ("0x800000000000,0x1000", Reason::TooHigh, LIMIT, 0x1000),
        (
            "0xfffffffffffff000,0x1000",
            Reason::TooHigh,
            u64::MAX - 0xfff,
            0x1000,
        ),
        (
            "0x1000,0xfffffffffffff000",
            Reason::TooHigh,
            0x1000,
            u64::MAX - 0xfff,
        ),
    ] {
        let refused = Refused {
            reason,
            start_gpa,
            len_bytes,
        };
        assert_eq!(parse(text), Err(refused), "{text}");
        assert!(!reason.text().is_empty());
    }
}

#[test]
fn ranges_of_a_list_have_no_page_in_common() {
    for second in ["4K,4K", "8K,4K", "4K,64K", "0,8K", "12K,8K", "0,64K"] {
        for text in [format!("4K,12K,{second}"), format!("{second},4K,12K")] {
            let reason = parse(&text).map_err(|refused| refused.reason);
            assert_eq!(reason, Err(Reason::Overlaps), "{text}");
        }
    }
}

#[test]
fn ranges_come_in_any_order_and_touching_ones_are_one() {
    assert_eq!(
        shown("0x5000,4K,0x1000,4K,0x3000,4K"),
        [(0x1000, 0x2000), (0x3000, 0x4000), (0x5000, 0x6000)]
    );
    assert_eq!(shown("8K,4K,16K,4K,4K,4K,12K,4K"), [(0x1000, 0x5000)]);
}

#[test]
fn a_list_has_32_ranges_at_most() {
    let list = |count: u64| {
        let pairs: Vec<String> = (0..count).map(|at| format!("{},4K", at << 13)).collect();
        parse(&pairs.join(","))
    };
    assert_eq!(list(32).unwrap().ranges().len(), 32);
    let reason = list(33).map_err(|refused| refused.reason);
    assert_eq!(reason, Err(Reason::TooMany));
}

#[test]
fn only_what_lies_in_one_range_is_lower_memory() {
    let list = parse("0x1000,0x3000,0x8000,0x1000").unwrap();
    let ends = |start, len| {
        let range = list.range(start, len)?;
        assert_eq!(range.len_bytes(), range.end_gpa() - range.start_gpa());
        Some((range.start_gpa(), range.end_gpa()))
    };
    assert_eq!(ends(0x1000, 0x3000), Some((0x1000, 0x4000)));
    assert_eq!(ends(0x2345, 1), Some((0x2000, 0x3000)));
    assert_eq!(ends(0x2ffc, 8), Some((0x2000, 0x4000)));
    assert_eq!(ends(0x8fff, 1), Some((0x8000, 0x9000)));
    for (start, len) in [
        (0, 1),
        (0xfff, 2),
        (0x3fff, 2),
        (0x4000, 1),
        (0x3000, 0x6000),
        (0x7fff, 1),
        (0x8000, 0x1001),
        (0x9000, 1),
        (0x1000, 0),
        (0x1800, 0),
        (0x4000, 0),
        (0x1000, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (u64::MAX - 1, 1),
    ] {
        assert_eq!(ends(start, len), None, "{start:#x} {len:#x}");
    }
    assert_eq!(LowerMemory::EMPTY.range(0, 1), None);
    assert_eq!(
        (list.len_bytes(), LowerMemory::EMPTY.len_bytes()),
        (0x4000, 0)
    );
}

#[test]
fn the_last_word_of_the_command_line_counts() {
    let find = |line: &str| {
        let found = of_command_line(line.as_bytes(), b"vtl0_mem")?;
        Some(String::from_utf8(found.to_vec()).unwrap())
    };
    assert_eq!(find("quiet vtl0_mem=1,2 x=y\n").as_deref(), Some("1,2"));
    assert_eq!(find("vtl0_mem=1,2 vtl0_mem=3,4").as_deref(), Some("3,4"));
    assert_eq!(find("vtl0_mem=").as_deref(), Some(""));
    for line in [
        "",
        "vtl0_mem",
        "vtl0_memory=1,2",
        "xvtl0_mem=1,2",
        "a=\"b vtl0_mem=1,2\" c",
        "other.vtl0_mem=1,2",
    ] {
        assert_eq!(find(line), None, "{line}");
    }
    assert_eq!(find("a=\"b c\" vtl0_mem=1,2").as_deref(), Some("1,2"));
}
