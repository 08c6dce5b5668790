// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory that is not Rust's alone: VTL0's, by its guest-physical addresses, and pages shared with
//! VTL2 at fixed addresses; and state that the calls share.

// UNSAFETY: memory by address, and a cell whose lock is taken or refused.
#![expect(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use vtl1::boot::{ASSIST_VA, BOOT_VA, Boot, HYPERCALL_VA};
use vtl1::memory::LowerMemory;
use vtl1::ranges::PAGE;

/// Copies byte by byte, between a Rust object and memory that others change at the same time.
///
/// # Safety
/// Both ranges of `len` bytes are mapped, `to` is writable, and no Rust reference to the one that is
/// shared exists.
unsafe fn copy(to: u64, from: u64, len: usize) {
    // SAFETY: the contract of this function; RFLAGS.DF is clear since start.S.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _,
             options(nostack, preserves_flags));
    }
}

fn read(from: u64, bytes: &mut [u8]) {
    let to = bytes.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the callers pass VTL0's memory, checked by the library, or a page of this module;
    // VTL2 maps both, and no reference to them exists. `bytes` is borrowed exclusively.
    unsafe { copy(to, from, bytes.len()) };
}

fn write(to: u64, bytes: &[u8]) {
    let from = bytes.as_ptr().expose_provenance() as u64;
    // SAFETY: as in `read`. What is written is never VTL1's own memory: the lower half has VTL0's
    // only, and the pages of this module hold no Rust object.
    unsafe { copy(to, from, bytes.len()) };
}

/// VTL0's memory.
pub(crate) struct Vtl0Memory;

impl LowerMemory for Vtl0Memory {
    fn read(&self, gpa: u64, bytes: &mut [u8]) {
        read(gpa, bytes);
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) {
        write(gpa, bytes);
    }
}

/// VTL1's VP assist page. [TLFS 15.5]
pub(crate) struct Assist;

impl Assist {
    /// Why VTL1 was entered.
    pub(crate) fn entry_reason(&self) -> u32 {
        const REASON: u64 = 0x08;
        let mut reason = [0; 4];
        read(ASSIST_VA + REASON, &mut reason);
        u32::from_le_bytes(reason)
    }

    /// Sets RAX and RCX of VTL0 after the return.
    pub(crate) fn set_return(&self, registers: [u64; 2]) {
        const REGISTERS: u64 = 0x10;
        let bytes = registers.map(u64::to_le_bytes);
        write(ASSIST_VA + REGISTERS, bytes.as_flattened());
    }
}

/// The page by which VTL2 tells what VTL1 needs at its start.
pub(crate) struct BootPage;

impl BootPage {
    /// Decodes the page, and overwrites it.
    pub(crate) fn take(&self) -> Option<Boot> {
        let mut page = [0; PAGE as usize];
        read(BOOT_VA, &mut page);
        write(BOOT_VA, &[0; PAGE as usize]);
        let boot = Boot::decode(&page);
        zeroize::Zeroize::zeroize(&mut page);
        boot
    }
}

/// The input page of hypercalls.
pub(crate) struct HypercallPage;

impl HypercallPage {
    /// Writes words by their numbers, which the library keeps below 512.
    pub(crate) fn write(&self, words: impl Iterator<Item = (usize, u64)>) {
        for (number, word) in words.take(512) {
            // CAST: widening.
            write(
                HYPERCALL_VA + 8 * (number as u64 % 512),
                &word.to_le_bytes(),
            );
        }
    }
}

/// State of one user at a time; a second one is refused.
pub(crate) struct Exclusive<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives the value to one processor at a time, by `is_taken`.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Calls `use_it` with the value; `None` if somebody has it.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `is_taken` was false and is true until below, so this is the only reference.
        let result = use_it(unsafe { &mut *self.value.get() });
        self.is_taken.store(false, Ordering::Release);
        Some(result)
    }
}
