// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! SMBIOS: which machine this is, as `dmidecode` and the first lines of Linux say it. [SMBIOS 3.0]
//!
//! The entry point is at the beginning of a ROM at 0xf0000. Linux reads the ROM 16 bytes at a time until it
//! finds one, twice if there is none, and each read is an exit. The structures are in memory, after the ACPI
//! tables.

use crate::memory::{Range, place};

/// Where an operating system looks for an entry point. The rest of it is zero.
pub const ROM: Range = Range::new(0xf_0000, 0x10_0000);

/// Address of the structures, in [`place::ACPI`]; the tables of ACPI do not reach so far.
pub const STRUCTURES: u64 = place::ACPI.end - 0x1000;

const ENTRY_POINT_LEN: usize = 24;

/// Reads the ROM at this offset.
pub fn read_rom(offset: u32, size: u8) -> u64 {
    // CAST: widening.
    let from = (offset as usize).min(ENTRY_POINT_LEN);
    let bytes = &entry_point()[from..];
    let len = bytes.len().min(usize::from(size)).min(8);
    let mut value = [0; 8];
    value[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(value)
}

/// The entry point for tables anywhere in memory.
fn entry_point() -> [u8; ENTRY_POINT_LEN] {
    const CHECKSUM: usize = 5;
    const VERSION: [u8; 3] = [3, 0, 0];
    const REVISION: u8 = 1;
    let mut bytes = [0; ENTRY_POINT_LEN];
    bytes[..5].copy_from_slice(b"_SM3_");
    // CAST: 24.
    bytes[6] = ENTRY_POINT_LEN as u8;
    bytes[7..10].copy_from_slice(&VERSION);
    bytes[10] = REVISION;
    // CAST: about a hundred bytes.
    bytes[12..16].copy_from_slice(&(structures().len() as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&STRUCTURES.to_le_bytes());
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[CHECKSUM] = sum.wrapping_neg();
    bytes
}

/// The structures: firmware, system, end.
pub fn structures() -> Vec<u8> {
    const BIOS: u8 = 0;
    const SYSTEM: u8 = 1;
    const END: u8 = 127;
    /// Of 8 bytes of characteristics: none are told.
    const NOT_TOLD: [u8; 8] = [1 << 3, 0, 0, 0, 0, 0, 0, 0];
    /// Of its two bytes: a virtual machine.
    const IS_VIRTUAL: [u8; 2] = [0, 1 << 4];
    /// Of release and embedded controller: no numbers.
    const NO_NUMBERS: [u8; 4] = [0xff; 4];
    const NO_UUID: [u8; 16] = [0; 16];
    const BY_POWER_SWITCH: u8 = 6;
    let version = env!("CARGO_PKG_VERSION");
    // Vendor, version, segment (2 bytes), date, size.
    let bios = [&[1, 2, 0, 0, 3, 0], &NOT_TOLD[..], &IS_VIRTUAL, &NO_NUMBERS].concat();
    // Manufacturer, product, version, serial number, then SKU, family.
    let system = [&[1, 2, 3, 0], &NO_UUID[..], &[BY_POWER_SWITCH], &[0, 0]].concat();
    [
        structure(BIOS, &bios, &["mshv_vtl_tdx", version, "01/01/1980"]),
        structure(SYSTEM, &system, &["mshv_vtl_tdx", "VTL0", version]),
        structure(END, &[], &[]),
    ]
    .concat()
}

/// A structure: header, formatted part, strings.
fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
    const HEADER_LEN: usize = 4;
    // CAST: short; the kind serves as a handle as well, as there is one structure of each.
    let mut bytes = vec![kind, (HEADER_LEN + formatted.len()) as u8, kind, 0];
    bytes.extend(formatted);
    for string in strings {
        bytes.extend(string.as_bytes());
        bytes.push(0);
    }
    if strings.is_empty() {
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rom(len: u32) -> Vec<u8> {
        // CAST: one byte is read.
        (0..len).map(|offset| read_rom(offset, 1) as u8).collect()
    }

    #[test]
    fn the_entry_point_is_found_at_the_first_address_and_sums_to_zero() {
        let bytes = rom(32);
        assert_eq!(bytes[..5], *b"_SM3_");
        assert_eq!(bytes[6], 24);
        let sum = bytes[..24]
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum, &bytes[24..]), (0, &[0; 8][..]));
    }

    #[test]
    fn it_names_the_structures_as_they_are() {
        let bytes = rom(24);
        let len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        assert_eq!(len as usize, structures().len());
        let at = u64::from_le_bytes(std::array::from_fn(|byte| bytes[16 + byte]));
        let end = at + u64::from(len);
        assert!(place::ACPI.contains(Range::new(at, end)));
    }

    /// As Linux walks them: by length, then to the end of the strings.
    #[test]
    fn structures_follow_each_other_to_the_end() {
        let bytes = structures();
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        while let [kind, len, ..] = *rest {
            let strings = &rest[usize::from(len)..];
            let end = strings
                .windows(2)
                .position(|pair| pair == [0, 0])
                .expect("an end of the strings");
            let texts: Vec<_> = strings[..end]
                .split(|byte| *byte == 0)
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect();
            found.push((kind, len, texts));
            rest = &strings[end + 2..];
        }
        let kinds: Vec<_> = found.iter().map(|(kind, len, _)| (*kind, *len)).collect();
        // The lengths are those of the specification.
        assert_eq!(kinds, [(0, 24), (1, 27), (127, 4)]);
        assert_eq!(found[1].2[..2], ["mshv_vtl_tdx", "VTL0"]);
        // Each string that is named is there: the last one in each structure is number 3.
        assert_eq!((found[0].2.len(), found[1].2.len()), (3, 3));
    }

    #[test]
    fn reads_of_every_size_stay_in_the_rom() {
        for size in [1, 2, 4, 8] {
            assert_eq!(read_rom(24, size), 0);
            assert_eq!(read_rom(0xffff, size), 0);
            assert_eq!(read_rom(u32::MAX, size), 0);
        }
        assert_eq!(read_rom(0, 4), u64::from(u32::from_le_bytes(*b"_SM3")));
        assert_eq!(read_rom(23, 8), STRUCTURES >> 56);
    }
}
