// SPDX-License-Identifier: GPL-2.0
//! Which guest-physical memory can be memory of a lower VTL, and whether the host gives it.
//!
//! The TDX module answers a question about a page that the host never gave by asking the host for
//! it, and a host without such a page stops the trust domain. So nothing is asked about addresses
//! that the firmware's memory map doesn't name, unless the module parameter `unlisted_memory` says
//! that the map tells nothing about the lower VTLs.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::glue::abi::{self, safe_in_c};
use crate::module_parameters;
use crate::pure::accepted::Piece;

// No argument makes them touch memory of this kernel, and the map that they look at does not change
// after boot.
safe_in_c! {
    fn vtl_is_listed_memory(start: u64, len_bytes: u64) -> bool;
    fn vtl_shared_look(start: u64, len_bytes: u64) -> abi::vtl_presence;
}

/// Whether every page of a range is memory as far as this kernel was told.
pub(super) fn is_known(start_gpa: u64, len_bytes: u64) -> bool {
    if module_parameters::unlisted_memory.value() != 0 {
        return true;
    }
    if start_gpa.checked_add(len_bytes).is_none() {
        return false;
    }
    vtl_is_listed_memory(start_gpa, len_bytes)
}

/// Whether the host gives a shared page, or each of a larger piece. The TDX module knows nothing
/// about it. A piece of 1 GiB has too many to look at.
pub(super) fn look_at_shared(gpa: u64, level: u8) -> Piece {
    if level > 1 {
        return Piece::NotAccepted;
    }
    match vtl_shared_look(gpa, crate::pure::accepted::bytes(level)) {
        abi::vtl_presence_VTL_PRESENT => Piece::Accepted,
        abi::vtl_presence_VTL_ABSENT => Piece::NotAccepted,
        _ => Piece::Unknown,
    }
}
