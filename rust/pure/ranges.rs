// SPDX-License-Identifier: GPL-2.0
//! Which part of a range of lower-VTL memory is not registered yet.
//!
//! Userspace registers the same memory more than once, and in overlapping pieces: what is
//! registered stays, what is missing is added.

use super::lower::LowerRange;
use super::mapping::{Alias, END_PAGE};

/// Page frames from `first` to `end`, exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frames {
    /// The first frame.
    pub first: u64,
    /// The frame after the last, exclusive.
    pub end: u64,
}

/// Bit in the first frame of a registration: the memory is shared with the host.
pub const SHARED: u64 = 1 << 51;
/// The kernel creates `struct page`s for pieces of 2 MiB, a subsection.
const FRAMES_PER_PIECE: u64 = 512;

/// A registration, as userspace asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The frames.
    pub frames: Frames,
    /// The alias by which the kernel accesses them.
    pub alias: Alias,
}

impl Request {
    /// Checks what userspace wrote. `None` if it can't be memory, or does not consist of whole
    /// pieces.
    pub const fn new(first: u64, end: u64) -> Option<Self> {
        let alias = if first & SHARED != 0 {
            Alias::Shared
        } else {
            Alias::Private
        };
        let first = first & !SHARED;
        if first >= end || end > END_PAGE || (first | end) % FRAMES_PER_PIECE != 0 {
            return None;
        }
        let frames = Frames { first, end };
        Some(Self { frames, alias })
    }
}

impl Frames {
    /// The frames of some memory.
    pub const fn of(memory: LowerRange) -> Self {
        let (first, end) = (memory.start_gpa() >> 12, memory.end_gpa() >> 12);
        Self { first, end }
    }

    /// Returns true if the frame is in the range.
    pub const fn contains(self, frame: u64) -> bool {
        self.first <= frame && frame < self.end
    }

    /// Returns true if the ranges have a frame in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first < other.end && other.first < self.end
    }
}

/// Returns the first part of `wanted` that is in none of `ranges`, which may be in any order.
pub fn first_missing<'a>(
    wanted: Frames,
    ranges: impl Iterator<Item = &'a Frames> + Clone,
) -> Option<Frames> {
    let mut first = wanted.first;
    // Each round skips at least one range, and none is skipped twice.
    while let Some(range) = ranges.clone().find(|range| range.contains(first)) {
        first = range.end;
    }
    if first >= wanted.end {
        return None;
    }
    let next = ranges.map(|range| range.first).filter(|at| *at > first);
    let end = next.fold(wanted.end, u64::min);
    Some(Frames { first, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn frames(first: u64, end: u64) -> Frames {
        Frames { first, end }
    }

    #[test]
    fn requests_are_whole_pieces_of_memory() {
        let ok = frames(0x400, 0x800);
        let request = |alias| Some(Request { frames: ok, alias });
        assert_eq!(Request::new(0x400, 0x800), request(Alias::Private));
        let shared = Request::new(SHARED | 0x400, 0x800);
        assert_eq!(shared, request(Alias::Shared));
        assert!(Request::new(0, END_PAGE).is_some());
        for (first, end) in [
            (0x400, 0x400),
            (0x800, 0x400),
            (0x401, 0x800),
            (0x400, 0x801),
            (0, END_PAGE + 0x200),
            (END_PAGE, END_PAGE + 0x200),
            (0x400, SHARED | 0x800),
            (u64::MAX, 0),
            (0, u64::MAX),
            (1 << 52, 1 << 53),
        ] {
            assert_eq!(Request::new(first, end), None, "{first:#x} {end:#x}");
        }
    }

    #[test]
    fn ranges_overlap_or_not() {
        let middle = frames(10, 20);
        for other in [(9, 11), (19, 21), (12, 13), (10, 20), (0, 30)] {
            let other = frames(other.0, other.1);
            assert!(middle.overlaps(other) && other.overlaps(middle));
        }
        for other in [(0, 10), (20, 30)] {
            let other = frames(other.0, other.1);
            assert!(!middle.overlaps(other) && !other.overlaps(middle));
        }
    }

    /// Adds missing parts until none is left.
    fn add(known: &mut Vec<Frames>, wanted: Frames) -> Vec<Frames> {
        let mut added = Vec::new();
        while let Some(part) = first_missing(wanted, known.iter()) {
            known.push(part);
            added.push(part);
        }
        added
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let mut known = Vec::new();
        assert_eq!(add(&mut known, frames(10, 20)), [frames(10, 20)]);
        assert_eq!(add(&mut known, frames(10, 20)), []);
        assert_eq!(add(&mut known, frames(12, 15)), []);
        assert_eq!(add(&mut known, frames(15, 25)), [frames(20, 25)]);
        assert_eq!(add(&mut known, frames(30, 40)), [frames(30, 40)]);
        let rest = [frames(5, 10), frames(25, 30), frames(40, 45)];
        assert_eq!(add(&mut known, frames(5, 45)), rest);
        assert_eq!(add(&mut known, frames(5, 45)), []);
        assert_eq!(add(&mut known, frames(45, 46)), [frames(45, 46)]);
    }
}
