// SPDX-License-Identifier: GPL-2.0
//! Probes shared memory of a lower VTL: the host may not provide it.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::glue::abi::{self, safe_in_c};
use crate::pure::accepted::Piece;
use crate::pure::lower::LowerRange;

// No argument makes it access memory of this kernel.
safe_in_c! {
    fn vtl_shared_look(start: u64, len_bytes: u64) -> abi::vtl_presence;
}

/// Checks that the host provides each shared page of a piece, which the TDX module can't tell.
pub(super) fn look_at_shared(piece: LowerRange) -> Piece {
    match vtl_shared_look(piece.start_gpa(), piece.len_bytes()) {
        abi::vtl_presence_VTL_PRESENT => Piece::Accepted,
        abi::vtl_presence_VTL_ABSENT => Piece::NotAccepted,
        _ => Piece::Unknown,
    }
}
