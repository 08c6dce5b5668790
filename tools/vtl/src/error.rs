// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What can go wrong, one variant per request, with the kernel's errno or the
//! TDX module's status kept.

use rustix::io::Errno;

use crate::memory::GpaRange;
use crate::status::Status;

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device could not be opened.
    #[error("cannot open {path}: {errno} ({})", open_hint(*errno))]
    Open {
        /// The device.
        path: &'static str,
        /// Why.
        errno: Errno,
    },
    /// CHECK_EXTENSION failed.
    #[error("CHECK_EXTENSION {number} failed: {errno}")]
    CheckExtension {
        /// The capability asked for.
        number: u32,
        /// Why.
        errno: Errno,
    },
    /// CREATE_VTL failed.
    #[error("CREATE_VTL failed: {0}")]
    CreateVtl(Errno),
    /// The run page could not be mapped.
    #[error("cannot map the run page of cpu {cpu}: {errno}")]
    MapRunPage {
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
    #[error("cannot bind this thread to cpu {cpu}: {errno}")]
    Bind {
        /// The CPU.
        cpu: u32,
        /// Why.
        errno: Errno,
    },
    /// RETURN_TO_LOWER_VTL failed for another reason than [`Self::EntryRefused`].
    #[error("RETURN_TO_LOWER_VTL failed: {errno} ({})", run_hint(*errno))]
    Run {
        /// Why.
        errno: Errno,
    },
    /// The TDX module refused the entry.
    #[error("the TDX module refused TDG.VP.ENTER: {0}")]
    EntryRefused(Status),
    /// Facts, counters or the audit ring are not to be had.
    #[error("cannot read {what}: {errno} ({})", query_hint(*errno))]
    Query {
        /// What was asked for.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The extended state could not be read, or not be replaced.
    #[error("cannot exchange the extended state: {errno} ({})", xsave_hint(*errno))]
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
    /// An access to lower-VTL memory leaves the mapping.
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
    #[error("{base:#x}+{len:#x} is no range of whole private pages")]
    BadRange {
        /// First byte.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
}

impl Error {
    /// The errno behind this error, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. }
            | Self::CheckExtension { errno, .. }
            | Self::MapRunPage { errno, .. }
            | Self::MapMemory { errno, .. }
            | Self::Bind { errno, .. }
            | Self::Query { errno, .. }
            | Self::Run { errno }
            | Self::Xsave { errno } => Some(*errno),
            Self::CreateVtl(errno) | Self::TdcallIoctl(errno) => Some(*errno),
            Self::EntryRefused(_)
            | Self::Tdcall { .. }
            | Self::OutOfRange { .. }
            | Self::BadRange { .. } => None,
        }
    }

    /// The TDX completion status behind this error, where there is one.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::EntryRefused(status) | Self::Tdcall { status, .. } => Some(*status),
            _ => None,
        }
    }
}

fn open_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "is mshv_vtl_tdx loaded, and devtmpfs mounted on /dev?",
        Errno::PERM | Errno::ACCESS => "CAP_SYS_ADMIN is needed",
        _ => "the kernel log may say more",
    }
}

fn query_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOTTY => "this kernel module is older than that",
        Errno::INVAL => "this kernel module is older, or the CPU has no virtual processor",
        _ => "the kernel log may say more",
    }
}

fn xsave_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOTTY => "this kernel module is older than that",
        Errno::INVAL => "the processor would not take the image",
        Errno::BUSY => "another thread runs this virtual processor",
        _ => "the kernel log may say more",
    }
}

fn run_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::BUSY => "another thread runs this virtual processor",
        Errno::INVAL => "the run page holds a value the kernel does not accept",
        _ => "the kernel log may say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_survives_the_mapping() {
        let error = Error::Open {
            path: "/dev/mshv",
            errno: Errno::NOENT,
        };
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(error.to_string().contains("is mshv_vtl_tdx loaded"));
        assert_eq!(Error::Run { errno: Errno::BUSY }.errno(), Some(Errno::BUSY));
    }

    #[test]
    fn status_survives_the_mapping() {
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
