// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Lower-VTL memory: ranges of guest-physical addresses, and their mapping
//! through `/dev/mshv_vtl_low`.

// UNSAFETY: byte copies to and from memory a guest may change.
#![expect(unsafe_code)]

use core::fmt;

use crate::sys::Mapping;
use crate::{Error, Result, abi, device};

const PAGE_SIZE: u64 = 4096;
/// First address that may be the SHARED bit (GPA width 48).
const PRIVATE_END: u64 = 1 << 47;

/// Whole private pages, `base..end` (end exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpaRange {
    base: u64,
    len: u64,
}

impl GpaRange {
    /// A range of `len` bytes from `base`.
    ///
    /// # Errors
    /// [`Error::BadRange`] if it is empty, not made of whole 4 KiB pages, or
    /// reaches the SHARED bit.
    pub fn new(base: u64, len: u64) -> Result<Self> {
        let is_whole = len != 0 && (base | len) % PAGE_SIZE == 0;
        match base.checked_add(len) {
            Some(end) if is_whole && end <= PRIVATE_END => Ok(Self { base, len }),
            _ => Err(Error::BadRange { base, len }),
        }
    }

    /// First byte.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Byte behind the last one.
    pub const fn end(&self) -> u64 {
        self.base + self.len
    }

    /// Length in bytes, never zero.
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }
}

impl fmt::Display for GpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.base, self.end())
    }
}

/// A range of lower-VTL memory, mapped into this process.
///
/// Pages appear on first access. An access to a page that has not been
/// accepted raises SIGBUS; accept it first ([`crate::Vtl::accept`]).
#[derive(Debug)]
pub struct LowerMemory {
    range: GpaRange,
    mapping: Mapping,
}

impl LowerMemory {
    /// Maps `range`.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::MapMemory`].
    pub fn map(range: GpaRange) -> Result<Self> {
        let device = device::open(abi::DEV_MSHV_VTL_LOW)?;
        let len = usize::try_from(range.len()).map_err(|_| Error::BadRange {
            base: range.base,
            len: range.len,
        })?;
        let mapping = Mapping::new(device, range.base, len)
            .map_err(|errno| Error::MapMemory { range, errno })?;
        Ok(Self { range, mapping })
    }

    /// The mapped range.
    pub fn range(&self) -> GpaRange {
        self.range
    }

    /// Copies `bytes` to `offset` bytes behind the range's base.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; then nothing was written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = self.check(offset, bytes.len())?;
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: `check` found `start..start + bytes.len()` inside the
            // mapping, which lives as long as `self`.
            let pointer = unsafe { start.add(at) };
            // SAFETY: as above. Volatile, because the guest may access the same
            // byte at the same time.
            unsafe { pointer.write_volatile(*byte) };
        }
        Ok(())
    }

    /// Copies from `offset` bytes behind the range's base into `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; then `bytes` is unchanged.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let start = self.check(offset, bytes.len())?;
        for (at, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `check` found `start..start + bytes.len()` inside the
            // mapping, which lives as long as `self`.
            let pointer = unsafe { start.add(at) };
            // SAFETY: as above; any value is a byte.
            *byte = unsafe { pointer.read_volatile() };
        }
        Ok(())
    }

    /// The address of `offset`, if `len` bytes from there are mapped.
    fn check(&self, offset: u64, len: usize) -> Result<*mut u8> {
        let out_of_range =
            // CAST: widening.
            Error::OutOfRange { offset, len: len as u64, range: self.range };
        let Ok(first) = usize::try_from(offset) else {
            return Err(out_of_range);
        };
        match first.checked_add(len) {
            Some(end) if end <= self.mapping.len() => {}
            _ => return Err(out_of_range),
        }
        // SAFETY: `first` is at most the mapping's length (line above).
        Ok(unsafe { self.mapping.start().as_ptr().add(first) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_whole_private_pages() {
        assert!(GpaRange::new(0x1000, 0x1000).is_ok());
        for (base, len) in [
            (0x1000, 0),
            (0x1001, 0x1000),
            (0x1000, 0x800),
            (1 << 47, 0x1000),
            (PRIVATE_END - 0x1000, 0x2000),
            (u64::MAX - 0xfff, 0x1000),
        ] {
            assert_eq!(GpaRange::new(base, len), Err(Error::BadRange { base, len }));
        }
    }

    #[test]
    fn accesses_outside_are_refused_before_any_byte_moves() -> Result<()> {
        let range = GpaRange::new(0x8000_0000, 0x1000)?;
        let mapping =
            Mapping::anonymous(0x1000).map_err(|errno| Error::MapMemory { range, errno })?;
        let memory = LowerMemory { range, mapping };
        memory.write(0xffe, &[1, 2])?;
        let mut bytes = [0; 2];
        memory.read(0xffe, &mut bytes)?;
        assert_eq!(bytes, [1, 2]);
        for offset in [0xfff, 0x1000, u64::MAX] {
            let refused = Err(Error::OutOfRange {
                offset,
                len: 2,
                range,
            });
            assert_eq!(memory.write(offset, &[3, 4]), refused);
            assert_eq!(memory.read(offset, &mut bytes), refused);
        }
        assert_eq!(bytes, [1, 2]);
        Ok(())
    }
}
