// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<MapGPA>.
//!
//! A page is reachable by one alias at a time: sharing removes the private page, un-sharing gives
//! a new private one that waits for acceptance.

use super::status;
use crate::hostile::What;
use crate::machine::Processor;
use crate::mem::map::Range;
use crate::setup::World;
use crate::vp::Vp;
use tdx_model::gpa::{Gpa, SHARED_BIT};
use tdx_model::host::Conversion;

const PAGE: u64 = 4096;

/// Converts a range to the alias its SHARED bit names. Returns the status, and the first address
/// that was not done.
pub fn map_gpa(vp: &mut Vp, start: u64, len_bytes: u64) -> (u64, u64) {
    let gpa = Gpa(start);
    if start % PAGE != 0 || len_bytes % PAGE != 0 {
        return (status::ALIGN_ERROR, start);
    }
    if gpa.is_beyond_width() || len_bytes == 0 || len_bytes > SHARED_BIT {
        return (status::INVALID_OPERAND, start);
    }
    let first = gpa.without_shared();
    // Memory of devices has no private side: there is nothing to convert. A range that is not all of one
    // kind is refused, before a part of it is converted.
    let range = Range::new(first.0, first.0 + len_bytes);
    if !vp.platform.ram.overlaps(&range) {
        return (status::SUCCESS, start);
    }
    let asked_bytes = len_bytes;
    let len_bytes = part_of(vp, len_bytes);
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    let is_memory = vp.platform.ram.is_all(&range);
    if !is_memory || !vp.platform.memory.contains(first.0, asked_bytes) {
        return (status::INVALID_OPERAND, start);
    }
    let to = if gpa.is_shared() {
        Conversion::ToShared
    } else {
        Conversion::ToPrivate
    };
    let mut processor = Processor::new(vp, spaces);
    let result = td.host_convert(first, len_bytes, to, &mut processor);
    processor.finish();
    match result {
        Ok(()) if len_bytes < asked_bytes => (status::RETRY, start + len_bytes),
        Ok(()) => (status::SUCCESS, start),
        Err(first_left) => (status::INVALID_OPERAND, first_left.0 | (start & SHARED_BIT)),
    }
}

/// How much of a range is converted before the host asks for a retry: all of it, unless the host is
/// hostile. At least a page, so that the caller makes progress.
fn part_of(vp: &mut Vp, len_bytes: u64) -> u64 {
    let chaos = &mut vp.host.chaos;
    if len_bytes > PAGE && chaos.strikes(What::Page, 2) {
        PAGE * (1 + chaos.below(len_bytes / PAGE - 1))
    } else {
        len_bytes
    }
}
