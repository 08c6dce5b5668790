// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Errors, one variant per kind of request, with the kernel's errno or the TDX module's status.

use crate::memory::GpaRange;
use crate::status::Status;
use crate::{Errno, hint};

/// An error of this crate. [`Self::errno`] and [`Self::status`] give the underlying cause.
///
/// ```no_run
/// # fn main() -> Result<(), vtl::Error> {
/// let vtl = vtl::Vtl::open()?;
/// match vtl.bind(7, vtl::Vm::VTL0) {
///     Err(error) if error.errno() == Some(vtl::Errno::EINVAL) => println!("there is no CPU 7"),
///     other => drop(other?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device could not be opened.
    #[error("cannot open {path}: {errno}{}", hint::open(path, *errno))]
    Open {
        /// The device.
        path: &'static str,
        /// Why.
        errno: Errno,
    },
    /// CHECK_EXTENSION failed.
    #[error("CHECK_EXTENSION {number} failed: {errno}")]
    CheckExtension {
        /// Number of the queried capability.
        number: u32,
        /// Why.
        errno: Errno,
    },
    /// CREATE_VTL failed.
    #[error("CREATE_VTL failed: {0}")]
    CreateVtl(Errno),
    /// A page of a virtual processor could not be mapped.
    #[error("cannot map {what} of cpu {cpu}: {errno}{}", hint::map(*errno))]
    Map {
        /// The page.
        what: &'static str,
        /// The CPU.
        cpu: u32,
        /// Why.
        errno: Errno,
    },
    /// Lower-VTL memory could not be mapped.
    #[error("cannot map lower-VTL memory {range}: {errno}")]
    MapMemory {
        /// The range.
        range: GpaRange,
        /// Why.
        errno: Errno,
    },
    /// The thread could not be bound to the CPU of its virtual processor.
    #[error("cannot bind this thread to cpu {cpu}: {errno}{}", hint::bind(*errno))]
    Bind {
        /// The CPU.
        cpu: u32,
        /// Why.
        errno: Errno,
    },
    /// RETURN_TO_LOWER_VTL failed for another reason than [`Self::EntryRefused`].
    #[error("RETURN_TO_LOWER_VTL failed: {errno}{}", hint::run(*errno))]
    Run {
        /// Why.
        errno: Errno,
    },
    /// The TDX module refused the entry.
    #[error("the TDX module refused TDG.VP.ENTER: {0}")]
    EntryRefused(Status),
    /// Facts, counters or the audit ring could not be read.
    #[error("cannot read {what}: {errno}{}", hint::query(what, *errno))]
    Query {
        /// What was queried.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// Another command of the devices failed.
    #[error("{command} failed: {errno}{}", hint::command(command, *errno))]
    Command {
        /// The command, by its name in the header.
        command: &'static str,
        /// Why.
        errno: Errno,
    },
    /// Registers could not be read or written.
    #[error("cannot access registers: {errno}{}", hint::registers(*refused))]
    Registers {
        /// Number of the register that was refused, if the kernel reported it.
        refused: Option<u32>,
        /// Why.
        errno: Errno,
    },
    /// The extended state could not be read or replaced.
    #[error("cannot exchange the extended state: {errno}{}", hint::xsave(*errno))]
    Xsave {
        /// Why.
        errno: Errno,
    },
    /// The TDCALL ioctl itself failed.
    #[error("the TDCALL ioctl failed: {0}")]
    TdcallIoctl(Errno),
    /// A TDCALL completed with an error.
    #[error("{leaf} of {operand:#x} completed with {status}")]
    Tdcall {
        /// The leaf, by its name in the specification.
        leaf: &'static str,
        /// The field id or the guest-physical address.
        operand: u64,
        /// The completion status.
        status: Status,
    },
    /// An access is outside the mapping of lower-VTL memory.
    #[error("{len:#x} bytes at offset {offset:#x} leave the lower-VTL memory {range}")]
    OutOfRange {
        /// Where the access begins.
        offset: u64,
        /// Its length.
        len: u64,
        /// The mapping.
        range: GpaRange,
    },
    /// A range is empty, unaligned, or not private memory.
    #[error("{base:#x}+{len:#x} is not a range of whole private pages")]
    BadRange {
        /// First byte.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A descriptor that other code opened is no VTL file.
    #[error("the descriptor is no VTL file (expected /dev/mshv_vtl, or one that /dev/mshv made)")]
    NoVtlFile,
    /// A field has a physical address that the processor writes to. No safe function sets it to any
    /// page of this process: see [`crate::Vp::new_apic_page`].
    #[error("field {field_id:#x} is a physical address; set it by Vp::new_apic_page")]
    PhysicalAddress {
        /// The field.
        field_id: u64,
    },
    /// An interrupt can't be injected, because another event is pending for the next entry.
    #[error("an event is already pending for the next entry ({entry_info:#x})")]
    EventPending {
        /// Its VM-entry interruption information.
        entry_info: u64,
    },
}

impl Error {
    /// The errno that caused this error, if any.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. }
            | Self::CheckExtension { errno, .. }
            | Self::Map { errno, .. }
            | Self::MapMemory { errno, .. }
            | Self::Bind { errno, .. }
            | Self::Query { errno, .. }
            | Self::Command { errno, .. }
            | Self::Registers { errno, .. }
            | Self::Run { errno }
            | Self::Xsave { errno }
            | Self::CreateVtl(errno)
            | Self::TdcallIoctl(errno) => Some(*errno),
            Self::EntryRefused(_)
            | Self::Tdcall { .. }
            | Self::OutOfRange { .. }
            | Self::BadRange { .. }
            | Self::NoVtlFile
            | Self::PhysicalAddress { .. }
            | Self::EventPending { .. } => None,
        }
    }

    /// The TDX completion status that caused this error, if any.
    pub const fn status(&self) -> Option<Status> {
        match self {
            Self::EntryRefused(status) | Self::Tdcall { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Makes an error of a command that has no variant of its own; for `map_err`.
    pub(crate) fn command(command: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Command {
            command,
            errno: errno.into(),
        }
    }
}

impl From<Error> for std::io::Error {
    /// Keeps the errno's kind, and this error as its source.
    fn from(error: Error) -> Self {
        let kind = error.errno().map(|errno| Self::from(errno).kind());
        Self::new(kind.unwrap_or(std::io::ErrorKind::Other), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_survives_the_mapping_and_is_named() {
        let error = Error::Open {
            path: "/dev/mshv",
            errno: Errno::ENOENT,
        };
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        let text = error.to_string();
        assert!(text.contains("ENOENT") && text.contains("is mshv_vtl_tdx loaded"));
        let io = std::io::Error::from(error);
        assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
        assert!(io.to_string().contains("/dev/mshv"), "{io}");
    }

    #[test]
    fn status_survives_the_mapping_and_is_named() {
        let status = Status::from_raw(0xc000_0100_0000_0001);
        let error = Error::Tdcall {
            leaf: "TDG.VP.WR",
            operand: 0x1234,
            status,
        };
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.errno(), None);
        let text = error.to_string();
        assert!(
            text.contains("0x1234") && text.contains("TDX_OPERAND_INVALID"),
            "{text}"
        );
    }
}
