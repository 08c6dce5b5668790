// SPDX-License-Identifier: GPL-2.0
//! What the nodes need from the kernel and the kernel crate does not offer: further file
//! operations, a file without a node, and callbacks when a file becomes readable or the kernel
//! shuts down.

// UNSAFETY: callbacks of the kernel, and tables of them.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::fs::file::{flags, LocalFile};
use kernel::fs::File;
use kernel::miscdevice::{MiscDevice, MiscDeviceOptions};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::poll::PollTable;
use kernel::sync::Arc;
use kernel::types::ForeignOwnable;

use crate::glue::abi::{self, safe_in_c, Made, TakenBack};
use crate::glue::ffi::{call_back, Callback};
use crate::nodes::descriptor::Table;
use crate::nodes::device::{Vtl, VtlFile};
use crate::nodes::sint::{Sint, SintFile};
use crate::vp::machine::Machine;
use crate::vp::Vp;

// The first starts what the second stops. After the second and the third return, no registered
// function is called any more. The fourth only compares pointers.
safe_in_c! {
    fn vtl_attest_start(interval_s: u32);
    fn vtl_attest_stop();
    fn vtl_shutdown_unregister();
    fn vtl_was_last_descriptor(file: *const bindings::file, table: *const c_void) -> bool;
}

/// File operations: those of the misc device abstraction, and further ones that it does not have.
pub(super) struct FileOperations(bindings::file_operations);

// SAFETY: Never written after build; it points to functions and to the module itself.
unsafe impl Sync for FileOperations {}

impl FileOperations {
    /// The operations of a VTL file.
    pub(super) const fn of_vtl() -> Self {
        Self(bindings::file_operations {
            flush: Some(flush),
            ..of_crate::<Vtl>()
        })
    }

    /// The operations of a file of `/dev/mshv_sint`.
    pub(super) const fn of_sint() -> Self {
        Self(bindings::file_operations {
            poll: Some(poll),
            ..of_crate::<Sint>()
        })
    }
}

/// The abstraction's own operations.
const fn of_crate<T: MiscDevice>() -> bindings::file_operations {
    // SAFETY: They are a constant, made by the kernel crate.
    unsafe { *MiscDeviceOptions { name: c"" }.into_raw::<T>().fops }
}

/// Replaces the abstraction's operations of a file of a misc device while it is being opened.
pub(super) fn adopt(file: &File, operations: &'static FileOperations) {
    // SAFETY: Nothing else uses the file before its open operation returns, and that operation
    // calls this. The owner of the operations is the same module, so its reference count stays
    // right.
    unsafe { (*file.as_ptr()).f_op = &raw const operations.0 }
}

/// Makes a VTL file without a node. `operations` are those of [`FileOperations::of_vtl`].
pub(super) fn new_file(
    name: &CStr,
    operations: &'static FileOperations,
    vtl: Arc<VtlFile>,
) -> Result<ARef<File>> {
    let private = vtl.into_foreign();
    // SAFETY: The operations are static, and expect this type as private data of the file.
    let file = unsafe {
        abi::anon_inode_getfile(
            name.as_char_ptr(),
            &raw const operations.0,
            private.cast(),
            flags::O_RDWR as c_int, // CAST: a small flag
        )
    };
    let file = from_err_ptr(file).inspect_err(|_| {
        // SAFETY: It was made above, and no file has taken it.
        drop(unsafe { <Arc<VtlFile> as ForeignOwnable>::from_foreign(private) });
    })?;
    let file = NonNull::new(file.cast::<File>()).ok_or(EINVAL)?;
    // SAFETY: The call above returned the only reference to a new file.
    Ok(unsafe { ARef::from_raw(file) })
}

/// Tells poll() and epoll if a read would block.
///
/// # Safety
///
/// `file` is an open file of `/dev/mshv_sint`, and `table` is valid or null.
unsafe extern "C" fn poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: "an open file of `/dev/mshv_sint`": `open` set this as its private data.
    let sint = unsafe { <Arc<SintFile> as ForeignOwnable>::borrow((*file).private_data) };
    let Ok(synic) = sint.synic() else {
        return bindings::POLLERR;
    };
    // SAFETY: The file is open, and its position is not used meanwhile.
    let file = unsafe { File::from_raw_file(file) };
    // SAFETY: "`table` is valid or null", until this function returns.
    let table = unsafe { PollTable::from_raw(table) };
    synic.readers.register(file, &table);
    if synic.is_ready() {
        bindings::POLLIN | bindings::POLLRDNORM
    } else {
        0
    }
}

/// A descriptor of the file is being closed; `table` is the descriptor table that it was in.
///
/// # Safety
///
/// `file` is a VTL file that was opened and is not released.
unsafe extern "C" fn flush(file: *mut bindings::file, table: bindings::fl_owner_t) -> c_int {
    if vtl_was_last_descriptor(file, table) {
        // SAFETY: The file is valid ("opened and is not released"), and `open` and `new_file` set
        // this as the private data of a VTL file.
        let vtl = unsafe { <Arc<VtlFile> as ForeignOwnable>::borrow((*file).private_data) };
        vtl.closed_by(Table::of(table));
    }
    0
}

/// Cancels the run of a VP whenever a file is readable. Unregistered before the machine is
/// released.
pub(super) struct Readable {
    _registered: Made<abi::vtl_poll>,
    _machine: Arc<Machine>,
}

// SAFETY: Any task may free it, once.
unsafe impl TakenBack for abi::vtl_poll {
    const TAKE_BACK: unsafe extern "C" fn(*mut Self) = abi::vtl_poll_free;
}

impl Readable {
    /// Registers it for the VP of a CPU.
    ///
    /// # Errors
    ///
    /// ENXIO: no such VP. EINVAL: the file can't be polled. ENOMEM.
    pub(super) fn new(file: &LocalFile, machine: Arc<Machine>, cpu: u32) -> Result<Self> {
        let vp: *const Vp = machine.vp(cpu).ok_or(ENXIO)?;
        let about = vp.cast_mut().cast();
        let wake = Some(call_back::<OnReadable, _> as unsafe extern "C" fn(*mut c_void));
        // SAFETY: The file is valid. The callback gets a VP, which exists as long as the machine,
        // to which the new object holds a reference. The result is freed only by its drop.
        let registered = unsafe { Made::new(abi::vtl_poll_new(file.as_ptr(), wake, about)) };
        Ok(Self {
            _registered: registered?,
            _machine: machine,
        })
    }
}

/// The file has become readable. Called in any context.
struct OnReadable;

impl Callback for OnReadable {
    type About = Vp;
    type Output = ();

    fn call(vp: &Vp) {
        vp.cancel();
    }
}

/// Registration of a function that is called before the kernel shuts down.
pub(super) struct BeforeShutdown(());

impl BeforeShutdown {
    /// Registers functions of this module, which are called in a task that may sleep: one before
    /// shutdown, the other one while there are [`Checkpoints`].
    pub(super) fn new(begins: extern "C" fn(), checkpoint: extern "C" fn()) -> Self {
        // SAFETY: The functions belong to this module, and `drop`, here and of `Checkpoints`,
        // unregisters them before the module goes away.
        unsafe { abi::vtl_shutdown_register(Some(begins), Some(checkpoint)) };
        Self(())
    }
}

impl Drop for BeforeShutdown {
    fn drop(&mut self) {
        vtl_shutdown_unregister();
    }
}

/// Periodic checkpoints; after the drop none is being made any more.
pub(super) struct Checkpoints(());

impl Checkpoints {
    /// Starts them, by the function that [`BeforeShutdown`] was given.
    pub(super) fn every(interval_s: u32) -> Self {
        vtl_attest_start(interval_s);
        Self(())
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        vtl_attest_stop();
    }
}
