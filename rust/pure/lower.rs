// SPDX-License-Identifier: GPL-2.0
//! Which guest-physical memory belongs to the lower VTLs: an explicit list, never a guess.
//!
//! [`LowerMemory`] is that list, [`LowerRange`] the proof that an address was found in it: code
//! that acts on memory of a lower VTL takes a `LowerRange`, and only the list makes one.

/// Limit for the length of the list; a machine has a handful of ranges.
pub const MAX_RANGES: usize = 32;

const PAGE_BYTES: u64 = 4096;

/// Memory of a lower VTL: whole pages within one range of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowerRange {
    start_gpa: u64,
    /// Exclusive.
    end_gpa: u64,
}

impl LowerRange {
    const EMPTY: Self = Self {
        start_gpa: 0,
        end_gpa: 0,
    };

    /// Address of its first byte.
    pub const fn start_gpa(self) -> u64 {
        self.start_gpa
    }

    /// Address after its last byte.
    pub const fn end_gpa(self) -> u64 {
        self.end_gpa
    }

    /// Returns true if an address is in it.
    pub const fn holds(self, gpa: u64) -> bool {
        self.start_gpa <= gpa && gpa < self.end_gpa
    }

    /// The rest of the range from the page that contains `gpa`; `None` if that page is outside.
    pub const fn rest(self, gpa: u64) -> Option<Self> {
        let start_gpa = gpa & !(PAGE_BYTES - 1);
        if start_gpa < self.start_gpa || self.end_gpa <= start_gpa {
            return None;
        }
        Some(Self { start_gpa, ..self })
    }

    /// Its size, a multiple of 4096.
    pub const fn len_bytes(self) -> u64 {
        self.end_gpa - self.start_gpa
    }
}

/// Why a list is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It contains something other than numbers of 64 bits, or a start without a length.
    NotNumbers,
    /// It has more than [`MAX_RANGES`] ranges.
    TooMany,
    /// A range is empty.
    Empty,
    /// A start or a length is not a multiple of 4096.
    NotPages,
    /// A range reaches the SHARED bit, or is beyond the processor's physical addresses.
    TooHigh,
    /// A range overlaps another one of the list.
    Overlaps,
}

impl Reason {
    /// Text for the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotNumbers => "not START,LENGTH[,START,LENGTH...]",
            Self::TooMany => "more than 32 ranges",
            Self::Empty => "an empty range",
            Self::NotPages => "not whole pages",
            Self::TooHigh => "beyond the private memory of this TD",
            Self::Overlaps => "overlaps another range of the list",
        }
    }
}

/// A refused list, with its first bad range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// Start of the range as given; 0 if it is not a number.
    pub start_gpa: u64,
    /// Length of the range; 0 if it is not a number.
    pub len_bytes: u64,
}

/// The memory of the lower VTLs.
///
/// # Invariants
///
/// The first `count` ranges are not empty, in ascending order, and have gaps between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LowerMemory {
    ranges: [LowerRange; MAX_RANGES],
    count: usize,
}

impl LowerMemory {
    /// The empty list.
    pub const EMPTY: Self = Self {
        ranges: [LowerRange::EMPTY; MAX_RANGES],
        count: 0,
    };

    /// Parses `START,LENGTH[,START,LENGTH...]`, in any order. Numbers are decimal, or hexadecimal
    /// after `0x`, with an optional suffix K, M or G. No range may end above `limit`. An empty text
    /// gives an empty list.
    ///
    /// # Errors
    ///
    /// The first bad range, and what is wrong with it.
    pub fn parse(text: &[u8], limit: u64) -> Result<Self, Refused> {
        let mut list = Self::EMPTY;
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(list);
        }
        let mut words = text.split(|&byte| byte == b',');
        while let Some(start) = words.next() {
            let start = number(start);
            let len_bytes = words.next().and_then(number);
            let (Some(start_gpa), Some(len_bytes)) = (start, len_bytes) else {
                return Err(Refused {
                    reason: Reason::NotNumbers,
                    start_gpa: start.unwrap_or(0),
                    len_bytes: 0,
                });
            };
            list.add(start_gpa, len_bytes, limit)
                .map_err(|reason| Refused {
                    reason,
                    start_gpa,
                    len_bytes,
                })?;
        }
        list.join_neighbours();
        Ok(list)
    }

    /// Inserts a range so that the list stays sorted.
    fn add(&mut self, start_gpa: u64, len_bytes: u64, limit: u64) -> Result<(), Reason> {
        if len_bytes == 0 {
            return Err(Reason::Empty);
        }
        if (start_gpa | len_bytes) % PAGE_BYTES != 0 {
            return Err(Reason::NotPages);
        }
        let end_gpa = start_gpa.checked_add(len_bytes).ok_or(Reason::TooHigh)?;
        if end_gpa > limit {
            return Err(Reason::TooHigh);
        }
        let known = self.ranges();
        let place = known.partition_point(|range| range.end_gpa <= start_gpa);
        if known
            .get(place)
            .is_some_and(|next| next.start_gpa < end_gpa)
        {
            return Err(Reason::Overlaps);
        }
        let count = self.count;
        let Some(tail) = self.ranges.get_mut(place..=count) else {
            return Err(Reason::TooMany);
        };
        tail.rotate_right(1);
        if let Some(free) = tail.first_mut() {
            *free = LowerRange { start_gpa, end_gpa };
        }
        self.count = count + 1;
        Ok(())
    }

    /// Merges ranges that touch, so that a piece may extend across their border.
    fn join_neighbours(&mut self) {
        let mut joined = Self::EMPTY;
        for range in self.ranges() {
            let last = joined.count.checked_sub(1);
            match last.and_then(|last| joined.ranges.get_mut(last)) {
                Some(last) if last.end_gpa == range.start_gpa => last.end_gpa = range.end_gpa,
                _ => {
                    if let Some(free) = joined.ranges.get_mut(joined.count) {
                        *free = *range;
                        joined.count += 1;
                    }
                }
            }
        }
        *self = joined;
    }

    /// All ranges, in ascending order.
    pub fn ranges(&self) -> &[LowerRange] {
        self.ranges.get(..self.count).unwrap_or(&[])
    }

    /// Sum of their lengths.
    pub fn len_bytes(&self) -> u64 {
        // The ranges are disjoint, so the sum can't overflow.
        let sizes = self.ranges().iter().map(|range| range.len_bytes());
        sizes.fold(0, u64::wrapping_add)
    }

    /// The pages that contain the given bytes, if all of them are memory of lower VTLs.
    pub fn range(&self, start_gpa: u64, len_bytes: u64) -> Option<LowerRange> {
        if len_bytes == 0 {
            return None;
        }
        let end = start_gpa.checked_add(len_bytes)?;
        let start_gpa = start_gpa & !(PAGE_BYTES - 1);
        let end_gpa = end.checked_next_multiple_of(PAGE_BYTES)?;
        let place = self
            .ranges()
            .partition_point(|range| range.end_gpa <= start_gpa);
        let range = self.ranges().get(place)?;
        (range.start_gpa <= start_gpa && end_gpa <= range.end_gpa)
            .then_some(LowerRange { start_gpa, end_gpa })
    }
}

/// Parses `123` or `0x7b`, with an optional suffix K, M or G.
fn number(text: &[u8]) -> Option<u64> {
    let (digits, unit) = match text.split_last()? {
        (b'K' | b'k', digits) => (digits, 1 << 10),
        (b'M' | b'm', digits) => (digits, 1 << 20),
        (b'G' | b'g', digits) => (digits, 1 << 30),
        _ => (text, 1),
    };
    let (digits, radix) = match digits {
        [b'0', b'x' | b'X', hex @ ..] => (hex, 16),
        _ => (digits, 10),
    };
    // `from_str_radix` would accept a sign.
    if !digits.first()?.is_ascii_alphanumeric() {
        return None;
    }
    let digits = core::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, radix).ok()?.checked_mul(unit)
}

/// Value of the last `key=value` word of a kernel command line. A quoted value may contain spaces.
pub fn of_command_line<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut is_quoted = false;
    let words = line.split(move |&byte| {
        is_quoted ^= byte == b'"';
        byte.is_ascii_whitespace() && !is_quoted
    });
    words
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix(b"="))
        .last()
}

#[cfg(test)]
#[path = "lower_tests.rs"]
mod tests;
