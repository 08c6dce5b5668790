// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Checks the Linux at VTL0 from outside: its registers, its interrupt gates, its kernel's text and
//! constants, and the rights in its page tables. Nothing here trusts the guest: its memory is read,
//! never followed further than a bound, and what it contains is compared with the image that was booted.
//!
//! [`image`] (what the kernel's file says: [`elf`], [`symbols`], [`sites`]) and a view of the guest
//! ([`view`]) → [`checks`] (one round: [`registers`], [`gates`], [`text`], [`constants`], [`roots`], [`tables`]) →
//! [`finding`]. [`baseline`] is what one start tells another. All of that is free of I/O; [`watch`] has the thread and the processors' registers.

pub mod baseline;
pub mod checks;
pub mod constants;
pub mod elf;
pub mod finding;
pub mod gates;
pub mod image;
mod indirect;
mod order;
mod patched;
mod random;
pub mod registers;
pub mod roots;
pub mod sites;
pub mod symbols;
pub mod tables;
pub mod text;
pub mod trampoline;
pub mod view;
pub mod watch;

#[cfg(test)]
pub(crate) mod fake;

pub use baseline::Baseline;
pub use checks::{Checks, Event};
pub use finding::{Finding, Kind};
pub use image::KernelImage;
pub use watch::{Settings, Watch};
