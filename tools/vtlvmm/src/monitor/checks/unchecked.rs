// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Findings about what can't be checked.

use crate::monitor::finding::{Finding, Key, Kind};

pub(super) fn no_text() -> Finding {
    unchecked(
        "text",
        "the kernel's text",
        "read-only and executable pages at 0xffffffff80000000..0xffffffffc0000000",
        "none",
    )
}

pub(super) fn not_started() -> Finding {
    unchecked(
        "start",
        "the start of the kernel",
        "read-only text, or a process",
        "neither in ten minutes; nothing is checked",
    )
}

pub(super) fn unchecked(name: &'static str, place: &str, expected: &str, found: &str) -> Finding {
    Finding {
        key: Key {
            kind: Kind::Unchecked,
            place: 0,
            processor: None,
            name,
            gpa: None,
        },
        place: place.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
