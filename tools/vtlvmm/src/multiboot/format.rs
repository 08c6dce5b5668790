// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The file: its Multiboot header, and what of it goes where, by that header or as an ELF file.

use core::ops::Range as Bytes;

use crate::memory::Range;

/// The header is in so many bytes from the beginning on.
pub(super) const SEARCHED: u64 = 8192;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    at: usize,
    flags: u32,
}

/// What is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The parts, in the order of the file.
    pub(super) segments: Vec<Segment>,
    /// First instruction, a physical address.
    pub(super) entry: u64,
}

/// Bytes of the file and where they go; there may be more memory than bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) contents: Bytes<usize>,
    pub(super) memory: Range,
}

const MAGIC: u32 = 0x1bad_b002;
/// The header says where the file goes.
const HAS_ADDRESSES: u32 = 1 << 16;
/// What a loader must not overlook: pages for modules, memory. Of these a video mode is refused.
const KNOWN: u32 = 0x0003;
const MANDATORY: u32 = 0xffff;

/// Finds the header.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let words = bytes
        .chunks_exact(4)
        .map(|word| u32_at(word, 0).unwrap_or(0));
    let words: Vec<u32> = words.collect();
    let is_header = |at: &usize| {
        let sum = words[*at]
            .wrapping_add(words[at + 1])
            .wrapping_add(words[at + 2]);
        words[*at] == MAGIC && sum == 0
    };
    let at = (0..words.len().saturating_sub(2)).find(is_header)?;
    Some(Header {
        at: at * 4,
        flags: words[at + 1],
    })
}

/// What goes where, or why nothing can.
pub(super) fn program(header: &Header, bytes: &[u8]) -> Result<Program, String> {
    if header.flags & MANDATORY & !KNOWN != 0 {
        return Err(format!(
            "wants what is not served, by flags {:#x} of its Multiboot header (expected at most {KNOWN:#x})",
            header.flags & MANDATORY
        ));
    }
    let (segments, entry) = if header.flags & HAS_ADDRESSES != 0 {
        by_addresses(header, bytes)
    } else {
        elf(bytes)
    }
    .ok_or(
        "has a Multiboot header, but is neither an ELF file for x86 nor of one piece with it: it \
            is damaged or truncated",
    )?;
    if segments.is_empty() {
        return Err("has nothing to be loaded".to_owned());
    }
    Ok(Program { segments, entry })
}

/// From the header on: header, load, load end, BSS end, entry address.
fn by_addresses(header: &Header, bytes: &[u8]) -> Option<(Vec<Segment>, u64)> {
    let field = |number: usize| u32_at(bytes, header.at + 12 + 4 * number);
    let [header_at, load, load_end, bss_end, entry] =
        [field(0)?, field(1)?, field(2)?, field(3)?, field(4)?];
    // CAST: widening.
    let first = header
        .at
        .checked_sub(header_at.checked_sub(load)? as usize)?;
    let last = match load_end {
        0 => bytes.len(),
        end => first.checked_add(end.checked_sub(load)? as usize)?,
    };
    let contents = first..last;
    let len = bytes.get(contents.clone())?.len() as u64;
    let start = u64::from(load);
    let end = match bss_end {
        0 => start + len,
        end => u64::from(end),
    };
    let memory = Range::new(start, end);
    (end >= start + len && len != 0).then(|| (vec![Segment { contents, memory }], u64::from(entry)))
}

/// Sizes and places of an ELF file's fields, by its class.
struct Class {
    is_64: bool,
}

impl Class {
    /// A word of this class at one of two offsets.
    fn word(&self, bytes: &[u8], in_32: usize, in_64: usize) -> Option<u64> {
        if self.is_64 {
            let bytes = bytes.get(in_64..in_64.checked_add(8)?)?;
            return Some(u64::from_le_bytes(bytes.try_into().ok()?));
        }
        u32_at(bytes, in_32).map(u64::from)
    }

    fn half(&self, bytes: &[u8], in_32: usize, in_64: usize) -> Option<usize> {
        let at = if self.is_64 { in_64 } else { in_32 };
        let bytes = bytes.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    }
}

/// The segments of an ELF file that are loaded, by their physical addresses.
fn elf(bytes: &[u8]) -> Option<(Vec<Segment>, u64)> {
    const LITTLE_ENDIAN: u8 = 1;
    const I386: usize = 3;
    const X86_64: usize = 62;
    const LOAD: u32 = 1;
    if bytes.get(..4)? != b"\x7fELF" || *bytes.get(5)? != LITTLE_ENDIAN {
        return None;
    }
    let class = Class {
        is_64: *bytes.get(4)? == 2,
    };
    if !matches!(class.half(bytes, 18, 18)?, I386 | X86_64) {
        return None;
    }
    let entry = class.word(bytes, 24, 24)?;
    let table = usize::try_from(class.word(bytes, 28, 32)?).ok()?;
    let size = class.half(bytes, 42, 54)?;
    let count = class.half(bytes, 44, 56)?;
    let mut segments = Vec::new();
    let mut physical_entry = entry;
    for number in 0..count {
        let header = bytes.get(table.checked_add(number * size)?..)?;
        let file_len = class.word(header, 16, 32)?;
        let memory_len = class.word(header, 20, 40)?;
        if u32_at(header, 0)? != LOAD || memory_len == 0 {
            continue;
        }
        let offset = usize::try_from(class.word(header, 4, 8)?).ok()?;
        let linear = class.word(header, 8, 16)?;
        let start = class.word(header, 12, 24)?;
        let contents = offset..offset.checked_add(usize::try_from(file_len).ok()?)?;
        bytes.get(contents.clone())?;
        let memory = Range::new(start, start.checked_add(memory_len)?);
        if memory_len < file_len {
            return None;
        }
        // The entry is a linear address, and paging is off there.
        if (linear..linear.checked_add(memory_len)?).contains(&entry) {
            physical_entry = start + (entry - linear);
        }
        segments.push(Segment { contents, memory });
    }
    Some((segments, physical_entry))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
