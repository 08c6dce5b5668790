// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Lower-VTL memory: ranges of guest-physical addresses, and their mapping
//! through `/dev/mshv_vtl_low`.

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{Mapping, Protection};
use crate::{Error, Result, abi, device};

const PAGE_SIZE: u64 = 4096;
/// Lowest address of the SHARED bit, with a GPA width of 48.
const PRIVATE_END: u64 = 1 << 47;

/// A range of whole private pages, `base..end` (end exclusive).
///
/// ```
/// let range = vtl::GpaRange::new(0x8000_0000, 0x20_0000)?;
/// assert_eq!(range.to_string(), "0x80000000..0x80200000");
/// assert!(vtl::GpaRange::new(0x8000_0000, 100).is_err());
/// # Ok::<(), vtl::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GpaRange {
    base: u64,
    len: u64,
}

impl GpaRange {
    /// Makes a range of `len` bytes from `base`.
    ///
    /// # Errors
    /// [`Error::BadRange`] if it is empty, does not consist of whole 4 KiB pages, or reaches the
    /// SHARED bit.
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

    /// Byte after the last one.
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

/// An open `/dev/mshv_vtl_low`, for mapping memory of the lower VTLs.
///
/// A program that maps one range can use [`LowerMemory::map`] instead. A program that calls mmap()
/// itself gets the descriptor by [`AsFd`]: the offset is the guest-physical address, with
/// [`abi::VTL_LOW_SHARED`] set for the alias that is shared with the host.
#[derive(Debug)]
pub struct LowerMemoryFile {
    fd: OwnedFd,
}

/// Which alias of an address is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The alias of private memory.
    Private,
    /// The alias of memory shared with the host.
    Shared,
}

impl LowerMemoryFile {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            fd: device::open(abi::DEV_MSHV_VTL_LOW)?,
        })
    }

    /// Maps `range` by one of its aliases.
    ///
    /// # Errors
    /// [`Error::MapMemory`].
    pub fn map(&self, range: GpaRange, alias: Alias) -> Result<LowerMemory> {
        let len = usize::try_from(range.len()).map_err(|_| Error::BadRange {
            base: range.base,
            len: range.len,
        })?;
        let offset = match alias {
            Alias::Private => range.base,
            Alias::Shared => range.base | abi::VTL_LOW_SHARED,
        };
        let mapping =
            Mapping::new(&self.fd, offset, len, Protection::ReadWrite).map_err(|errno| {
                Error::MapMemory {
                    range,
                    errno: errno.into(),
                }
            })?;
        Ok(LowerMemory { range, mapping })
    }
}

impl AsFd for LowerMemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A range of lower-VTL memory, mapped into this process.
///
/// The first access maps a page. Accessing a page that has not been accepted raises SIGBUS; accept
/// it first ([`crate::Vtl::accept`]).
///
/// ```no_run
/// use vtl::{GpaRange, LowerMemory};
///
/// # fn main() -> Result<(), vtl::Error> {
/// let memory = LowerMemory::map(GpaRange::new(0x8000_0000, 0x1000)?)?;
/// memory.write(0x10, b"hello")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LowerMemory {
    range: GpaRange,
    mapping: Mapping,
}

impl LowerMemory {
    /// Opens the device and maps `range` of private memory.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::MapMemory`].
    pub fn map(range: GpaRange) -> Result<Self> {
        LowerMemoryFile::open()?.map(range, Alias::Private)
    }

    /// The mapped range.
    pub fn range(&self) -> GpaRange {
        self.range
    }

    /// Address of the mapping in this process, for a library that accesses memory by itself. It is
    /// valid as long as this value lives; guests and the kernel may change the memory at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.start().as_ptr()
    }

    /// Copies `bytes` to the mapping, at `offset` bytes from the range's base.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; then nothing was written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let first = self.check(offset, bytes.len())?;
        self.mapping.copy_in(first, bytes);
        Ok(())
    }

    /// Copies from the mapping, at `offset` bytes from the range's base, to `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; then `bytes` is unchanged.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let first = self.check(offset, bytes.len())?;
        self.mapping.copy_out(first, bytes);
        Ok(())
    }

    /// Zeroes whole pages, from `offset` bytes from the range's base.
    pub(crate) fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let first = self.check(offset, len)?;
        self.mapping.zero(first, len);
        Ok(())
    }

    /// Offset in the mapping, if `len` bytes from `offset` are mapped.
    fn check(&self, offset: u64, len: usize) -> Result<usize> {
        match usize::try_from(offset) {
            Ok(first) if self.mapping.holds(first, len) => Ok(first),
            _ => Err(Error::OutOfRange {
                offset,
                // CAST: widening.
                len: len as u64,
                range: self.range,
            }),
        }
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
        let mapping = Mapping::anonymous(0x1000).map_err(|errno| Error::MapMemory {
            range,
            errno: errno.into(),
        })?;
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
