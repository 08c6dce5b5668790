// SPDX-License-Identifier: GPL-2.0
//! Descriptors of VTL files: how they are made, and what goes with the last one of a process.
//!
//! The file itself may live on after that: mapped, sent through a socket, registered with an
//! io_uring instance. If a VTL file held such a socket, each would keep the other for ever; the kernel
//! collects no such cycle. So what a VTL file holds for a process goes with the last descriptor of
//! that process, be it closed, by exec or by the end of the process, and not with the file.
//!
//! A process is known by its table of descriptors, as the owner of a POSIX lock is. A table lives
//! until every descriptor in it is closed, and [`flush`] is called for each of them.

// UNSAFETY: a callback of the kernel, and its table of them.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::fs::file::{flags, FileDescriptorReservation};
use kernel::fs::File;
use kernel::miscdevice::MiscDeviceOptions;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;
use kernel::types::ForeignOwnable;

use crate::glue::abi;
use crate::nodes::device::{Vtl, VtlFile};

const NAME: &CStr = c"mshv_vtl";

/// A table of descriptors, for comparing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table(usize);

impl Table {
    /// That of the current process.
    pub(crate) fn current() -> Self {
        // SAFETY: No requirement.
        Self(unsafe { abi::vtl_descriptors() } as usize) // CAST: an address
    }
}

/// Returns true if the current process has a descriptor of the file.
pub(crate) fn is_open(file: &File) -> bool {
    // SAFETY: The file is valid by the invariant of `File`.
    unsafe { abi::vtl_has_descriptor(file.as_ptr()) }
}

/// What the abstraction of misc devices makes, and [`flush`], which it has no place for.
#[repr(transparent)]
struct Operations(bindings::file_operations);

// SAFETY: Never written; what it points to are functions, and the module itself.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::file_operations {
    flush: Some(flush),
    // SAFETY: The abstraction's own table, a constant.
    ..unsafe { *MiscDeviceOptions { name: NAME }.into_raw::<Vtl>().fops }
});

/// Gives a file of the misc device these operations, while it is opened.
pub(crate) fn adopt(file: &File) {
    // SAFETY: Nobody else has the file before its open operation has returned, which calls this. The
    // module that owns the operations stays the same.
    unsafe { (*file.as_ptr()).f_op = &raw const OPERATIONS.0 }
}

/// Makes a descriptor of a new VTL file, closed on exec.
pub(crate) fn new(vtl: Arc<VtlFile>) -> Result<isize> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let private = vtl.into_foreign();
    // SAFETY: The operations are static and want exactly this as private data of the file.
    let file = unsafe {
        abi::anon_inode_getfile(
            NAME.as_char_ptr(),
            &raw const OPERATIONS.0,
            private.cast(),
            flags::O_RDWR as c_int, // CAST: a small flag
        )
    };
    let file = from_err_ptr(file).inspect_err(|_| {
        // SAFETY: Made above, and no file has it.
        drop(unsafe { <Arc<VtlFile> as ForeignOwnable>::from_foreign(private) });
    })?;
    let file = NonNull::new(file.cast::<File>()).ok_or(EINVAL)?;
    // SAFETY: The call above gave us the only reference to a new file.
    let file = unsafe { ARef::from_raw(file) };
    let number = reservation.reserved_fd();
    reservation.fd_install(file);
    Ok(number as isize) // CAST: a file descriptor is a small number
}

/// A descriptor of the file is closed; `table` is the one that it was in.
///
/// # Safety
///
/// `file` is a VTL file that was opened and is not released.
unsafe extern "C" fn flush(file: *mut bindings::file, table: bindings::fl_owner_t) -> c_int {
    // SAFETY: The file is valid ("opened and is not released"); `table` is only compared.
    if unsafe { abi::vtl_was_last_descriptor(file, table) } {
        // SAFETY: As above; `open` and `new` gave a VTL file this as its private data.
        let vtl = unsafe { <Arc<VtlFile> as ForeignOwnable>::borrow((*file).private_data) };
        vtl.closed_by(Table(table as usize)); // CAST: an address
    }
    0
}
