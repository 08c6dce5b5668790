// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The lowest layer, with all of the unsafe code: system calls of the ABI, memory that others write
//! to, and the time-stamp counter.
//!
//! Its interface is safe: a request carries an operand of the size encoded in its number, and an
//! access to a mapping is within it, by one load or store.

// UNSAFETY: ioctl with a pointer argument, mmap, shared memory, one instruction.
#![expect(unsafe_code)]

mod hyperv;
mod mapping;
mod request;
mod tsc;
mod vtl;

pub(crate) use hyperv::{hvcall, hvcall_setup, sint_event, sint_eventfd, sint_pause, sint_post};
pub(crate) use mapping::{Mapping, Protection};
pub use tsc::tsc;
pub(crate) use vtl::{
    Grows, add_memory, check_extension, cr4_fixed1, create_vtl, get_registers, kick, map_interrupt,
    query, read_event, reset, restore_time, return_to_lower_vtl, set_poll_file, set_registers,
    set_up_switch, tdcall, tdx_report, xsave_get, xsave_set,
};
