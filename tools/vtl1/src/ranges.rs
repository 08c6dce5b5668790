// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Ranges of guest-physical addresses: VTL0's memory, and what a request names.

/// A range; its end, exclusive, is an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    base: u64,
    len: u64,
}

impl Range {
    /// Returns `None` if the end does not fit 64 bits.
    pub const fn new(base: u64, len: u64) -> Option<Self> {
        match base.checked_add(len) {
            Some(_) => Some(Self { base, len }),
            None => None,
        }
    }

    /// First address.
    pub const fn base(self) -> u64 {
        self.base
    }

    /// Length in bytes.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Returns true if it has no byte.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// First address after it.
    pub const fn end(self) -> u64 {
        self.base + self.len
    }

    /// Returns true if every byte of `inner` is in it.
    pub const fn contains(self, inner: Self) -> bool {
        self.base <= inner.base && inner.end() <= self.end()
    }

    /// Returns true if a byte is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.base < other.end() && other.base < self.end()
    }
}

/// Most ranges of VTL0's memory.
pub const MOST_RANGES: usize = 16;

/// VTL0's memory: ranges without overlap, none of which is VTL1's.
#[derive(Clone, Copy, Debug)]
pub struct Vtl0Memory {
    ranges: [Range; MOST_RANGES],
}

impl Vtl0Memory {
    /// Returns `None` if a range overlaps another one or `vtl1`, or is not whole pages. Empty
    /// ranges are ignored.
    pub fn new(ranges: [Range; MOST_RANGES], vtl1: Range) -> Option<Self> {
        for (number, range) in ranges.iter().enumerate() {
            let overlaps = |other: &Range| range.overlaps(*other);
            if (range.base | range.len) % PAGE != 0
                || range.overlaps(vtl1)
                || ranges[..number].iter().any(overlaps)
            {
                return None;
            }
        }
        Some(Self { ranges })
    }

    /// Returns true if `range` is entirely in one of its ranges. No byte is nowhere, so an empty
    /// range is.
    pub fn contains(&self, range: Range) -> bool {
        range.is_empty()
            || self
                .ranges
                .iter()
                .any(|whole| !whole.is_empty() && whole.contains(range))
    }

    /// Its ranges that are not empty.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges
            .iter()
            .copied()
            .filter(|range| !range.is_empty())
    }
}

/// Bytes of a page.
pub const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn range(base: u64, len: u64) -> Range {
        Range::new(base, len).unwrap_or_default()
    }

    fn list(given: &[Range]) -> [Range; MOST_RANGES] {
        core::array::from_fn(|at| given.get(at).copied().unwrap_or_default())
    }

    #[test]
    fn overlap_and_containment_agree_with_the_bytes() {
        for (a, a_len, b, b_len) in quadruples() {
            let bytes = |base, len| (base..base + len).collect::<std::vec::Vec<u64>>();
            let (left, right) = (bytes(a, a_len), bytes(b, b_len));
            let overlaps = left.iter().any(|byte| right.contains(byte));
            assert_eq!(range(a, a_len).overlaps(range(b, b_len)), overlaps);
            if b_len > 0 {
                let contains = right.iter().all(|byte| left.contains(byte));
                assert_eq!(range(a, a_len).contains(range(b, b_len)), contains);
            }
        }
    }

    fn quadruples() -> impl Iterator<Item = (u64, u64, u64, u64)> {
        (0..1296_u64).map(|n| (n % 6, n / 6 % 6, n / 36 % 6, n / 216))
    }

    #[test]
    fn a_request_across_two_ranges_or_beyond_one_is_outside() {
        let memory = list(&[
            range(0, 0x2000),
            range(0x2000, 0x1000),
            range(0x8000, 0x1000),
        ]);
        let Some(memory) = Vtl0Memory::new(memory, range(0x10_0000, 0x1000)) else {
            panic!("no overlap");
        };
        for (base, len, is_inside) in [
            (0, 0x2000, true),
            (0x1fff, 1, true),
            (0x1fff, 2, false),
            (0x8000, 0x1000, true),
            (0x8000, 0x1001, false),
            (0x7fff, 2, false),
            (0x10_0000, 8, false),
            (u64::MAX, 0, true),
            (1 << 63, 1, false),
        ] {
            assert_eq!(
                memory.contains(range(base, len)),
                is_inside,
                "{base:#x} {len:#x}"
            );
        }
        assert_eq!(memory.ranges().count(), 3);
    }

    #[test]
    fn memory_that_is_also_vtl1s_or_given_twice_is_refused() {
        let vtl1 = range(0x4000, 0x2000);
        for given in [
            &[range(0, 0x5000)][..],
            &[range(0x5000, 0x1000)],
            &[range(0, 0x2000), range(0x1000, 0x1000)],
            &[range(0x10, 0x1000)],
            &[range(0, 0x10)],
        ] {
            assert!(Vtl0Memory::new(list(given), vtl1).is_none(), "{given:x?}");
        }
        assert!(Vtl0Memory::new(list(&[range(0, 0x4000), range(0x6000, 0x1000)]), vtl1).is_some());
    }
}
