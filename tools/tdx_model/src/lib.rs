// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Semantics of the Intel TDX module as a TD and its L2 VMs see it, version 1.5
//! and what is published of 2.0.
//!
//! The crate does not depend on any machine: `no_std`, no allocation, no unsafe code. What it needs
//! from below is the trait [`machine::Machine`]. The same source runs in the bare-metal emulator
//! and under unit tests on a host.
//!
//! The path of a call: the emulator sees L1 execute TDCALL and calls [`dispatch::tdcall`], which
//! picks a leaf in `leaf/`. Each leaf validates everything, then comes the line "checks passed",
//! then it changes state. TDG.VP.ENTER ends in [`dispatch::Outcome::EnterL2`]; the emulator runs
//! the L2 and passes its exit to [`l2_exit::L2Call`]. What L1 does without TDCALL is decided by
//! [`cpuid::l1_cpuid`], [`msr::l1_msr`] and [`ve::l1_ept_violation`].
//!
//! # What is not modelled
//!
//! - Leaves TDG.SERVTD.RD and WR, TDG.MR.VERIFYREPORT: refused as unknown, as on a
//!   platform without them.
//! - Missing tables above the lowest level of an L2's secure EPT: the host has added them all.
//! - Blocked and exported pages, migration, debug TDs. A guest can't tell a blocked page from a missing
//!   one, for which the host is asked.
//! - TDREPORT has its real layout and hashes, but a text in place of the MAC, which says so.
#![no_std]
#![forbid(unsafe_code)]
// Bit fields are written `1 << 16 | 7` throughout; clippy of Rust 1.85 wants parentheses there,
// later ones do not.
#![allow(clippy::precedence)]

pub mod cpuid;
pub mod dispatch;
mod entry_checks;
mod fields;
pub mod gpa;
pub mod gprs;
pub mod host;
mod l2_cr;
pub mod l2_exit;
mod l2_msr;
mod l2_state;
mod leaf;
pub mod machine;
mod metadata;
pub mod msr;
mod msr_reduced;
pub mod page_state;
pub mod stale;
pub mod status;
pub mod td;
pub mod vcpu;
pub mod ve;
mod ve_reduction;
pub mod vmcs;
mod vmx_msrs;

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod survival;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod two_readings;

pub use fields::Field;
