// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel shares with userspace and with the TDX module.

// UNSAFETY: volatile and atomic access to memory that others write at the same time.
#![allow(unsafe_code)]

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::alloc::flags::__GFP_ZERO;
use kernel::mm::virt::{VmaMixedMap, VmaNew};
use kernel::page::{Page, PAGE_SIZE};
use kernel::prelude::*;
use kernel::transmute::{AsBytes, FromBytes};

use crate::ffi;

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
// volatile or atomic.
unsafe impl Send for SharedPage {}
// SAFETY: As above: access through `&self` from several threads is volatile or atomic.
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

    /// Address of `T` at `offset`, or of the page's start when that would be outside or misaligned:
    /// all offsets are constants of `pure::uapi`, so it never is.
    fn at<T>(&self, offset: usize) -> *mut T {
        let is_inside = offset <= PAGE_SIZE - size_of::<T>() && offset % align_of::<T>() == 0;
        let offset = if is_inside { offset } else { 0 };
        self.base.as_ptr().wrapping_add(offset).cast()
    }

    /// Reads an integer, once.
    fn read<T: FromBytes>(&self, offset: usize) -> T {
        // SAFETY: `at` returns an aligned address within the page, which `self` owns; any bytes are
        // a `T`.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Writes an integer, once.
    fn write<T: AsBytes>(&self, offset: usize, value: T) {
        // SAFETY: `at` returns an aligned address within the page, which `self` owns.
        unsafe { self.at::<T>(offset).write_volatile(value) }
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
        if !Self::has_words(offset, LEN) {
            return;
        }
        let base = self.base.as_ptr().wrapping_add(offset).cast::<u64>();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: All `LEN` words are within the page, which `self` owns; `offset` is a multiple
            // of 8 with all callers.
            unsafe { base.wrapping_add(index).write_volatile(*word) }
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

    /// A word that several CPUs and userspace change at the same time.
    fn shared_u32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `at` returns an aligned address within the page, which `self` owns; all other
        // access to it is volatile, atomic, or of another privilege level.
        unsafe { AtomicU32::from_ptr(self.at(offset)) }
    }

    /// Sets bits of a word, as one access and a full barrier. Returns what stood there before.
    pub(crate) fn set_bits_u32(&self, offset: usize, bits: u32) -> u32 {
        self.shared_u32(offset).fetch_or(bits, Ordering::SeqCst)
    }

    /// Clears bits of a word, as one access and a full barrier. Returns what stood there before.
    pub(crate) fn clear_bits_u32(&self, offset: usize, bits: u32) -> u32 {
        self.shared_u32(offset).fetch_and(!bits, Ordering::SeqCst)
    }

    /// A word for access in one step.
    fn atomic(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `at` returns an aligned address within the page, which `self` owns; all other
        // access to it is volatile, atomic, or of another privilege level.
        unsafe { AtomicU64::from_ptr(self.at(offset)) }
    }

    /// Writes `new` where `old` still stands.
    pub(crate) fn replace_u64(&self, offset: usize, old: u64, new: u64) {
        let word = self.atomic(offset);
        // A lost race is fine: then userspace has written something newer, which stays.
        let _ = word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Reads a word and leaves zero.
    pub(crate) fn take_u64(&self, offset: usize) -> u64 {
        // ORDERING: who takes a bit sees what was written before it was set.
        self.atomic(offset).swap(0, Ordering::Acquire)
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
