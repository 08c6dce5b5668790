// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The symbols that a Linux kernel carries in its constants for `/proc/kallsyms`, in the form that it has
//! since 7.0: number, compressed names, markers, tokens, index of the tokens, and addresses relative to
//! where they are stored. The tables have no names in a stripped file: the tokens are found by what they
//! look like, and the others from there.

use super::elf::{File, Section};

/// Symbols of the text, and where others are.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Offset in the text, and where its name begins in `names`. Sorted.
    text: Vec<(u32, u32)>,
    names: String,
}

/// A symbol, as it is read.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'a> {
    /// Address for which it is linked.
    pub address: u64,
    /// Its name.
    pub name: &'a str,
}

impl Symbols {
    /// Notes one of the text.
    pub(super) fn add(&mut self, offset: u32, name: &str) {
        // CAST: some megabytes.
        self.text.push((offset, self.names.len() as u32));
        self.names.push_str(name);
        self.names.push('\n');
    }

    /// After the last one.
    pub(super) fn sort(&mut self) {
        self.text.sort_by_key(|(offset, _)| *offset);
    }

    /// Returns true if something begins at this offset of the text.
    pub fn begins_at(&self, offset: u32) -> bool {
        self.text
            .binary_search_by_key(&offset, |(begin, _)| *begin)
            .is_ok()
    }

    /// The symbol before this offset of the text, and the distance.
    pub fn name_at(&self, offset: u32) -> Option<String> {
        let after = self.text.partition_point(|(begin, _)| *begin <= offset);
        let (begin, name_at) = self.text.get(after.checked_sub(1)?)?;
        let rest = self.names.get(usize::try_from(*name_at).ok()?..)?;
        let name = rest.split('\n').next()?;
        Some(match offset - begin {
            0 => name.to_owned(),
            distance => format!("{name}+{distance:#x}"),
        })
    }

    /// The offset in the text of a symbol.
    pub fn offset_of(&self, name: &str) -> Option<u32> {
        let found = self.text.iter().find(|(_, name_at)| {
            let rest = usize::try_from(*name_at)
                .ok()
                .and_then(|at| self.names.get(at..));
            rest.and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with('\n'))
        });
        found.map(|(offset, _)| *offset)
    }
}

const TOKENS: usize = 256;
/// Symbols between two markers.
const GROUP: u64 = 256;

/// The tables, found in a section.
#[derive(Debug)]
pub struct Tables<'a> {
    section: Section<'a>,
    tokens: Vec<&'a [u8]>,
    count: u64,
    names_at: u64,
    addresses_at: u64,
}

impl<'a> Tables<'a> {
    /// Looks for them in the kernel's constants.
    pub fn find(section: Section<'a>) -> Option<Self> {
        let bytes = section.bytes;
        let digits: Vec<u8> = (b'0'..=b'9').flat_map(|digit| [digit, 0]).collect();
        let candidates = bytes
            .windows(digits.len())
            .enumerate()
            .filter(|(_, window)| *window == digits)
            .map(|(at, _)| at);
        candidates
            .filter_map(|at| tokens(bytes, at))
            .find_map(|(start, tokens, index_end)| {
                let (count, names_at) = names(File(bytes), start)?;
                Some(Self {
                    section,
                    tokens,
                    count,
                    names_at,
                    addresses_at: index_end,
                })
            })
    }

    /// Calls `each` for every symbol. `None` if the tables are damaged.
    pub fn each(&self, mut each: impl FnMut(Symbol<'_>)) -> Option<()> {
        let file = File(self.section.bytes);
        let mut at = self.names_at;
        let mut name = Vec::new();
        for number in 0..self.count {
            let (start, len) = entry(file, at)?;
            at = start + len;
            name.clear();
            for token in file.bytes(start, len)? {
                name.extend_from_slice(self.tokens.get(usize::from(*token))?);
            }
            let stored_at = self.addresses_at + 4 * number;
            let distance = i64::from(file.i32(stored_at)?);
            let address = self.section.address.wrapping_add(stored_at);
            // The first letter is the kind of the symbol.
            let Some(text) = name.get(1..).and_then(|it| core::str::from_utf8(it).ok()) else {
                continue;
            };
            each(Symbol {
                address: address.wrapping_add_signed(distance),
                name: text,
            });
        }
        Some(())
    }
}

/// Where the bytes of a compressed name are: its length is before them, in one byte or two.
fn entry(file: File<'_>, at: u64) -> Option<(u64, u64)> {
    let first = u64::from(*file.bytes(at, 1)?.first()?);
    if first & 0x80 == 0 {
        return Some((at + 1, first));
    }
    let second = u64::from(*file.bytes(at + 1, 1)?.first()?);
    Some((at + 2, (first & 0x7f) | (second << 7)))
}

/// The tokens, of which those for the digits are at `digits_at`: start, tokens, and the end of the index
/// that follows. The index says whether these are the tokens.
fn tokens(bytes: &[u8], digits_at: usize) -> Option<(u64, Vec<&[u8]>, u64)> {
    const FARTHEST: usize = 4096;
    let before = usize::from(b'0');
    let first = digits_at.saturating_sub(FARTHEST);
    (first..=digits_at)
        .rev()
        .filter(|at| at % 4 == 0)
        .find_map(|start| {
            let zeros = bytes.get(start..digits_at)?.iter().filter(|it| **it == 0);
            if zeros.count() != before {
                return None;
            }
            let mut at = start;
            let (mut tokens, mut index) = (Vec::new(), Vec::new());
            for _ in 0..TOKENS {
                let rest = bytes.get(at..)?;
                let len = rest.iter().position(|byte| *byte == 0)?;
                tokens.push(rest.get(..len)?);
                index.extend_from_slice(&u16::try_from(at - start).ok()?.to_le_bytes());
                at += len + 1;
            }
            let index_at = at.next_multiple_of(4);
            let end = index_at + index.len();
            // CAST: widening.
            (bytes.get(index_at..end)? == index).then_some((start as u64, tokens, end as u64))
        })
}

/// How many symbols there are, and where their names begin. The markers, which end at `markers_end`, say
/// where each 256th name is, from 0 on.
fn names(file: File<'_>, markers_end: u64) -> Option<(u64, u64)> {
    const LONGEST_GROUP: u64 = GROUP * 512;
    let mut markers_at = markers_end.checked_sub(4)?;
    let last = u64::from(file.u32(markers_at)?);
    while file.u32(markers_at)? != 0 {
        markers_at = markers_at.checked_sub(4)?;
    }
    let groups = (markers_end - markers_at) / 4;
    let is_count = |at: u64| {
        let count = u64::from(file.u32(at)?);
        if count.div_ceil(GROUP) != groups {
            return None;
        }
        let mut end = at + 4 + last;
        for _ in 0..count - GROUP * (groups - 1) {
            let (start, len) = entry(file, end)?;
            end = start + len;
        }
        (end <= markers_at && markers_at - end < 4).then_some((count, at + 4))
    };
    let farthest = markers_at.checked_sub(last + 4)?;
    let nearest = farthest.saturating_sub(LONGEST_GROUP);
    (nearest..=farthest)
        .rev()
        .filter(|at| at % 4 == 0)
        .find_map(is_count)
}
