// SPDX-License-Identifier: MIT OR GPL-2.0-only
#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot_log;
mod bytes;
pub mod cel;
pub mod cmdline;
pub mod event;
pub mod evidence;
pub mod file;
mod finding;
pub mod hash;
mod record;
mod replay;
mod streams;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;

pub use boot_log::BootLog;
pub use event::Event;
pub use evidence::Evidence;
pub use file::Contents;
pub use finding::{Finding, Gap, Reason, Stream, Verdict};
pub use record::Contradiction;
pub use verify::{Policy, judge, verify};
