// SPDX-License-Identifier: GPL-2.0-only
//! Models of what CPUs, userspace and the kernel share without a lock, checked in every order of
//! memory accesses that the memory model allows: kicks of a VP's thread (`model`, `tests`),
//! requests to invalidate (`request`, `flush`), requested interrupts (`interrupts`), the audit ring
//! (`ring`) and its hashes (`seal`), and shutdown (`stop`).
//!
//! `model` repeats `rust/vp/wake.rs` and the parts of `rust/run.rs` and `rust/glue/sleep.c` that it
//! works with, step by step, with loom's atomics in place of the kernel's; the word that says where
//! the thread is comes from the same `rust/pure/place.rs`. A lost wake-up leaves the thread inside
//! or asleep, which an assertion or loom's deadlock detection finds. `tests` also removes each
//! barrier in turn and expects loom to find that.

#![forbid(unsafe_code)]

#[cfg(test)]
mod flush;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod model;
#[cfg(test)]
mod request;
#[cfg(test)]
mod ring;
#[cfg(test)]
mod seal;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod tests;
