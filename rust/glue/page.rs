// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel shares with userspace and with the TDX module.

// UNSAFETY: access to memory that others write at the same time.
#![allow(unsafe_code)]

use core::arch::asm;
use core::ptr::NonNull;

use kernel::alloc::flags::__GFP_ZERO;
use kernel::mm::virt::{VmaMixedMap, VmaNew};
use kernel::page::{Page, PAGE_SIZE};
use kernel::prelude::*;

use crate::glue::ffi;

/// A zeroed page of kernel memory that may also be mapped by userspace.
///
/// # Invariants
///
/// `base` is the kernel address of `page`, aligned to its size and valid as long as `page` is owned.
pub(crate) struct SharedPage {
    page: Page,
    base: NonNull<u8>,
    phys: u64,
}

// SAFETY: `base` is an address of the direct map, the same on every CPU; each access through it is one
// instruction, and there is never a reference to the page.
unsafe impl Send for SharedPage {}
// SAFETY: As above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Allocates a page.
    pub(crate) fn new() -> Result<Self> {
        let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        let base = ffi::page_address(&page).ok_or(ENOMEM)?;
        let phys = ffi::page_phys(&page);
        // INVARIANT: `page_address` gave the address of this page; there is no highmem on x86-64.
        Ok(Self { page, base, phys })
    }

    /// The page itself.
    pub(crate) fn page(&self) -> &Page {
        &self.page
    }

    /// Its guest-physical address: L1's physical addresses are those of the TD.
    pub(crate) fn phys(&self) -> u64 {
        self.phys
    }

    /// Maps the page as the whole of a new mapping.
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        self.map_at(vma.set_mixedmap(), vma.start())
    }

    /// Maps the page at an address of a new mapping.
    pub(crate) fn map_at(&self, area: &VmaMixedMap, address: usize) -> Result {
        area.vm_insert_page(address, &self.page)
    }

    /// Where an integer of the page is; `None` for what is not aligned or not within the page: all
    /// offsets are constants of `pure::uapi`, so this does not happen.
    fn at<T: Integer>(&self, offset: usize) -> Option<*mut T> {
        let is_within = offset < PAGE_SIZE && offset % size_of::<T>() == 0;
        // An aligned integer that begins in the page ends in it.
        is_within.then(|| self.base.as_ptr().wrapping_add(offset).cast())
    }

    fn read<T: Integer>(&self, offset: usize) -> T {
        let Some(place) = self.at::<T>(offset) else {
            return T::default();
        };
        // SAFETY: `at` gives an aligned place in the page, which `self` owns. Others may change it at
        // the same time; a volatile read of such an integer is one instruction.
        unsafe { place.read_volatile() }
    }

    fn write<T: Integer>(&self, offset: usize, value: T) {
        if let Some(place) = self.at::<T>(offset) {
            // SAFETY: As above.
            unsafe { place.write_volatile(value) }
        }
    }

    /// Whether `len` words at `offset` are within the page: all offsets are constants, so they are.
    fn has_words(offset: usize, len: usize) -> bool {
        offset <= PAGE_SIZE && len <= (PAGE_SIZE - offset) / 8
    }

    /// Copies consecutive words out of the page, each once.
    pub(crate) fn read_words(&self, offset: usize, words: &mut [u64]) {
        if Self::has_words(offset, words.len()) {
            let from = self.base.as_ptr().wrapping_add(offset).cast();
            // SAFETY: The words are within the page, which `self` owns, and fill `words`.
            unsafe { copy_words(from, words.as_mut_ptr(), words.len()) }
        }
    }

    /// Copies consecutive words into the page, each once.
    pub(crate) fn write_words(&self, offset: usize, words: &[u64]) {
        if Self::has_words(offset, words.len()) {
            let to = self.base.as_ptr().wrapping_add(offset).cast();
            // SAFETY: The words are within the page, which `self` owns, and come from `words`.
            unsafe { copy_words(words.as_ptr(), to, words.len()) }
        }
    }

    /// Writes consecutive words, each once, where they are too few for a string instruction.
    pub(crate) fn write_few<const LEN: usize>(&self, offset: usize, words: &[u64; LEN]) {
        for (index, word) in words.iter().enumerate() {
            self.write(offset + 8 * index, *word);
        }
    }

    /// Reads a byte, once.
    pub(crate) fn read_u8(&self, offset: usize) -> u8 {
        self.read(offset)
    }

    /// Reads a word, once.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        self.read(offset)
    }

    /// Reads a word, once.
    pub(crate) fn read_u64(&self, offset: usize) -> u64 {
        self.read(offset)
    }

    /// Writes a byte, once.
    pub(crate) fn write_u8(&self, offset: usize, value: u8) {
        self.write(offset, value);
    }

    /// Writes a word, once.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        self.write(offset, value);
    }

    /// Writes a word, once.
    pub(crate) fn write_u64(&self, offset: usize, value: u64) {
        self.write(offset, value);
    }

    /// Zeroes the page from an offset on, which is a multiple of 8.
    pub(crate) fn clear_from(&self, first: usize) {
        for offset in (first..PAGE_SIZE).step_by(8) {
            self.write(offset, 0_u64);
        }
    }

    /// Changes a word as one access and a full barrier. Returns what stood there before.
    fn update_u32(&self, offset: usize, change: impl Fn(u32) -> u32) -> u32 {
        let Some(place) = self.at(offset) else {
            return 0;
        };
        let mut old = self.read(offset);
        loop {
            // SAFETY: `at` gives an aligned place in the page, which `self` owns.
            let found = unsafe { compare_exchange_u32(place, old, change(old)) };
            if found == old {
                return old;
            }
            old = found;
        }
    }

    /// Sets bits of a word, as one access and a full barrier. Returns what stood there before.
    pub(crate) fn set_bits_u32(&self, offset: usize, bits: u32) -> u32 {
        self.update_u32(offset, |old| old | bits)
    }

    /// Clears bits of a word, as one access and a full barrier. Returns what stood there before.
    pub(crate) fn clear_bits_u32(&self, offset: usize, bits: u32) -> u32 {
        self.update_u32(offset, |old| old & !bits)
    }

    /// Writes `new` where `old` still stands, as one access and a full barrier. Returns true if it did.
    pub(crate) fn replace_u64(&self, offset: usize, old: u64, new: u64) -> bool {
        self.at(offset).is_some_and(|place| {
            // SAFETY: As above.
            let found = unsafe { compare_exchange_u64(place, old, new) };
            found == old
        })
    }

    /// Reads a word and leaves zero, as one access and a full barrier.
    pub(crate) fn take_u64(&self, offset: usize) -> u64 {
        let Some(place) = self.at(offset) else {
            return 0;
        };
        // SAFETY: As above.
        unsafe { exchange_u64(place, 0) }
    }
}

/// What is read and written by one instruction. Words of the same page may be accessed in different
/// sizes: the language's atomics do not allow that, the processor does.
trait Integer: Copy + Default {}
impl Integer for u8 {}
impl Integer for u32 {}
impl Integer for u64 {}

/// Writes `new` to a word if `old` stands there. Returns what stood there.
///
/// # Safety
///
/// `place` must be aligned, and valid for reading and writing.
unsafe fn compare_exchange_u32(place: *mut u32, old: u32, new: u32) -> u32 {
    let found;
    // SAFETY: The caller guarantees the place ("aligned, and valid").
    unsafe {
        asm!("lock cmpxchg [{}], {:e}", in(reg) place, in(reg) new,
            inout("eax") old => found, options(nostack));
    }
    found
}

/// As [`compare_exchange_u32`].
///
/// # Safety
///
/// `place` must be aligned, and valid for reading and writing.
unsafe fn compare_exchange_u64(place: *mut u64, old: u64, new: u64) -> u64 {
    let found;
    // SAFETY: The caller guarantees the place ("aligned, and valid").
    unsafe {
        asm!("lock cmpxchg [{}], {}", in(reg) place, in(reg) new,
            inout("rax") old => found, options(nostack));
    }
    found
}

/// Writes a word and returns what stood there.
///
/// # Safety
///
/// `place` must be aligned, and valid for reading and writing.
unsafe fn exchange_u64(place: *mut u64, new: u64) -> u64 {
    let old;
    // SAFETY: The caller guarantees the place ("aligned, and valid").
    unsafe {
        asm!("xchg [{}], {}", in(reg) place, inout(reg) new => old,
            options(nostack, preserves_flags));
    }
    old
}

/// Copies memory of which one side may change meanwhile, by one instruction.
///
/// # Safety
///
/// `from` must be valid for reading `len` words, `to` for writing them.
unsafe fn copy_words(from: *const u64, to: *mut u64, len: usize) {
    // SAFETY: The caller guarantees both ranges ("valid for"); the direction flag is clear in Rust.
    unsafe {
        asm!("rep movsq", inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}
