// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of byte strings that somebody else made. Nothing here can panic.

/// `N` bytes at an offset; `None` where the string ends before.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// A length or a count of a file: one that no memory can hold is longer than any slice.
pub(crate) fn length(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

/// Returns true if nothing but zero is there.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
