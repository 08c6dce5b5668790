// SPDX-License-Identifier: GPL-2.0
//! `MSHV_SET_POLL_FILE`: a file that cancels the run of a VP when it becomes readable.
//!
//! A VTL file has at most one registration per CPU. Each holds a reference to its file and belongs
//! to the process that made it; `descriptor.rs` says when it ends. `poll.c` adds the entry to the
//! file's wait queue.

use kernel::fs::file::LocalFile;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::nodes::c::Readable;
use crate::nodes::descriptor::Table;
use crate::vp::machine::Machine;

/// One registration.
pub(crate) struct PollFile {
    _readable: Readable,
    cpu: u32,
    table: Table,
}

impl PollFile {
    /// Registers a file: runs of the VP are cancelled whenever it is readable.
    ///
    /// # Errors
    ///
    /// ENXIO: no such VP. EBADF: no such file. EINVAL: the file can't be polled. ENOMEM.
    fn new(machine: Arc<Machine>, cpu: u32, descriptor: u32, table: Table) -> Result<Self> {
        machine.vp(cpu).ok_or(ENXIO)?;
        let file = LocalFile::fget(descriptor).map_err(|_| EBADF)?;
        Ok(Self {
            _readable: Readable::new(&file, machine, cpu)?,
            cpu,
            table,
        })
    }
}

/// Makes the registration that a request asks for; `None` for a negative descriptor. This calls the
/// file's own poll operation, which may block on whoever serves the file, as with FUSE; so the
/// caller must not hold a lock.
///
/// # Errors
///
/// As [`PollFile::new`].
pub(crate) fn new(
    machine: &Arc<Machine>,
    cpu: u32,
    descriptor: i32,
    table: Table,
) -> Result<Option<PollFile>> {
    machine.vp(cpu).ok_or(ENXIO)?;
    let Ok(descriptor) = u32::try_from(descriptor) else {
        return Ok(None);
    };
    PollFile::new(machine.clone(), cpu, descriptor, table).map(Some)
}

/// Replaces the registration that `files` has for a CPU.
///
/// # Errors
///
/// ENOMEM; then the earlier registration stays.
pub(crate) fn replace(files: &mut KVec<PollFile>, cpu: u32, new: Option<PollFile>) -> Result {
    files.reserve(1, GFP_KERNEL)?;
    files.retain(|file| file.cpu != cpu);
    if let Some(new) = new {
        files.push(new, GFP_KERNEL)?;
    }
    Ok(())
}

/// Ends the registrations of a process.
pub(crate) fn forget(files: &mut KVec<PollFile>, table: Table) {
    files.retain(|file| file.table != table);
}
