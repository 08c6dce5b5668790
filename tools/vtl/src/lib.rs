// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Safe userspace access to the devices of `mshv_vtl_tdx`.
//!
//! A paravisor at Virtual Trust Level 2 runs lower VTLs as L2 VMs of a TDX
//! trust domain. One type per thing:
//!
//! * [`Mshv`]: `/dev/mshv`, what this kernel offers;
//! * [`Vtl`]: a VTL file, TDCALLs and page rights;
//! * [`Vp`]: one virtual processor, bound to its CPU and to this thread;
//! * [`RunPage`]: the page a `Vp` shares with the kernel;
//! * [`LowerMemory`]: memory of the lower VTLs, mapped here;
//! * [`XsaveImage`]: the extended state of the lower VTLs;
//! * [`Exit`]: why the lower VTL stopped, and how to answer;
//! * [`audit::Ring`], [`Stats`]: what a virtual processor did so far.
//!
//! Data flows [`device`] → [`vp`] → [`run_page`] → [`exit`]; [`tdcall`],
//! [`field`] and [`status`] are the TDX vocabulary beside it. Unsafe code is
//! in `sys`, `run_page`, `memory` and `audit` only.
//!
//! ```no_run
//! use vtl::{Exit, Mode, Mshv, Vm};
//!
//! # fn main() -> Result<(), vtl::Error> {
//! let vtl = Mshv::open()?.create_vtl()?;
//! let mut vp = vtl.bind(0, Vm::VTL0)?;
//! vp.reset(Mode::Protected32, 0x8000_0000)?;
//! loop {
//!     match vp.run()? {
//!         Exit::Cpuid(cpuid) => cpuid.answer([0; 4]),
//!         Exit::Halt(_) => break,
//!         Exit::Interrupted => {}
//!         other => eprintln!("{}", other.name()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod abi;
pub mod audit;
pub mod device;
pub mod error;
pub mod exit;
pub mod field;
pub mod memory;
pub mod reason;
pub mod run_page;
pub mod start;
pub mod stats;
pub mod status;
mod sys;
pub mod tdcall;
pub mod vp;
pub mod xsave;

pub use device::{Extension, Mshv, Vtl};
pub use error::Error;
pub use exit::Exit;
pub use memory::{GpaRange, LowerMemory};
pub use run_page::{Canceller, Gpr, RunPage};
pub use start::Mode;
pub use stats::{Info, PolicyLine, Stats};
pub use status::Status;
pub use sys::tsc;
pub use tdcall::{Accepted, PageRights};
pub use vp::{Exception, Vm, Vp};
pub use xsave::XsaveImage;

/// A result whose error is this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
