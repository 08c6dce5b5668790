// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Pages that VTL0 may not write any more.

use crate::hypercall::{self, MOST_PAGES, ProtectInput};
use crate::memory::Paravisor;
use crate::ranges::{PAGE, Range, Vtl0Memory};
use crate::request::Status;

use super::Reply;

/// Bytes of an entry of the list: address and number of pages, both u64.
pub const PROTECT_ENTRY: usize = 16;
/// Most entries of one request.
pub const MOST_ENTRIES: usize = 16;
/// Most separate ranges that can be protected; adjacent ones count as one.
pub const MOST_PROTECTED: usize = 64;

/// Returns true if a list can have this many bytes.
pub const fn is_protect_len(len: usize) -> bool {
    len > 0 && len % PROTECT_ENTRY == 0 && len / PROTECT_ENTRY <= MOST_ENTRIES
}

/// The ranges of one request. The rest is empty.
pub(super) type List = [Range; MOST_ENTRIES];

/// Ranges that neither overlap nor touch. The rest is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protected {
    ranges: [Range; MOST_PROTECTED],
}

impl Protected {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            ranges: [Range::default(); MOST_PROTECTED],
        }
    }

    /// Returns true if a byte of `range` is protected.
    pub(super) fn overlaps(&self, range: Range) -> bool {
        self.ranges.iter().any(|whole| whole.overlaps(range))
    }

    /// Decodes and checks a list; returns its ranges, and what is protected with them.
    pub(super) fn plan(&self, list: &[u8], memory: &Vtl0Memory) -> Result<(List, Self), Status> {
        let mut ranges = List::default();
        let mut protected = *self;
        for (number, entry) in list.chunks_exact(PROTECT_ENTRY).enumerate() {
            let word = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&entry[at..at + 8]);
                u64::from_le_bytes(bytes)
            };
            let (base, pages) = (word(0), word(8));
            if base % PAGE != 0 || pages == 0 {
                return Err(Status::Malformed);
            }
            let range = pages
                .checked_mul(PAGE)
                .and_then(|len| Range::new(base, len))
                .filter(|&range| memory.contains(range))
                .ok_or(Status::BadRange)?;
            if ranges.iter().any(|other| other.overlaps(range)) {
                return Err(Status::Overlap);
            }
            protected.add(range).ok_or(Status::NoRoom)?;
            *ranges.get_mut(number).ok_or(Status::Malformed)? = range;
        }
        Ok((ranges, protected))
    }

    /// Adds a range, merged with those that it overlaps or touches; `None` without a free place.
    fn add(&mut self, range: Range) -> Option<()> {
        let (mut base, mut end) = (range.base(), range.end());
        for other in &mut self.ranges {
            let touches = !other.is_empty() && other.base() <= end && base <= other.end();
            if touches {
                base = base.min(other.base());
                end = end.max(other.end());
                *other = Range::default();
            }
        }
        let free = self.ranges.iter_mut().find(|place| place.is_empty())?;
        *free = Range::new(base, end - base)?;
        Some(())
    }
}

/// Has VTL2 take the rights, by as many hypercalls as it needs.
pub(super) fn carry_out(ranges: &List, vtl2: &mut impl Paravisor) -> Result<(), Reply> {
    let mut done = 0;
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        let mut gpa = range.base();
        while gpa < range.end() {
            // CAST: at most MOST_PAGES.
            let pages = ((range.end() - gpa) / PAGE).min(MOST_PAGES as u64) as usize;
            let completion = vtl2.modify_protection(&ProtectInput { gpa, pages });
            let is_complete =
                completion.status == hypercall::status::SUCCESS && completion.pages == pages;
            // CAST: widening.
            done += completion.pages.min(pages) as u64;
            if !is_complete {
                return Err(Reply {
                    status: Status::Refused,
                    value: done,
                });
            }
            gpa += pages as u64 * PAGE;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(base: u64, len: u64) -> Range {
        Range::new(base, len).unwrap_or_default()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut protected = Protected::new();
        for (base, len) in [(0x1000, 0x1000), (0x5000, 0x1000), (0x2000, 0x3000)] {
            assert_eq!(protected.add(range(base, len)), Some(()));
        }
        let used = |protected: &Protected| {
            let ranges = protected.ranges.iter();
            ranges.filter(|range| !range.is_empty()).count()
        };
        assert_eq!(used(&protected), 1);
        assert!(protected.overlaps(range(0x1000, 1)) && protected.overlaps(range(0x5fff, 1)));
        assert!(!protected.overlaps(range(0xfff, 1)) && !protected.overlaps(range(0x6000, 1)));
    }

    #[test]
    fn the_list_ends_and_a_range_that_is_in_it_already_does_not_count() {
        let mut protected = Protected::new();
        for number in 0..MOST_PROTECTED as u64 {
            assert_eq!(protected.add(range(0x2000 * number, 0x1000)), Some(()));
        }
        let full = protected;
        assert_eq!(protected.add(range(0x10_0000, 0x1000)), None);
        assert_eq!(protected.add(range(0x2000, 0x1000)), Some(()));
        for number in 0..MOST_PROTECTED as u64 {
            assert!(protected.overlaps(range(0x2000 * number, 1)));
            assert!(full.overlaps(range(0x2000 * number, 1)));
        }
    }
}
