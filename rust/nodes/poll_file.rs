// SPDX-License-Identifier: GPL-2.0
//! `MSHV_SET_POLL_FILE`: a file that cancels the run of a VP when it becomes readable.
//!
//! A VTL file has one registration per CPU. Each holds a reference to its file and belongs to the
//! process that made it; `descriptor.rs` says when it ends. `wake.c` has the entry in the file's
//! wait queue.

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
    /// Cancels runs of the VP whenever the file is readable.
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

/// Registers a file in `files` for the process with `table`, in place of the one registered for the
/// same CPU; a negative descriptor registers none.
///
/// # Errors
///
/// As [`PollFile::new`]; then the earlier registration stays.
pub(crate) fn set(
    files: &mut KVec<PollFile>,
    machine: Arc<Machine>,
    cpu: u32,
    descriptor: i32,
    table: Table,
) -> Result {
    machine.vp(cpu).ok_or(ENXIO)?;
    let slot = files.iter().position(|file| file.cpu == cpu);
    let Ok(descriptor) = u32::try_from(descriptor) else {
        if let Some(index) = slot {
            drop(files.remove(index));
        }
        return Ok(());
    };
    let new = PollFile::new(machine, cpu, descriptor, table)?;
    match slot.and_then(|index| files.get_mut(index)) {
        Some(old) => *old = new,
        None => files.push(new, GFP_KERNEL)?,
    }
    Ok(())
}

/// Ends the registrations of a process.
pub(crate) fn forget(files: &mut KVec<PollFile>, table: Table) {
    files.retain(|file| file.table != table);
}
