// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What can go wrong before or while a guest runs: what, where, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Whose fault it is, which decides the exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is invalid.
    Usage,
    /// A file of the guest's.
    File,
    /// The kernel, the TDX module, or this machine.
    System,
}

/// An error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file can't be opened or read.
    #[error("cannot use the {what} {}: {error}", path.display())]
    File {
        /// Its purpose.
        what: &'static str,
        /// Its name.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not of the expected kind.
    #[error("the {what} {} {problem}", path.display())]
    Content {
        /// Its purpose.
        what: &'static str,
        /// Its name.
        path: PathBuf,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// The memory is too small, or not where it has to be.
    #[error("{0}")]
    Memory(String),
    /// The command line is too long.
    #[error(
        "the kernel's command line has {len} bytes, it takes at most {most}; shorten --cmdline"
    )]
    CommandLine {
        /// Its length.
        len: usize,
        /// What the kernel takes.
        most: usize,
    },
    /// The machine can't have this number of virtual processors.
    #[error("{wanted} virtual processors are wanted, this level has {there} CPUs; lower --vps")]
    Processors {
        /// The requested number.
        wanted: usize,
        /// As many there are.
        there: usize,
    },
    /// The trust domain has no VM for VTL1.
    #[error(
        "there is no VM for VTL1: the trust domain has {vms} L2 VM, and needs 2; start it with 2"
    )]
    NoVtl1 {
        /// Its number of L2 VMs.
        vms: u32,
    },
    /// The guest's memory refuses an access.
    #[error("cannot write to the guest's memory: {0}")]
    GuestMemory(#[from] vm_memory::GuestMemoryError),
    /// The kernel or the TDX module refuses.
    #[error(transparent)]
    Vtl(#[from] vtl::Error),
}

impl Error {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::File { .. } | Self::Content { .. } => Fault::File,
            Self::Memory(_) | Self::CommandLine { .. } | Self::Processors { .. } => Fault::Usage,
            Self::NoVtl1 { .. } | Self::GuestMemory(_) | Self::Vtl(_) => Fault::System,
        }
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
