// SPDX-License-Identifier: GPL-2.0
//! Where Rust meets C: declarations made by bindgen, wrappers for what the kernel crate does not
//! cover, and access to pages that others write at the same time.

pub(crate) mod abi;
mod constants;
pub(crate) mod error;
pub(crate) mod ffi;
pub(crate) mod page;
