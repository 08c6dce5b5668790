// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! AMD Secure Virtual Machine: everything in the emulator about the processor's virtualization.
//!
//! Data passes in this order: [`vmcb`] (what the processor reads) with [`intercept`], [`msrpm`],
//! [`iopm`] and [`npt`] (what it consults) → [`vcpu`] and [`vmrun`] (entry and exit) → [`exit`]
//! (why it exited) → [`insn`] (what the processor does not report) → [`vmx_names`] (the same in
//! terms of VMX, which the TDX module uses).
//!
//! The crate is `no_std`; all of it except [`vmrun`] is safe code and is tested on the host. It is
//! written for what QEMU's TCG offers: no next-RIP save, no decode assists, no flush by ASID.

#![cfg_attr(not(test), no_std)]

pub mod exit;
pub mod gprs;
pub mod insn;
pub mod intercept;
pub mod iopm;
pub mod msrpm;
pub mod npt;
pub mod segment;
pub mod vcpu;
pub mod vmcb;
pub mod vmrun;
pub mod vmx_names;

pub use exit::SvmExit;
pub use gprs::Gprs;
pub use vcpu::Vcpu;
pub use vmcb::Vmcb;
