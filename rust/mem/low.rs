// SPDX-License-Identifier: GPL-2.0
//! Which guest-physical memory can be memory of a lower VTL.
//!
//! The TDX module answers a question about a page that the host never gave by asking the host for
//! it, and a host without such a page stops the trust domain. So nothing is asked about addresses
//! that the firmware's memory map doesn't name, unless the module parameter `unlisted_memory` says
//! that the map tells nothing about the lower VTLs.

// UNSAFETY: an FFI call without requirements.
#![allow(unsafe_code)]

use crate::abi;
use crate::module_parameters;

/// Whether every page of a range is memory as far as this kernel was told.
pub(super) fn is_known(start_gpa: u64, len_bytes: u64) -> bool {
    if module_parameters::unlisted_memory.value() != 0 {
        return true;
    }
    if start_gpa.checked_add(len_bytes).is_none() {
        return false;
    }
    // SAFETY: No requirement: the map does not change after boot.
    unsafe { abi::vtl_is_listed_memory(start_gpa, len_bytes) }
}
