// SPDX-License-Identifier: GPL-2.0-only
//! Shadow of the kernel module's `rust/pure`: compiles the same files for the host, so that their
//! tests, and others that examine the decisions, run without a kernel.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

// The module's own settings format it.
#[rustfmt::skip]
#[path = "../../../../rust/pure/mod.rs"]
pub mod pure;
