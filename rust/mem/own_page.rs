// SPDX-License-Identifier: GPL-2.0
//! Pages of the caller that the TDX module uses by their physical address.
//!
//! A paravisor knows the physical addresses of its own locked memory, and passes them to TDCALLs.
//! The kernel accepts an address only if it finds the page in the caller's address space, mapped
//! writable. It pins the page, which then stays allocated and in place for as long as the TDX
//! module uses it.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::bindings;

use crate::glue::abi::{self, safe_in_c, ErrPtr, Made, TakenBack};

// The first pins a page of the caller or none. The second makes no access that could fault.
safe_in_c! {
    fn vtl_pin_own_page(gpa: u64) -> ErrPtr<bindings::page> as *mut bindings::page;
    fn vtl_read_pinned(gpa: u64, offset: usize) -> u8;
}

// SAFETY: Any task may unpin a page.
unsafe impl TakenBack for bindings::page {
    const TAKE_BACK: unsafe extern "C" fn(*mut Self) = abi::vtl_unpin_page;
}

/// A page of a process, pinned.
pub(crate) struct PinnedPage {
    gpa: u64,
    /// Only kept for its drop, which unpins the page.
    _page: Made<bindings::page>,
}

impl PinnedPage {
    /// Pins the page at a physical address if the current process has mapped it writable, as
    /// ordinary memory. May sleep.
    pub(crate) fn of_caller(gpa: u64) -> Option<Self> {
        let _page = vtl_pin_own_page(gpa).made().ok()?;
        Some(Self { gpa, _page })
    }

    /// Its address.
    pub(crate) fn gpa(&self) -> u64 {
        self.gpa
    }
}

/// Reads a byte of a pinned page, once. The process may write to it at any time.
pub(crate) fn read_pinned(gpa: u64, offset: usize) -> u8 {
    vtl_read_pinned(gpa, offset)
}
