// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of [`super`].

use super::*;
use vtl::PageRights;

fn run(start: u64, end: u64, is_accepted: bool) -> Run {
    Run {
        start,
        end,
        state: State {
            page_bytes: 4096,
            is_accepted,
            vtl0: Rights(PageRights::ALL),
            vtl1: Rights(PageRights::NONE),
        },
    }
}

#[test]
fn pages_that_are_alike_and_touch_become_one_line() {
    let mut runs = Vec::new();
    for part in [
        run(0x1000, 0x2000, true),
        run(0x2000, 0x3000, true),
        run(0x3000, 0x4000, false),
        run(0x5000, 0x6000, false),
    ] {
        add(&mut runs, part);
    }
    let expected = [
        run(0x1000, 0x3000, true),
        run(0x3000, 0x4000, false),
        run(0x5000, 0x6000, false),
    ];
    assert_eq!(runs, expected);
    let text = table(&runs);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].contains("0x1000..0x3000") && lines[1].contains("accepted  rwx   ---"));
    assert!(lines[2].contains("pending"));
    assert_eq!(to_json(&runs)["runs"][0]["end"], "0x3000");
}

#[test]
fn bytes_are_shown_with_their_letters() {
    let text = dump(0x1008, b"Hello\0world, here we are");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "000000001008  48 65 6c 6c 6f 00 77 6f 72 6c 64 2c 20 68 65 72  Hello.world, her"
    );
    assert!(lines[1].starts_with("000000001018  65 20 77 65"));
    assert!(lines[1].ends_with("  e we are"));
    assert_eq!(dump(0, &[]), "");
}
