// SPDX-License-Identifier: GPL-2.0
//! The virtual-APIC page, as far as interrupts are concerned: vectors, the IRR, priorities.
//! [SDM3 31.1]
//!
//! `rust/vp/vapic.rs` reads and writes the page; what its contents mean is decided here.

/// A vector that an interrupt can have: 16 to 255.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector(u8);

/// The task-priority register.
pub const TPR: usize = 0x80;
/// First of eight words of the trigger-mode register; laid out like the IRR.
pub const TMR: usize = 0x180;
/// First of eight words of the interrupt-request register, one every [`STRIDE`] bytes.
pub const IRR: usize = 0x200;
/// Bytes from one word to the next.
pub const STRIDE: usize = 0x10;
/// Words of 32 vectors.
pub const WORDS: usize = 8;

/// Bits of word 0 that no interrupt can use: vectors 0 to 15.
const ILLEGAL: u32 = 0xffff;

impl Vector {
    /// Returns `None` below 16: those vectors belong to exceptions.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The word of the IRR that holds its bit.
    pub const fn word(self) -> usize {
        self.0 as usize / 32
    }

    /// Its bit in that word.
    pub const fn bit(self) -> u32 {
        1 << (self.0 % 32)
    }
}

/// Returns the bits of a word of `proxy_irr` that the kernel leaves to userspace: those it masked
/// for an exit, and vectors that no interrupt can have.
pub const fn stays(word: usize, exit_mask: u32) -> u32 {
    if word == 0 {
        exit_mask | ILLEGAL
    } else {
        exit_mask
    }
}

/// Returns the highest vector in the IRR, 0 if it is empty: the value for RVI.
pub fn highest(irr: &[u32; WORDS]) -> u8 {
    let words = irr.iter().zip((0..=255_u8).step_by(32)).rev();
    for (word, base) in words {
        if let Some(bit) = word.checked_ilog2() {
            return base + bit as u8; // CAST: at most 31, and base at most 224
        }
    }
    0
}

/// What decides if a pending interrupt can be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Priorities {
    /// Highest requested vector.
    pub rvi: u8,
    /// Highest vector in service.
    pub svi: u8,
    /// Task priority.
    pub tpr: u8,
}

impl Priorities {
    /// The processor priority: the higher class of task and service.
    pub const fn ppr(self) -> u8 {
        if self.tpr >> 4 >= self.svi >> 4 {
            self.tpr
        } else {
            self.svi & 0xf0
        }
    }

    /// Returns true if the processor would deliver the highest requested vector; only priority
    /// classes are compared.
    pub const fn is_deliverable(self) -> bool {
        self.rvi >> 4 > self.ppr() >> 4
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_apic),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    /// Fewer values under Miri, which is slow.
    const STEP: usize = if cfg!(miri) { 51 } else { 5 };

    #[test]
    fn each_vector_has_a_bit_of_its_own_and_is_found_again() {
        for number in 16..=255 {
            let vector = Vector::new(number).unwrap();
            let mut irr = [0; WORDS];
            irr[vector.word()] |= vector.bit();
            assert_eq!(highest(&irr), number);
            irr[0] |= 1 << 16;
            // A lower one changes nothing.
            assert_eq!(highest(&irr), number);
        }
        assert_eq!(highest(&[0; WORDS]), 0);
        assert_eq!(highest(&[u32::MAX; WORDS]), 255);
        assert_eq!(Vector::new(15), None);
    }

    #[test]
    fn exceptions_and_what_userspace_wants_stays() {
        assert_eq!(stays(0, 0), 0xffff);
        assert_eq!(stays(0, 1 << 20), (1 << 20) | 0xffff);
        assert_eq!(stays(7, 0), 0);
        assert_eq!(stays(7, u32::MAX), u32::MAX);
    }

    /// Checks every combination of classes, with several vectors of each, against a second
    /// formulation of the rule.
    #[test]
    fn an_interrupt_needs_a_higher_class_than_task_and_service() {
        for rvi in (0..=255_u8).step_by(STEP) {
            for svi in (0..=255_u8).step_by(STEP) {
                for tpr in (0..=255_u8).step_by(STEP) {
                    let is_deliverable = Priorities { rvi, svi, tpr }.is_deliverable();
                    let expected = rvi / 16 > svi / 16 && rvi / 16 > tpr / 16;
                    assert_eq!((rvi, svi, tpr, is_deliverable), (rvi, svi, tpr, expected));
                }
            }
        }
    }
}
