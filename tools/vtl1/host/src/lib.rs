// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VTL2's side of the secure kernel at VTL1 (`tools/vtl1`): puts it into memory, starts it, and
//! serves its hypercalls and reports.
//!
//! `tables` makes VTL1's page tables, `layout` says what is where in its memory, [`Prepared`] is
//! all that needs no processor, [`SecureVtl`] runs VTL0 and VTL1 as a [`vtl::VtlPair`], and `server`
//! answers VTL1's exits.

#![forbid(unsafe_code)]

mod layout;
mod prepare;
mod secure;
mod server;
mod tables;

pub use layout::VTL1_LEN;
pub use prepare::{Prepared, Secrets, is_image};
pub use secure::{Ended, SecureVtl, Turn};

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the kernel or the TDX module.
    #[error(transparent)]
    Vtl(#[from] vtl::Error),
    /// The file is not an image of VTL1.
    #[error("this is no image of a secure kernel")]
    Image,
    /// VTL1's memory has no room for the image and its page tables.
    #[error("VTL1's memory has no room for the image and page tables")]
    NoRoom,
    /// VTL0's memory has too many ranges, or overlaps VTL1's.
    #[error("VTL0's memory is not separate from VTL1's, or has over 16 ranges")]
    Memory,
    /// An exit of VTL1 for which there is no answer.
    #[error("unexpected exit of VTL1: {0}")]
    Exit(&'static str),
}

/// Result of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// VTL1's report of its end, in the crash MSRs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// HV_X64_MSR_CRASH_P0 to P4: for an exception vector, error code, RIP and CR2.
    pub parameters: [u64; 5],
    /// The text of a panic.
    pub message: Option<String>,
}

impl core::fmt::Display for CrashReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [kind, error, rip, cr2, _] = self.parameters;
        match (&self.message, kind) {
            (Some(message), _) => write!(f, "panic: {message}"),
            (None, 0..=31) => write!(
                f,
                "exception {kind}, error code {error:#x}, RIP {rip:#x}, CR2 {cr2:#x}"
            ),
            (None, _) => write!(f, "refused to go on, reason {kind:#x}"),
        }
    }
}
