// SPDX-License-Identifier: GPL-2.0
//! Pages of the caller that the TDX module uses by their physical address.
//!
//! A paravisor knows the physical addresses of its own locked memory, and names them in a TDCALL.
//! The kernel believes it only when it finds the page in the caller's address space, writable; it
//! is then pinned, so that it stays what and where it is for as long as the TDX module uses it.

// UNSAFETY: FFI calls that must be paired.
#![allow(unsafe_code)]

use crate::glue::abi;

/// A page that can't move or be freed.
pub(crate) struct PinnedPage {
    gpa: u64,
}

impl PinnedPage {
    /// Pins the page at a physical address if the current process has mapped it, writable, as
    /// ordinary memory. May sleep.
    pub(crate) fn of_caller(gpa: u64) -> Option<Self> {
        // SAFETY: In a task that may sleep and holds no lock of an address space.
        unsafe { abi::vtl_pin_own_page(gpa) }.then(|| Self { gpa })
    }

    /// Its address.
    pub(crate) fn gpa(&self) -> u64 {
        self.gpa
    }
}

/// Reads a byte of a pinned page, once. The process may change it at any time.
pub(crate) fn read_pinned(gpa: u64, offset: usize) -> u8 {
    // SAFETY: `apic_pages.rs` names a page as long as it is pinned, and only that; pages of the
    // System RAM are in the direct map. The offset is a constant, within a page.
    unsafe { abi::vtl_read_pinned(gpa, offset) }
}

impl Drop for PinnedPage {
    fn drop(&mut self) {
        // SAFETY: Pinned by `of_caller`, once.
        unsafe { abi::vtl_unpin_page(self.gpa) }
    }
}
