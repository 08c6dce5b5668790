// SPDX-License-Identifier: GPL-2.0
//! Descriptors of VTL files: how they are made, and what goes with the last one of a process.
//!
//! The file itself may live on after that: mapped, sent through a socket, registered with an
//! io_uring instance. If a VTL file held such a socket, each would keep the other for ever; the kernel
//! collects no such cycle. So what a VTL file holds for a process goes with the last descriptor of
//! that process, be it closed, by exec or by the end of the process, and not with the file.
//!
//! A process is known by its table of descriptors, as the owner of a POSIX lock is. A table lives
//! until every descriptor in it is closed, and the `flush` of `c.rs` is called for each of them.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::fs::file::{flags, FileDescriptorReservation};
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::glue::abi::safe_in_c;
use crate::nodes::c::{self, Operations};
use crate::nodes::device::VtlFile;

// They name the table of the current process, and look for a pointer among those in it.
safe_in_c! {
    fn vtl_descriptors() -> *mut c_void;
    fn vtl_has_descriptor(file: *const bindings::file) -> bool;
}

const NAME: &CStr = c"mshv_vtl";

/// A table of descriptors, for comparing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table(usize);

impl Table {
    /// That of the current process.
    pub(crate) fn current() -> Self {
        Self::of(vtl_descriptors())
    }

    /// For the address of one.
    pub(super) fn of(table: *const c_void) -> Self {
        Self(table.addr())
    }
}

/// Returns true if the current process has a descriptor of the file.
pub(crate) fn is_open(file: &File) -> bool {
    vtl_has_descriptor(file.as_ptr())
}

static OPERATIONS: Operations = Operations::of_vtl();

/// Gives a file of the misc device the operations of a VTL file, while it is opened.
pub(crate) fn adopt(file: &File) {
    c::adopt(file, &OPERATIONS);
}

/// Makes a descriptor of a new VTL file, closed on exec.
pub(crate) fn new(vtl: Arc<VtlFile>) -> Result<isize> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let file = c::new_file(NAME, &OPERATIONS, vtl)?;
    let number = reservation.reserved_fd();
    reservation.fd_install(file);
    Ok(number as isize) // CAST: a file descriptor is a small number
}
