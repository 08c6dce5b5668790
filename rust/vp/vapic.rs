// SPDX-License-Identifier: GPL-2.0
//! The virtual-APIC page of VM 1: what the kernel reads and writes while the lower VTL does not
//! run. `pure::apic` says what it means.
//!
//! Userspace has mapped the page and may write to it at any time. By that it can only break its own
//! guest's interrupts.

use crate::glue::page::SharedPage;
use crate::pure::apic::{self, Vector, IRR, STRIDE, TMR, TPR, WORDS};

/// The page.
pub(crate) struct VirtualApic<'a>(pub(crate) &'a SharedPage);

impl VirtualApic<'_> {
    /// Posts edge-triggered interrupts into the IRR: `bits` of one word. As an APIC does when it
    /// accepts one, this clears the bits that an earlier level-triggered interrupt left in the TMR.
    pub(crate) fn request(&self, word: usize, bits: u32) {
        let offset = TMR + STRIDE * word;
        let levels = self.0.read_u32(offset);
        if levels & bits != 0 {
            self.0.write_u32(offset, levels & !bits);
        }
        let offset = IRR + STRIDE * word;
        self.0.write_u32(offset, self.0.read_u32(offset) | bits);
    }

    /// Posts one interrupt.
    pub(crate) fn request_vector(&self, vector: Vector) {
        self.request(vector.word(), vector.bit());
    }

    /// The highest vector in the IRR.
    pub(crate) fn highest(&self) -> u8 {
        let irr: [u32; WORDS] = core::array::from_fn(|word| self.0.read_u32(IRR + STRIDE * word));
        apic::highest(&irr)
    }

    /// The task priority.
    pub(crate) fn tpr(&self) -> u8 {
        self.0.read_u8(TPR)
    }
}
