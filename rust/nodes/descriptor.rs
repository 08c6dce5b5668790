// SPDX-License-Identifier: GPL-2.0
//! Descriptors of VTL files: how they are made, and what ends with the last one of a process.
//!
//! The file itself may live on after that: mapped, sent through a socket, or registered with
//! io_uring. If a VTL file held such a socket, each would keep the other alive for ever; the
//! kernel's garbage collection does not find such cycles. So what a VTL file holds on behalf of a
//! process ends with the last descriptor of that process, whether it is closed, or goes away by
//! exec or exit; not with the file.
//!
//! A process is identified by its descriptor table, as for POSIX locks. A table exists until every
//! descriptor in it is closed, and `flush` in `c.rs` is called for each of them.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::fs::file::{flags, FileDescriptorReservation};
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::glue::abi::safe_in_c;
use crate::nodes::c::{self, FileOperations};
use crate::nodes::device::VtlFile;

// They return the table of the current process, and compare a pointer with those in it.
safe_in_c! {
    fn vtl_descriptors() -> *mut c_void;
    fn vtl_has_descriptor(file: *const bindings::file) -> bool;
}

const NAME: &CStr = c"mshv_vtl";

/// Identifies a descriptor table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table(usize);

impl Table {
    /// The table of the current process.
    pub(crate) fn current() -> Self {
        Self::of(vtl_descriptors())
    }

    /// The table at an address.
    pub(super) fn of(table: *const c_void) -> Self {
        Self(table.addr())
    }
}

/// Returns true if the current process has a descriptor of the file.
pub(crate) fn is_open(file: &File) -> bool {
    vtl_has_descriptor(file.as_ptr())
}

static OPERATIONS: FileOperations = FileOperations::of_vtl();

/// Gives a file of the misc device the operations of a VTL file while it is being opened.
pub(crate) fn adopt(file: &File) {
    c::adopt(file, &OPERATIONS);
}

/// Makes a descriptor of a new VTL file, with O_CLOEXEC.
pub(crate) fn new(vtl: Arc<VtlFile>) -> Result<isize> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let file = c::new_file(NAME, &OPERATIONS, vtl)?;
    let number = reservation.reserved_fd();
    reservation.fd_install(file);
    Ok(number as isize) // CAST: a file descriptor is a small number
}
