// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory that the kernel, a guest or another thread may write to at any time.
//!
//! There is never a Rust reference to its bytes. Each access is one relaxed atomic load or store,
//! which is a plain instruction; code that needs an ordering asks for it on the atomic from
//! [`Mapping::word`].
//!
//! The memory model of the language has no race between atomic accesses of the same size. It does
//! not define what two threads of this program see that access overlapping bytes at the same time
//! with different sizes, as [`Mapping::copy_in`] of a byte beside one of a whole word can. This
//! crate relies on the processor for that, as kernels do: on x86-64 each of these accesses is one
//! instruction on an aligned word, and the result is that of some order of them. The kernel's side
//! and guests use other sizes in any case, and no language's model has them.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// What the processor may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Load only.
    Read,
    /// Load and store.
    ReadWrite,
}

/// A shared mapping, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range, valid in every thread of the process; all accesses through
// it are atomic, and those of different sizes are what the processor makes of them (see above).
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

/// Words that a mapping is accessed by.
///
/// # Safety
/// Any bits are a value, and alignment and size are the same.
pub(crate) unsafe trait AtomicWord {}
// SAFETY: an integer of one byte.
unsafe impl AtomicWord for AtomicU8 {}
// SAFETY: an integer, aligned to its size on x86-64.
unsafe impl AtomicWord for AtomicU32 {}
// SAFETY: as above.
unsafe impl AtomicWord for AtomicU64 {}

impl Mapping {
    /// Maps `len` bytes of `fd` at `offset`, shared.
    pub(crate) fn new(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        protection: Protection,
    ) -> Result<Self, Errno> {
        let protection = match protection {
            Protection::Read => ProtFlags::READ,
            Protection::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: the kernel chooses an unused address, so no existing memory
        // is replaced.
        let start = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::INVAL)?;
        Ok(Self { start, len })
    }

    /// Memory of this process that stays where it is, zeroed.
    pub(crate) fn locked(len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // Shared, so that a fork does not move it.
        let flags = MapFlags::SHARED | MapFlags::LOCKED;
        let anywhere = core::ptr::null_mut();
        // SAFETY: A new mapping, at an address that the kernel chooses, changes no memory in use.
        let start = unsafe { rustix::mm::mmap_anonymous(anywhere, len, protection, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::INVAL)?;
        Ok(Self { start, len })
    }

    /// Anonymous memory in place of a device page.
    #[cfg(test)]
    pub(crate) fn anonymous(len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `new`.
        let start = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), len, protection, MapFlags::PRIVATE)
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::INVAL)?;
        Ok(Self { start, len })
    }

    /// First byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns true if these bytes are inside.
    pub(crate) fn holds(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// The word at `offset`, which must be a multiple of its size and inside: offsets are constants
    /// of the ABI, or have been checked.
    pub(crate) fn word<A: AtomicWord>(&self, offset: usize) -> &A {
        let size = size_of::<A>();
        assert!(
            offset % size == 0 && self.holds(offset, size),
            "offset {offset:#x}"
        );
        // SAFETY: the assertion keeps the result inside the mapping.
        let pointer = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY:
        // 1. the bytes are mapped as long as `self` lives;
        // 2. mmap returned a page-aligned start and the offset is a multiple of the size, which is
        //    the alignment (`AtomicWord`);
        // 3. all code here accesses them atomically, and the kernel and guests are no threads of
        //    this program; for accesses of different sizes see the head of this file. Nothing
        //    stores to a read-only mapping.
        unsafe { &*pointer.cast::<A>() }
    }

    /// Zeroes `len` bytes from `offset`; both are multiples of 8, and the caller has checked that the
    /// bytes are inside.
    pub(crate) fn zero(&self, offset: usize, len: usize) {
        for at in (offset..offset + len).step_by(8) {
            self.word::<AtomicU64>(at).store(0, Ordering::Relaxed);
        }
    }

    /// Copies `bytes` to `offset`. The caller has checked that they are inside.
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let (front, middle, tail) = split(offset, bytes.len());
        for (at, byte) in (offset..).zip(&bytes[..front]) {
            self.word::<AtomicU8>(at).store(*byte, Ordering::Relaxed);
        }
        let chunks = bytes[front..middle].chunks_exact(8);
        for (at, chunk) in (offset + front..).step_by(8).zip(chunks) {
            let word = chunk
                .iter()
                .rev()
                .fold(0, |word, byte| (word << 8) | u64::from(*byte));
            self.word::<AtomicU64>(at).store(word, Ordering::Relaxed);
        }
        for (at, byte) in (offset + middle..).zip(&bytes[middle..tail]) {
            self.word::<AtomicU8>(at).store(*byte, Ordering::Relaxed);
        }
    }

    /// Copies from `offset`. The caller has checked that the bytes are inside.
    pub(crate) fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let (front, middle, tail) = split(offset, bytes.len());
        for (at, byte) in (offset..).zip(&mut bytes[..front]) {
            *byte = self.word::<AtomicU8>(at).load(Ordering::Relaxed);
        }
        let chunks = bytes[front..middle].chunks_exact_mut(8);
        for (at, chunk) in (offset + front..).step_by(8).zip(chunks) {
            let word = self.word::<AtomicU64>(at).load(Ordering::Relaxed);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        for (at, byte) in (offset + middle..).zip(&mut bytes[middle..tail]) {
            *byte = self.word::<AtomicU8>(at).load(Ordering::Relaxed);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are what mmap gave in the constructor, and
        // every user of the address borrows or owns this mapping.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// Where the bytes before the first whole word end, where the whole words end, and the total
/// length.
fn split(offset: usize, len: usize) -> (usize, usize, usize) {
    let front = (offset.next_multiple_of(8) - offset).min(len);
    (front, front + (len - front) / 8 * 8, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_copied_in_comes_out_and_nothing_beside_it_changes(
            offset in 0usize..64,
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mapping = Mapping::anonymous(4096)?;
            mapping.copy_in(0, &[0x5a; 256]);
            mapping.copy_in(offset, &bytes);
            let mut all = [0; 256];
            mapping.copy_out(0, &mut all);
            let mut expected = [0x5a; 256];
            expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(all, expected);
            let mut part = vec![0; bytes.len()];
            mapping.copy_out(offset, &mut part);
            prop_assert_eq!(part, bytes);
        }
    }

    #[test]
    fn what_is_zeroed_is_zero_and_nothing_beside_it() -> Result<(), Errno> {
        let mapping = Mapping::anonymous(4096)?;
        mapping.copy_in(0, &[0x5a; 64]);
        mapping.zero(8, 32);
        let mut all = [0; 64];
        mapping.copy_out(0, &mut all);
        assert_eq!(all[..8], [0x5a; 8]);
        assert_eq!(all[8..40], [0; 32]);
        assert_eq!(all[40..], [0x5a; 24]);
        Ok(())
    }

    #[test]
    fn only_whole_words_inside_are_held() -> Result<(), Errno> {
        let mapping = Mapping::anonymous(4096)?;
        assert!(mapping.holds(4088, 8) && mapping.holds(4096, 0));
        for (offset, len) in [(4089, 8), (4096, 1), (usize::MAX, 1), (1, usize::MAX)] {
            assert!(!mapping.holds(offset, len), "{offset:#x}+{len:#x}");
        }
        Ok(())
    }
}
