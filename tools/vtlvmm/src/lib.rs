// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A machine for an operating system at VTL0: what an unmodified Linux kernel expects of a PC, on
//! top of the crate `vtl`.
//!
//! Data flows [`image`] (kernel, boot parameters) → [`machine`] (memory, devices, threads) →
//! `vcpu` (one virtual processor and its exits) → [`board`] (the devices they share).
//!
//! * [`cpuid`], [`msr`], [`apic`], [`decode`], [`walk`]: decisions that need no processor;
//! * [`platform`], [`virtio`], [`acpi`], [`smbios`]: the devices, and the tables that describe them;
//! * [`processors`]: how processors start and interrupt each other;
//! * [`secure`]: the secure kernel at VTL1, if the guest has one;
//! * [`monitor`]: checks of a Linux at VTL0 from outside;
//! * [`memory`]: layout of the guest's memory. Unsafe code is only in `memory/lower.rs`.
//!
//! Nothing that a guest does may panic, hang or harm this VTL: if the guest can't continue, the
//! machine ends with a reason ([`board::End`]).
#![deny(unsafe_code)]

pub mod acpi;
pub mod apic;
pub mod board;
pub mod cpuid;
pub mod decode;
pub mod error;
pub mod image;
pub mod linux;
pub mod machine;
pub mod memory;
pub mod monitor;
pub mod msr;
pub mod multiboot;
pub mod parking;
pub mod platform;
pub mod processors;
pub mod secure;
pub mod smbios;
mod vcpu;
pub mod virtio;
pub mod walk;

pub use error::{Error, Result};
