// SPDX-License-Identifier: GPL-2.0
//! Where Rust meets C: generated declarations, wrappers of what the kernel crate does not cover, and pages
//! that others write at the same time.

pub(crate) mod abi;
mod constants;
pub(crate) mod error;
pub(crate) mod ffi;
pub(crate) mod page;
