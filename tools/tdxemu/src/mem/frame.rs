// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The emulator's own frames: allocated once, zeroed, never freed.

// UNSAFETY: turns addresses of the pool into memory.
#![expect(unsafe_code)]

use super::map::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use svm::npt::Frames;

const FRAME_BYTES: u64 = 4096;

/// The pool. A bump allocator: the emulator never frees.
pub struct FramePool {
    next: AtomicU64,
    end: u64,
}

impl FramePool {
    /// Makes a pool of a range of RAM.
    ///
    /// # Safety
    ///
    /// The range is page-aligned RAM that nothing else uses, now or later, and no guest can reach.
    pub unsafe fn new(range: Range) -> Self {
        Self {
            next: AtomicU64::new(range.start),
            end: range.end,
        }
    }

    /// Physical address of `count` zeroed frames in a row.
    pub fn allocate_many(&self, count: u64) -> Option<u64> {
        let len_bytes = count.checked_mul(FRAME_BYTES)?;
        let take = |next: u64| {
            next.checked_add(len_bytes)
                .filter(|&after| after <= self.end)
        };
        // ORDERING: the counter alone determines who owns a frame.
        let start = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        // SAFETY: the range was handed out by the line above to this call only, and `new` vouches
        // for the whole pool; memory is identity mapped.
        unsafe { core::ptr::write_bytes(start as *mut u8, 0, len_bytes as usize) };
        Some(start)
    }

    /// Physical address of a zeroed frame.
    pub fn allocate(&self) -> Option<u64> {
        self.allocate_many(1)
    }

    /// Allocates a value of a type for which all zeros is valid; never freed.
    pub fn allocate_zeroed<T: Zeroable>(&self) -> Option<&'static mut T> {
        const { assert!(align_of::<T>() <= FRAME_BYTES as usize) };
        let start = self.allocate_many((size_of::<T>() as u64).div_ceil(FRAME_BYTES))?;
        // SAFETY: 1. fresh frames of sufficient size and alignment, owned by this call;
        // 2. zero bytes are a value of T, promised by `Zeroable`.
        Some(unsafe { &mut *(start as *mut T) })
    }

    /// Moves a value into frames of its own; never freed.
    pub fn store<T>(&self, value: T) -> Option<&'static mut T> {
        const { assert!(align_of::<T>() <= FRAME_BYTES as usize) };
        let start = self.allocate_many((size_of::<T>() as u64).div_ceil(FRAME_BYTES))?;
        let place = start as *mut T;
        // SAFETY: fresh frames of sufficient size and alignment, owned by this call.
        unsafe { place.write(value) };
        // SAFETY: initialised by the line above, and no one else has the address.
        Some(unsafe { &mut *place })
    }

    /// Allocates a slice of `len` zeroed values; never freed.
    pub fn allocate_slice<T: Zeroable>(&self, len: usize) -> Option<&'static mut [T]> {
        const { assert!(align_of::<T>() <= FRAME_BYTES as usize) };
        let len_bytes = (size_of::<T>() as u64).checked_mul(len as u64)?;
        let start = self.allocate_many(len_bytes.div_ceil(FRAME_BYTES))?;
        // SAFETY: as for `allocate_zeroed`, `len` times.
        Some(unsafe { core::slice::from_raw_parts_mut(start as *mut T, len) })
    }

    /// Frames still free.
    pub fn frames_left(&self) -> u64 {
        // ORDERING: a statistic.
        (self.end - self.next.load(Ordering::Relaxed)) / FRAME_BYTES
    }
}

/// A type for which zero bytes are a value.
///
/// # Safety
///
/// They are.
pub unsafe trait Zeroable {}

// SAFETY: integers and arrays of integers.
unsafe impl Zeroable for svm::Vmcb {}
// SAFETY: an array of bytes.
unsafe impl Zeroable for svm::msrpm::Msrpm {}
// SAFETY: integers.
unsafe impl Zeroable for tdx_model::stale::Reduction {}
// SAFETY: a transparent integer, for which zero is the default value.
unsafe impl Zeroable for tdx_model::page_state::PageEntry {}

fn entry_address(table_pa: u64, index: usize) -> u64 {
    assert!(index < 512, "a table has 512 entries");
    table_pa + 8 * index as u64
}

/// Nested page tables in frames of the pool.
pub struct TableFrames<'p>(pub &'p FramePool);

impl Frames for TableFrames<'_> {
    fn allocate(&mut self) -> Option<u64> {
        self.0.allocate()
    }

    fn read_entry(&self, table_pa: u64, index: usize) -> u64 {
        // SAFETY: `svm::npt` passes only frames it got from `allocate` above, and `entry_address`
        // stays inside; volatile because processors walk the table.
        unsafe { (entry_address(table_pa, index) as *const u64).read_volatile() }
    }

    fn write_entry(&mut self, table_pa: u64, index: usize, entry: u64) {
        // SAFETY: as for `read_entry`; the lock around the tables makes this the one writer.
        unsafe { (entry_address(table_pa, index) as *mut u64).write_volatile(entry) }
    }
}
