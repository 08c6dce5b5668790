// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the secure kernel needs from below: copies from and to VTL0's memory, and VTL2.

use crate::hypercall::{Completion, ProtectInput};

/// VTL0's memory. The callers pass only ranges that are in [`crate::ranges::Vtl0Memory`].
pub trait LowerMemory {
    /// Copies from VTL0's memory, each byte once.
    fn read(&self, gpa: u64, bytes: &mut [u8]);
    /// Copies to VTL0's memory.
    fn write(&mut self, gpa: u64, bytes: &[u8]);
}

/// VTL2, by hypercalls.
pub trait Paravisor {
    /// Changes VTL0's rights to pages (HvCallModifyVtlProtectionMask).
    fn modify_protection(&mut self, input: &ProtectInput) -> Completion;
}
