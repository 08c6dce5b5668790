// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! An ELF file as L1: linked for fixed addresses, with its entry in 64-bit mode. [System V ABI, object
//! files]

use super::{Kernel, MAX_PIECES, PAGE_BYTES, Piece};

const CLASS_64_LITTLE_ENDIAN: [u8; 2] = [2, 1];
const TYPE_EXECUTABLE: u16 = 2;
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_HEADER_BYTES: u16 = 56;
/// The command line is as long as most bzImages have it.
const CMDLINE_BYTES: u64 = 2047;
/// Addresses above need no support: QEMU's memory for a kernel ends below.
const END_PA: u64 = 1 << 32;

const TOO_MANY: &str = "the ELF file has more headers or segments than the emulator takes";
const BAD_SEGMENT: &str = "a segment of the ELF file is not inside the first 4 GiB";

/// Returns true if this is the start of an ELF file.
pub fn is_elf(first_page: &[u8; 4096]) -> bool {
    first_page.starts_with(b"\x7fELF")
}

fn get<const N: usize>(page: &[u8; 4096], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    page.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// What decides where a segment goes.
struct Segment {
    virtual_address: u64,
    pa: u64,
    piece: Piece,
}

/// Reads the headers, which are in the first page of the file.
///
/// # Errors
///
/// When the file is something else.
pub fn inspect(page: &[u8; 4096]) -> Result<Kernel, &'static str> {
    let half = |at| get(page, at).map(u16::from_le_bytes).ok_or(TOO_MANY);
    let word = |at| get(page, at).map(u64::from_le_bytes).ok_or(TOO_MANY);
    if page[4..6] != CLASS_64_LITTLE_ENDIAN
        || half(0x10)? != TYPE_EXECUTABLE
        || half(0x12)? != MACHINE_X86_64
        || half(0x36)? != SEGMENT_HEADER_BYTES
    {
        return Err("the ELF file is no program for x86-64 that is linked for fixed addresses");
    }
    let (entry, headers, count) = (word(0x18)?, word(0x20)?, half(0x38)?);
    let mut segments: [Option<Segment>; MAX_PIECES] = [const { None }; MAX_PIECES];
    let mut free = segments.iter_mut();
    for index in 0..u64::from(count) {
        let at = headers.checked_add(index * u64::from(SEGMENT_HEADER_BYTES));
        let header = at.and_then(|at| get(page, at)).ok_or(TOO_MANY)?;
        if let Some(segment) = segment(&header)? {
            *free.next().ok_or(TOO_MANY)? = Some(segment);
        }
    }
    kernel(entry, segments)
}

/// A segment that is to be loaded and has a size.
fn segment(header: &[u8; SEGMENT_HEADER_BYTES as usize]) -> Result<Option<Segment>, &'static str> {
    let word = |index: usize| {
        let bytes = header.get(8 * index..8 * index + 8);
        bytes.map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap_or_default()))
    };
    let (offset, file_bytes, memory_bytes) = (word(1), word(4), word(5));
    // CAST: the low half is the type.
    if word(0) as u32 != SEGMENT_LOAD || memory_bytes == 0 {
        return Ok(None);
    }
    let is_below = |start: u64, len| start.checked_add(len).is_some_and(|end| end <= END_PA);
    let fits = is_below(word(3), memory_bytes) && is_below(offset, file_bytes);
    if !fits || file_bytes > memory_bytes {
        return Err(BAD_SEGMENT);
    }
    Ok(Some(Segment {
        virtual_address: word(2),
        pa: word(3),
        piece: Piece {
            offset,
            file_bytes,
            at: 0,
            memory_bytes,
        },
    }))
}

fn kernel(entry: u64, segments: [Option<Segment>; MAX_PIECES]) -> Result<Kernel, &'static str> {
    let all = || segments.iter().flatten();
    let start = all().map(|s| s.pa).min().ok_or("the ELF file is empty")?;
    let start = start / PAGE_BYTES * PAGE_BYTES;
    let end = all().map(|s| s.pa + s.piece.memory_bytes).max();
    let end = end.unwrap_or(start).next_multiple_of(PAGE_BYTES);
    let is_in = |address: u64, from: u64, s: &Segment| {
        address
            .checked_sub(from)
            .is_some_and(|offset| offset < s.piece.memory_bytes)
    };
    let by_pa = all().find(|s| is_in(entry, s.pa, s)).map(|_| entry);
    let by_virtual_address = || {
        let segment = all().find(|s| is_in(entry, s.virtual_address, s))?;
        Some(entry - segment.virtual_address + segment.pa)
    };
    let entry_pa = by_pa
        .or_else(by_virtual_address)
        .ok_or("the entry of the ELF file is in no segment")?;
    Ok(Kernel {
        pieces: segments.map(|segment| {
            segment.map_or(Piece::NONE, |s| Piece {
                at: s.pa - start,
                ..s.piece
            })
        }),
        entry: entry_pa - start,
        preferred_pa: start,
        is_relocatable: false,
        can_be_above_4g: false,
        alignment: PAGE_BYTES,
        init_bytes: end - start,
        cmdline_bytes: CMDLINE_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Load = (u32, [u64; 5]);

    /// A file with this entry and these segments: type; offset, virtual address, address, sizes.
    fn file(entry: u64, segments: &[Load]) -> [u8; 4096] {
        let mut page = [0; 4096];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(0x10, &[2, 0, 62]);
        put(0x18, &entry.to_le_bytes());
        put(0x20, &64u64.to_le_bytes());
        put(0x36, &[56, 0, segments.len() as u8]);
        for (index, (kind, words)) in segments.iter().enumerate() {
            let at = 64 + 56 * index;
            put(at, &kind.to_le_bytes());
            for (index, word) in words.iter().enumerate() {
                put(at + 8 + 8 * index, &word.to_le_bytes());
            }
        }
        page
    }

    const HIGH: u64 = 0xffff_ffff_8100_0000;
    const TEXT: Load = (1, [0x1000, HIGH, 0x100_0000, 0x5123, 0x5123]);
    const DATA: Load = (1, [0x7000, HIGH + 0x6000, 0x100_6080, 0x80, 0x3000]);

    #[test]
    fn segments_go_where_they_say() {
        let stack = (0x6474_e551, [0; 5]);
        let page = file(0x100_0010, &[stack, DATA, TEXT]);
        assert!(is_elf(&page) && !is_elf(&[0; 4096]));
        let kernel = inspect(&page).unwrap();
        let [data, text, none, ..] = kernel.pieces;
        assert_eq!((data.offset, data.at), (0x7000, 0x6080));
        assert_eq!((data.file_bytes, data.memory_bytes), (0x80, 0x3000));
        assert_eq!((text.at, text.file_bytes), (0, 0x5123));
        assert_eq!(none, Piece::NONE);
        assert_eq!((kernel.preferred_pa, kernel.entry), (0x100_0000, 0x10));
        assert_eq!(kernel.init_bytes, 0xa000);
        assert_eq!(kernel.image_bytes(), 0x7080);
        assert!(!kernel.is_relocatable);
    }

    #[test]
    fn entry_may_be_virtual_but_not_nowhere() {
        let entry = |entry| inspect(&file(entry, &[TEXT, DATA])).map(|k| k.entry);
        assert_eq!(entry(HIGH + 0x6100), Ok(0x6180));
        assert!(entry(0x5000).is_err() && entry(HIGH + 0x5123).is_err());
    }

    #[test]
    fn other_files_are_refused() {
        let refused = |at: usize, byte| {
            let mut page = file(0x100_0010, &[TEXT]);
            page[at] = byte;
            inspect(&page).is_err()
        };
        // 32 bits, big endian, relocatable program, another machine, another header.
        for (at, byte) in [(4, 1), (5, 2), (0x10, 3), (0x12, 3), (0x36, 32)] {
            assert!(refused(at, byte), "{at:#x}");
        }
        // Headers behind the first page, or with an offset that wraps.
        assert!(refused(0x21, 0x10) && refused(0x27, 0xff));
        assert!(!refused(6, 0));
        assert!(inspect(&file(0, &[])).is_err());
        assert!(inspect(&file(0x100_0010, &[TEXT; MAX_PIECES + 1])).is_err());
        for (index, value) in [(0, u64::MAX), (2, END_PA), (3, 0x6000), (4, u64::MAX)] {
            let (kind, mut words) = TEXT;
            words[index] = value;
            assert!(inspect(&file(HIGH, &[(kind, words)])).is_err(), "{index}");
        }
    }
}
