// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Models of what CPUs, userspace and the kernel share without a lock, checked in every order of
//! memory accesses that the memory model allows: how a VP's thread is kicked (`model`, `tests`), requests
//! to invalidate (`request`), interrupts that are asked for (`interrupts`), the audit ring (`ring`), the end of the kernel (`stop`).
//!
//! `model` repeats `rust/vp/wake.rs` and the places of `rust/run.rs` and `rust/vp/wake.c` that it works
//! with, step by step, with loom's atomics for the kernel's; the word that says where the thread
//! is comes from the very same `rust/pure/place.rs`. A wake-up that gets lost leaves
//! the thread inside or asleep, which an assertion or loom's search for deadlocks finds. `tests` also takes each barrier away in turn and expects loom to find that.

#![forbid(unsafe_code)]

#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod model;
#[cfg(test)]
mod request;
#[cfg(test)]
mod ring;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod tests;
