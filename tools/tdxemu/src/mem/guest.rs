// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Copies to and from the memory of the guests, which run on other processors at the same time.
//!
//! Guest memory is never a Rust reference: string instructions copy the bytes, and each access is
//! checked against the guests' ranges.

// UNSAFETY: memory that guests write at the same time.
#![expect(unsafe_code)]

use super::map::{self, MemoryMap, Range};
use core::arch::asm;

/// The ranges of RAM that guests may reach.
#[derive(Clone, Copy, Debug)]
pub struct GuestMemory {
    ranges: [Range; Self::RANGES],
}

impl GuestMemory {
    /// Enough for any machine: below, between and after the emulator's two parts, and above 4 GiB.
    const RANGES: usize = 5;

    /// Declares which memory belongs to guests.
    ///
    /// # Safety
    ///
    /// Every range is RAM, identity mapped, and holds nothing that a Rust reference points to.
    pub unsafe fn new(set: &MemoryMap) -> Self {
        let mut ranges = [Range::default(); Self::RANGES];
        for (place, (range, _)) in ranges.iter_mut().zip(set.iter()) {
            *place = range;
        }
        // Where most of memory is, the search ends first.
        ranges.sort_unstable_by_key(|range| core::cmp::Reverse(range.len_bytes()));
        Self { ranges }
    }

    /// Returns true if all of it belongs to guests.
    pub fn contains(&self, gpa: u64, len_bytes: u64) -> bool {
        self.ranges
            .iter()
            .any(|range| range.contains(gpa, len_bytes))
    }

    /// Copies from guest memory. Returns false if not all of it belongs to guests.
    #[must_use]
    pub fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
        let is_ours = self.contains(gpa, bytes.len() as u64);
        if is_ours {
            // SAFETY: the source belongs to guests, checked above, and so is memory that no
            // reference points to; the destination is a `&mut` of that length.
            unsafe { copy(bytes.as_mut_ptr(), gpa as *const u8, bytes.len()) };
        }
        is_ours
    }

    /// Copies to guest memory. Returns false if not all of it belongs to guests.
    #[must_use]
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> bool {
        let is_ours = self.contains(gpa, bytes.len() as u64);
        if is_ours {
            // SAFETY: as for `read`, the other way round.
            unsafe { copy(gpa as *mut u8, bytes.as_ptr(), bytes.len()) };
        }
        is_ours
    }

    /// Atomically sets bits of a byte. Returns false if it does not belong to guests.
    #[must_use]
    pub fn set_bits(&self, gpa: u64, bits: u8) -> bool {
        let is_ours = self.contains(gpa, 1);
        if is_ours {
            // SAFETY: the byte belongs to guests, checked above; the instruction is atomic.
            unsafe {
                asm!("lock or byte ptr [{}], {}", in(reg) gpa, in(reg_byte) bits,
                    options(nostack));
            }
        }
        is_ours
    }

    /// Fills guest memory with zeros. Returns false if not all of it belongs to guests.
    #[must_use]
    pub fn zero(&self, gpa: u64, len_bytes: u64) -> bool {
        let is_ours = self.contains(gpa, len_bytes);
        if is_ours {
            // SAFETY: the destination belongs to guests, checked above.
            unsafe {
                asm!("rep stosb", inout("rcx") len_bytes => _, inout("rdi") gpa => _, in("al") 0u8,
                    options(nostack, preserves_flags));
            }
        }
        is_ours
    }

    /// Moves a range of guest memory to another that may overlap it.
    #[must_use]
    pub fn relocate(&self, from: Range, to: u64) -> bool {
        let is_ours = self.contains(to, from.len_bytes());
        if is_ours {
            for (source, target, len_bytes) in map::moves(from, to) {
                // SAFETY: the destination belongs to guests; the source is what the loader put
                // into RAM. No guest runs yet.
                unsafe { copy(target as *mut u8, source as *const u8, len_bytes as usize) };
            }
        }
        is_ours
    }

    /// The 8 bytes at an address.
    pub fn read_u64(&self, gpa: u64) -> Option<u64> {
        let value: u64;
        if !self.contains(gpa, 8) {
            return None;
        }
        // SAFETY: the source belongs to guests, checked above; assembly as in `copy`.
        unsafe {
            asm!("mov {}, [{}]", out(reg) value, in(reg) gpa,
                options(nostack, preserves_flags, readonly));
        }
        Some(value)
    }
}

/// Copies bytes that another processor may be writing.
///
/// # Safety
///
/// Both ranges are mapped memory, and no reference other than the caller's own covers them.
unsafe fn copy(to: *mut u8, from: *const u8, len_bytes: usize) {
    // SAFETY: forwarded to the caller; assembly, because the compiler may not assume anything
    // about what it reads.
    unsafe {
        // Words, then the remaining bytes: TCG takes the same time for either.
        asm!("rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) len_bytes & 7,
            inout("rcx") len_bytes / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}
