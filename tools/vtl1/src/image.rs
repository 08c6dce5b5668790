// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Header of the image of VTL1, which says which pages are code, constants and data.

use crate::ranges::PAGE;

/// Bytes of the header, at the begin of the image.
pub const HEADER_LEN: usize = 32;
const MAGIC: [u8; 8] = *b"VTL1IMG\0";
/// Most bytes of an image in memory.
const MAX_LEN: u64 = 1 << 20;

/// Lengths in bytes, all whole pages, in the order in which the parts are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Offset of the first instruction.
    pub entry: u64,
    /// Executable and read-only.
    pub text: u64,
    /// Read-only.
    pub constants: u64,
    /// Writable.
    pub data: u64,
    /// Writable, zero, and not in the file.
    pub zero: u64,
}

impl Image {
    /// Decodes the header of `file`; `None` if it is not an image.
    pub fn decode(file: &[u8]) -> Option<Self> {
        if file.get(..8)? != MAGIC {
            return None;
        }
        let word = |number: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(file.get(8 + 4 * number..12 + 4 * number)?);
            Some(u64::from(u32::from_le_bytes(bytes)))
        };
        // The words are the ends of the parts.
        let [entry, text, constants, data, zero] =
            [word(0)?, word(1)?, word(2)?, word(3)?, word(4)?];
        let image = Self {
            entry,
            text,
            constants: constants.checked_sub(text)?,
            data: data.checked_sub(constants)?,
            zero: zero.checked_sub(data)?,
        };
        // CAST: widening.
        let is_valid = (text | constants | data | zero) % PAGE == 0
            && (HEADER_LEN as u64..text).contains(&entry)
            && zero <= MAX_LEN
            && data == file.len() as u64;
        is_valid.then_some(image)
    }

    /// Bytes in memory.
    pub const fn len(&self) -> u64 {
        self.text + self.constants + self.data + self.zero
    }

    /// Returns true for an image of no bytes, which [`Self::decode`] refuses.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn file(words: [u32; 5], len: usize) -> Vec<u8> {
        let mut file = std::vec![0; len];
        file[..8].copy_from_slice(&MAGIC);
        for (number, word) in words.into_iter().enumerate() {
            file[8 + 4 * number..12 + 4 * number].copy_from_slice(&word.to_le_bytes());
        }
        file
    }

    #[test]
    fn the_parts_follow_each_other() {
        let image = Image::decode(&file([0x40, 0x2000, 0x3000, 0x4000, 0x9000], 0x4000));
        let expected = Image {
            entry: 0x40,
            text: 0x2000,
            constants: 0x1000,
            data: 0x1000,
            zero: 0x5000,
        };
        assert_eq!(image, Some(expected));
        assert_eq!(expected.len(), 0x9000);
    }

    #[test]
    fn a_header_that_is_not_consistent_is_refused() {
        for (words, len) in [
            ([0x1f, 0x2000, 0x3000, 0x4000, 0x9000], 0x4000),
            ([0x2000, 0x2000, 0x3000, 0x4000, 0x9000], 0x4000),
            ([0x40, 0x2001, 0x3000, 0x4000, 0x9000], 0x4000),
            ([0x40, 0x4000, 0x3000, 0x4000, 0x9000], 0x4000),
            ([0x40, 0x2000, 0x5000, 0x4000, 0x9000], 0x4000),
            ([0x40, 0x2000, 0x3000, 0x4000, 0x3000], 0x4000),
            ([0x40, 0x2000, 0x3000, 0x4000, 0x9000], 0x3000),
            ([0x40, 0x2000, 0x3000, 0x4000, 0x20_0000], 0x4000),
        ] {
            assert_eq!(Image::decode(&file(words, len)), None, "{words:x?}");
        }
        let mut other = file([0x40, 0x2000, 0x3000, 0x4000, 0x9000], 0x4000);
        other[0] = b'v';
        assert_eq!(Image::decode(&other), None);
        assert_eq!(Image::decode(&[]), None);
        assert_eq!(Image::decode(&MAGIC), None);
    }
}
