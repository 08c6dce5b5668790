// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The memory map: what firmware reported, with our own parts cut out of it.
//!
//! [`super::layout`] decides what to cut out; `loader.rs` turns the result into L1's e820 table.

/// A range of physical addresses, end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Range {
    /// The range `start..end`; empty if `end` is not above `start`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end: if end < start { start } else { end },
        }
    }

    /// Length.
    pub const fn len_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Returns true if it contains nothing.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Returns true if `len_bytes` bytes at `address` are inside.
    pub const fn contains(&self, address: u64, len_bytes: u64) -> bool {
        address >= self.start && address <= self.end && len_bytes <= self.end - address
    }

    /// Returns true if the two share a byte.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Kind of memory, numbered as in e820.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ram = 1,
    Reserved = 2,
    Acpi = 3,
    Nvs = 4,
    /// Not usable as memory by L1.
    Unusable = 5,
}

impl Kind {
    /// From an e820 number; unknown kinds are not to be used.
    pub const fn from_e820(number: u32) -> Self {
        match number {
            1 => Self::Ram,
            2 => Self::Reserved,
            3 => Self::Acpi,
            4 => Self::Nvs,
            _ => Self::Unusable,
        }
    }
}

/// At most this many ranges.
pub const CAPACITY: usize = 32;

/// Ranges in ascending order without overlap.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    entries: [(Range, Kind); CAPACITY],
    len: usize,
}

impl MemoryMap {
    /// A map without ranges.
    pub const fn new() -> Self {
        Self {
            entries: [(Range::new(0, 0), Kind::Reserved); CAPACITY],
            len: 0,
        }
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = (Range, Kind)> + '_ {
        self.entries.iter().take(self.len).copied()
    }

    /// Adds a range, cutting it out of whatever it covers. Panics when the map is full, which
    /// only firmware with an absurd map could cause.
    pub fn add(&mut self, range: Range, kind: Kind) {
        if range.is_empty() {
            return;
        }
        let mut result = Self::new();
        for (old, old_kind) in self.iter() {
            result.push(Range::new(old.start, old.end.min(range.start)), old_kind);
            result.push(Range::new(old.start.max(range.end), old.end), old_kind);
        }
        result.push(range, kind);
        let used = &mut result.entries[..result.len];
        used.sort_unstable_by_key(|(range, _)| range.start);
        *self = result;
        self.merge();
    }

    /// Removes a range: the map then says nothing about it.
    pub fn remove(&mut self, range: Range) {
        let mut result = Self::new();
        for (old, kind) in self.iter() {
            if range.is_empty() || !old.overlaps(&range) {
                result.push(old, kind);
                continue;
            }
            result.push(Range::new(old.start, range.start), kind);
            result.push(Range::new(range.end, old.end), kind);
        }
        *self = result;
    }

    fn push(&mut self, range: Range, kind: Kind) {
        if !range.is_empty() {
            self.entries[self.len] = (range, kind);
            self.len += 1;
        }
    }

    fn merge(&mut self) {
        let mut result = Self::new();
        for (range, kind) in self.iter() {
            match result.entries[..result.len].last_mut() {
                Some((last, last_kind)) if *last_kind == kind && last.end == range.start => {
                    last.end = range.end;
                }
                _ => result.push(range, kind),
            }
        }
        *self = result;
    }

    /// Kind of the byte at an address; `None` if the map does not describe it.
    pub fn kind_at(&self, address: u64) -> Option<Kind> {
        self.iter()
            .find(|(range, _)| range.contains(address, 1))
            .map(|(_, kind)| kind)
    }

    /// Returns true if the whole range has one kind.
    pub fn is_all(&self, wanted: Range, kind: Kind) -> bool {
        self.iter()
            .any(|(range, k)| k == kind && range.contains(wanted.start, wanted.len_bytes()))
    }

    /// End of the highest RAM range below a limit.
    pub fn ram_end_below(&self, limit: u64) -> Option<u64> {
        let below = self
            .iter()
            .filter(|(range, k)| *k == Kind::Ram && range.end <= limit);
        below.map(|(range, _)| range.end).max()
    }

    /// The highest piece of RAM of a length that ends at `limit` or below. `align` is a power of two.
    pub fn last_fit(&self, len_bytes: u64, align: u64, limit: u64) -> Option<Range> {
        let fits = |(range, kind): (Range, Kind)| {
            let start = range.end.min(limit).checked_sub(len_bytes)? & !(align - 1);
            let found = Range::new(start, start + len_bytes);
            (kind == Kind::Ram && start >= range.start).then_some(found)
        };
        self.iter().filter_map(fits).max_by_key(|range| range.start)
    }

    /// The lowest piece of RAM of a length that starts at `from` or above. `align` is a power of two.
    pub fn first_fit(&self, len_bytes: u64, align: u64, from: u64) -> Option<Range> {
        let fits = |(range, kind): (Range, Kind)| {
            let start = range.start.max(from).checked_next_multiple_of(align)?;
            let found = Range::new(start, start.checked_add(len_bytes)?);
            (kind == Kind::Ram && found.end <= range.end).then_some(found)
        };
        self.iter().find_map(fits)
    }
}

/// The pieces, source, target and length, in which a range can be copied upwards to where it
/// overlaps itself: the last one first, none longer than the way they go.
pub fn moves(from: Range, to: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let is_over_itself = to > from.start && to < from.end;
    let piece = if is_over_itself {
        to - from.start
    } else {
        from.len_bytes().max(1)
    };
    let count = from.len_bytes().div_ceil(piece);
    (0..count).rev().map(move |number| {
        let offset = number * piece;
        let len_bytes = piece.min(from.len_bytes() - offset);
        (from.start + offset, to + offset, len_bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_splits_the_range_around_it() {
        let mut map = MemoryMap::new();
        map.add(Range::new(0, 0x10000), Kind::Ram);
        map.add(Range::new(0x4000, 0x6000), Kind::Reserved);
        let entries: Vec<_> = map.iter().collect();
        assert_eq!(
            entries,
            [
                (Range::new(0, 0x4000), Kind::Ram),
                (Range::new(0x4000, 0x6000), Kind::Reserved),
                (Range::new(0x6000, 0x10000), Kind::Ram),
            ]
        );
        assert_eq!(map.kind_at(0x5fff), Some(Kind::Reserved));
        assert_eq!(map.kind_at(0x10000), None);
        assert_eq!(map.ram_end_below(0x10000), Some(0x10000));
    }

    #[test]
    fn equal_neighbours_become_one() {
        let mut map = MemoryMap::new();
        map.add(Range::new(0x2000, 0x3000), Kind::Ram);
        map.add(Range::new(0x1000, 0x2000), Kind::Ram);
        assert!(map.is_all(Range::new(0x1000, 0x3000), Kind::Ram));
    }

    #[test]
    fn what_is_taken_out_is_named_no_more() {
        let mut map = MemoryMap::new();
        map.add(Range::new(0x1000, 0x5000), Kind::Ram);
        map.remove(Range::new(0x3000, 0x3000));
        assert_eq!(map.iter().count(), 1);
        map.remove(Range::new(0x2000, 0x3000));
        map.remove(Range::new(0x4000, 0x9000));
        let entries: Vec<_> = map.iter().map(|(range, _)| range).collect();
        assert_eq!(
            entries,
            [Range::new(0x1000, 0x2000), Range::new(0x3000, 0x4000)]
        );
    }

    #[test]
    fn a_piece_is_found_from_either_end() {
        let mut map = MemoryMap::new();
        map.add(Range::new(0x1000, 0x5000), Kind::Ram);
        map.add(Range::new(0x5000, 0x8000), Kind::Acpi);
        map.add(Range::new(0x8000, 0xb800), Kind::Ram);
        let last = |len, align, limit| map.last_fit(len, align, limit).map(|r| r.start);
        assert_eq!(last(0x1000, 0x1000, u64::MAX), Some(0xa000));
        assert_eq!(last(0x3000, 0x1000, u64::MAX), Some(0x8000));
        assert_eq!(last(0x3000, 0x1000, 0xb000), Some(0x8000));
        assert_eq!(last(0x4000, 0x1000, u64::MAX), Some(0x1000));
        assert_eq!(last(0x1000, 0x1000, 0x8800), Some(0x4000));
        assert_eq!(last(0x5000, 0x1000, u64::MAX), None);
        let first = |len, align, from| map.first_fit(len, align, from).map(|r| r.start);
        assert_eq!(first(0x1000, 0x2000, 0), Some(0x2000));
        assert_eq!(first(0x3800, 0x1000, 0x1800), Some(0x8000));
        assert_eq!(first(0x3800, 0x1000, 0x8001), None);
        assert_eq!(first(u64::MAX, 0x1000, 0x1000), None);
    }

    #[test]
    fn contains_does_not_overflow() {
        assert!(!Range::new(0x1000, 0x2000).contains(0x1800, u64::MAX));
        assert!(!Range::new(0x1000, 0x2000).contains(u64::MAX, 1));
    }

    /// Does what [`moves`] says, each piece upwards and byte by byte.
    fn moved(start: usize, end: usize, to: usize) -> Vec<u8> {
        let mut memory: Vec<u8> = (0..64).collect();
        for (source, target, len) in moves(Range::new(start as u64, end as u64), to as u64) {
            for byte in 0..len as usize {
                memory[target as usize + byte] = memory[source as usize + byte];
            }
        }
        memory
    }

    #[test]
    fn a_range_arrives_whole_wherever_it_goes() {
        for (start, end) in [(20, 37), (20, 21), (20, 20)] {
            for to in 0..(64 - (end - start)) {
                let mut expected: Vec<u8> = (0..64).collect();
                expected.copy_within(start..end, to);
                assert_eq!(moved(start, end, to), expected, "{start}..{end} to {to}");
            }
        }
    }
}
