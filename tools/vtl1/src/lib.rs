// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A secure kernel for VTL1, the part that decides: what a request may be, and what it gets.
//!
//! VTL0 calls VTL1 with the address of a request in RDI (`Documentation/vtl1.rst`). The program of
//! this package (`main.rs`) is entered by that call, and [`kernel::SecureKernel::handle`] does the rest:
//!
//! ```text
//! handle ──► read the request once ──► request::Request::decode ──► ranges: is it VTL0's memory?
//!                                                                     │
//!            status, bytes written ◄── write the output ◄── keys, counter, protection
//! ```
//!
//! Everything is checked on a copy, and before the first effect. [`memory::LowerMemory`] and
//! [`memory::Paravisor`] are all that it needs from below, so it is tested on the host.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod boot;
pub mod hypercall;
pub mod image;
pub mod kernel;
pub mod keys;
pub mod memory;
pub mod ranges;
pub mod request;
