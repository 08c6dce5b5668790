// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! AMD Secure Virtual Machine: everything the emulator knows about the processor's virtualization.
//!
//! Data passes in this order: [`vmcb`] (what the processor reads) with [`intercept`], [`msrpm`],
//! [`iopm`] and [`npt`] (what it consults) → [`vcpu`] and [`vmrun`] (entering and leaving) →
//! [`exit`] (why it left) → [`insn`] (what the processor does not tell) → [`vmx_names`] (the same
//! in the words of VMX, which is what the TDX module speaks).
//!
//! The crate is `no_std`; all of it except [`vmrun`] is safe code and is tested on the host.
//! Written for what QEMU's TCG offers: no next-RIP save, no decode assists, no flush by ASID.

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
