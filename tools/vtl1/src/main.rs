// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The secure kernel as VTL1 runs it: entered by each VTL call, with interrupts disabled, on one
//! virtual processor.
//!
//! `start.S` saves VTL0's registers and calls [`entry`], which has the library handle the request.
//! Whatever else happens ends in a report to VTL2 (`crash`), never in silence. `cpu` has the
//! instructions, `pages` the memory, and both all the unsafe code.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod pages;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("vtl1 is a bare-metal program for VTL1: Documentation/vtl1.rst");
    std::process::ExitCode::from(2)
}
