// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The guest's memory: which addresses are RAM, and where the paravisor puts what the guest finds
//! there when it starts.

mod lent;
mod lower;
mod protected;

use vm_memory::{GuestMemory, GuestMemoryRegion};

pub(crate) use lent::{Lent, OfTd};
pub use lower::{LowerRam, Piece};
pub use protected::{Protected, Writing};

/// Memory of a guest, without a log of dirty pages.
pub trait Ram: GuestMemory<R = <Self as Ram>::Region> {
    /// A piece of it.
    type Region: GuestMemoryRegion<B = ()>;
}

impl<M: GuestMemory> Ram for M
where
    M::R: GuestMemoryRegion<B = ()>,
{
    type Region = M::R;
}

/// `start..end` (end exclusive), guest-physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Byte after the last one.
    pub end: u64,
}

impl Range {
    /// A range.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// Its bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns true if the range is empty.
    pub const fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Returns true if all of `other` is in it.
    pub const fn contains(&self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// Where things are that every guest gets: in memory that a PC has since its beginning.
pub mod place {
    use super::Range;

    /// Zero page of the boot protocol.
    pub const BOOT_PARAMETERS: u64 = 0x7000;
    /// Segment descriptors.
    pub const DESCRIPTORS: u64 = 0x8000;
    /// Page tables for the first 4 GiB.
    pub const PAGE_TABLES: u64 = 0x9000;
    /// Command line.
    pub const COMMAND_LINE: u64 = 0x2_0000;
    /// Bytes for it, with a zero at the end.
    pub const COMMAND_LINE_LEN: u64 = 0x1_0000;
    /// ACPI tables.
    pub const ACPI: Range = Range::new(0x6_0000, 0x7_0000);
    /// What has to be RAM so that all of this has a place.
    pub const LOW: Range = Range::new(0, ACPI.end);
    /// Kernels begin here or above.
    pub const HIGH: u64 = 0x10_0000;
    /// Device memory begins here.
    pub const DEVICES: u64 = 0xc000_0000;
}

/// Merges ranges that touch, so that a guest can use memory across their border as one piece; drops
/// what is at `limit` or above.
pub fn joined(ranges: &[Range], limit: u64) -> Vec<Range> {
    let mut sorted: Vec<Range> = ranges
        .iter()
        .map(|range| Range::new(range.start, range.end.min(limit)))
        .filter(|range| !range.is_empty())
        .collect();
    sorted.sort_by_key(|range| range.start);
    let mut joined: Vec<Range> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What of `all` is in none of `kept`.
pub(crate) fn without(all: &[Range], kept: &[Range]) -> Vec<Range> {
    let around = |range: &Range, kept: &Range| {
        [
            Range::new(range.start, range.end.min(kept.start)),
            Range::new(range.start.max(kept.end), range.end),
        ]
    };
    kept.iter().fold(joined(all, u64::MAX), |left, kept| {
        let rest = left.iter().flat_map(|range| around(range, kept));
        rest.filter(|rest| !rest.is_empty()).collect()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    /// RAM of this process.
    pub(crate) fn ram(ranges: &[(u64, usize)]) -> GuestMemoryMmap<()> {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|(at, len)| (GuestAddress(*at), *len))
            .collect();
        GuestMemoryMmap::from_ranges(&ranges).expect("memory of this process")
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let ranges = [
            Range::new(0x20_0000, 0x80_0000),
            Range::new(0, 0x7_0000),
            Range::new(0x10_0000, 0x20_0000),
            Range::new(0x8_0000, 0xa_0000),
        ];
        let expected = [
            Range::new(0, 0x7_0000),
            Range::new(0x8_0000, 0xa_0000),
            Range::new(0x10_0000, 0x80_0000),
        ];
        assert_eq!(joined(&ranges, u64::MAX), expected);
        assert_eq!(joined(&ranges, 0x40_0000)[2].end, 0x40_0000);
        assert_eq!(joined(&ranges, 0x8_0000), expected[..1]);
        assert_eq!(joined(&[], u64::MAX), []);
    }

    #[test]
    fn what_is_not_kept_is_the_rest_of_each_range() {
        let low = Range::new(0, 0x7_0000);
        let high = Range::new(0x10_0000, 0x2000_0000);
        let far = Range::new(0x1_0000_0000, 0x1_4000_0000);
        let all = [far, low, high];
        assert_eq!(without(&all, &[]), [low, high, far]);
        // A guest that has less than the one before, and a hole in it for VTL1.
        let kept = [
            low,
            Range::new(0x10_0000, 0x7e0_0000),
            Range::new(0x800_0000, 0x810_0000),
        ];
        let expected = [
            Range::new(0x7e0_0000, 0x800_0000),
            Range::new(0x810_0000, 0x2000_0000),
            far,
        ];
        assert_eq!(without(&all, &kept), expected);
        // What is kept may be larger, and touch.
        assert_eq!(without(&[high], &[Range::new(0, u64::MAX)]), []);
        assert_eq!(without(&[high], &[Range::new(0, high.start)]), [high]);
        assert_eq!(without(&[high], &[Range::new(high.end, far.end)]), [high]);
    }
}
