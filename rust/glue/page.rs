// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel shares with userspace and with the TDX module.

// UNSAFETY: access to memory that others write at the same time.
#![allow(unsafe_code)]

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

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

// SAFETY: `base` is an address of the direct map, the same on every CPU; all access through it is
// atomic, or one instruction.
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

    /// The page as integers that others may change at any time. What is outside of it is nowhere: all
    /// offsets are constants of `pure::uapi`, so nothing ever is.
    fn bytes(&self) -> &[AtomicU8; PAGE_SIZE] {
        // SAFETY: By the invariant the page is there as long as `self`; nobody accesses it but by
        // atomic operations, one instruction of `copy_words`, or at another privilege level.
        unsafe { self.base.cast().as_ref() }
    }

    fn words(&self) -> &[AtomicU32; PAGE_SIZE / 4] {
        // SAFETY: As above; a page is aligned for any integer.
        unsafe { self.base.cast().as_ref() }
    }

    fn long_words(&self) -> &[AtomicU64; PAGE_SIZE / 8] {
        // SAFETY: As above.
        unsafe { self.base.cast().as_ref() }
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
        for (to, word) in self.long_words().iter().skip(offset / 8).zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
    }

    /// Reads a byte, once.
    pub(crate) fn read_u8(&self, offset: usize) -> u8 {
        let byte = self.bytes().get(offset);
        byte.map_or(0, |byte| byte.load(Ordering::Relaxed))
    }

    /// Reads a word, once.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        let word = self.words().get(offset / 4);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Reads a word, once.
    pub(crate) fn read_u64(&self, offset: usize) -> u64 {
        let word = self.long_words().get(offset / 8);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Writes a byte, once.
    pub(crate) fn write_u8(&self, offset: usize, value: u8) {
        if let Some(byte) = self.bytes().get(offset) {
            byte.store(value, Ordering::Relaxed);
        }
    }

    /// Writes a word, once.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        if let Some(word) = self.words().get(offset / 4) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Writes a word, once.
    pub(crate) fn write_u64(&self, offset: usize, value: u64) {
        if let Some(word) = self.long_words().get(offset / 8) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Sets bits of a word, as one access and a full barrier. Returns what stood there before.
    pub(crate) fn set_bits_u32(&self, offset: usize, bits: u32) -> u32 {
        let word = self.words().get(offset / 4);
        word.map_or(0, |word| word.fetch_or(bits, Ordering::SeqCst))
    }

    /// Clears bits of a word, as one access and a full barrier. Returns what stood there before.
    pub(crate) fn clear_bits_u32(&self, offset: usize, bits: u32) -> u32 {
        let word = self.words().get(offset / 4);
        word.map_or(0, |word| word.fetch_and(!bits, Ordering::SeqCst))
    }

    /// Writes `new` where `old` still stands. Returns true if it did.
    pub(crate) fn replace_u64(&self, offset: usize, old: u64, new: u64) -> bool {
        let word = self.long_words().get(offset / 8);
        // ORDERING: who takes a request out of a word sees what was written before it was made.
        word.is_some_and(|word| {
            word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Reads a word and leaves zero.
    pub(crate) fn take_u64(&self, offset: usize) -> u64 {
        let word = self.long_words().get(offset / 8);
        // ORDERING: who takes a bit sees what was written before it was set.
        word.map_or(0, |word| word.swap(0, Ordering::Acquire))
    }
}

/// Copies memory of which one side may change meanwhile: no access of the language, which would be
/// a race, but one instruction.
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
