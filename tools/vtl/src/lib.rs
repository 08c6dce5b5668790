// SPDX-License-Identifier: MIT OR GPL-2.0-only
#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! The main types:
//!
//! * [`Mshv`]: `/dev/mshv`, queries of what this kernel offers;
//! * [`Vtl`]: a VTL file, with everything that concerns several virtual processors: TDCALLs, page
//!   rights, kicks, poll files, redirected interrupts;
//! * [`LowerVtl`]: one lower VTL and its memory rights;
//! * [`Vp`]: one lower VTL on one virtual processor, bound to its CPU and to this thread;
//! * [`VtlPair`]: VTL0 and VTL1 of one virtual processor, which call each other;
//! * [`RunPage`]: the page a `Vp` shares with the kernel; [`VapicPage`]: the APIC of VTL0;
//! * [`LowerMemory`]: memory of the lower VTLs, mapped into this process;
//! * [`XsaveImage`]: the extended state of the lower VTLs;
//! * [`Exit`]: why the lower VTL stopped, and how to answer;
//! * [`audit::Ring`], [`Stats`]: the latest switches of a virtual processor, and its counters;
//! * [`attest`], [`tdx_guest`]: the attested log of switches, and reports and quotes that prove it;
//! * [`hvcall::HypercallFile`], [`sint::MessageFile`]: hypercalls and messages, if the host is
//!   Hyper-V.
//!
//! Data flows [`device`] → [`vtl_file`] → [`vp`] → [`run_page`] → [`exit`]; [`tdcall`],
//! [`field`] and [`status`] have the TDX definitions. Unsafe code is only in `sys`.

pub mod abi;
pub mod attest;
pub mod audit;
pub mod device;
pub mod errno;
pub mod error;
pub mod exit;
pub mod field;
mod gpr;
mod hint;
pub mod hvcall;
mod identity;
pub mod info;
pub mod lower;
pub mod memory;
pub mod reason;
pub mod rights;
pub mod run_page;
pub mod sint;
pub mod stats;
pub mod status;
pub mod switch;
mod sys;
pub mod tdcall;
pub mod tdx_guest;
pub mod vapic;
pub mod vectors;
pub mod vp;
pub mod vtl_file;
pub mod xsave;

pub use device::{Extension, Mshv};
pub use errno::Errno;
pub use error::Error;
pub use exit::Exit;
pub use identity::identity_tables;
pub use info::{Info, PolicyLine};
pub use lower::LowerVtl;
pub use memory::{Alias, GpaRange, LowerMemory, LowerMemoryFile};
pub use rights::{Accepted, PageAttributes, PageRights};
pub use run_page::{
    CacheFlush, Canceller, Flush, Gpr, Halt, Offload, Registers, RunPage, SwitchedState,
};
pub use stats::Stats;
pub use status::Status;
pub use switch::{Left, PrivateState, SwitchEnable, SwitchPage, Turn, VtlPair};
pub use sys::tsc;
pub use vapic::{ApicRegister, VapicPage};
pub use vectors::Vectors;
pub use vp::{DebugRegisters, Event, Exception, Mode, SharedRegister, Vm, Vp};
pub use vtl_file::{Kick, RedirectedInterrupt, Vtl};
pub use xsave::XsaveImage;

/// A result whose error is this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
