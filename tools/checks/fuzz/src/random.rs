// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Numbers from a seed, more of them meaningful than chance would give.

use crate::machine::MEMORY_BYTES;
use tdx_model::gprs::Gprs;
use tdx_model::l2_exit::L2Exit;

/// State buffer that a fuzzed L1 likes to use.
pub(crate) const STATE: u64 = 0x4100;
/// Virtual-APIC page.
pub(crate) const VAPIC: u64 = 0x6000;

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// A word.
    pub(crate) fn value(&mut self) -> u64 {
        let any = self.next();
        match self.below(12) {
            0 | 1 => any,
            2 => any % 64,
            3 => (any % (MEMORY_BYTES as u64 + 0x10_0000)) & !0xff,
            4 => ((any % 5) << 21) | ((any >> 32) % 3),
            5 => ((any % 4) << 52) | ((any >> 32) % 4),
            6 => STATE,
            7 => u64::MAX,
            // Attribute words, and fields of each class.
            8 => (any & 0xffff) << (16 * ((any >> 32) % 4)),
            9 => (0x2424 << 48) | ((any % 3) << 59) | (3 << 32) | ((any >> 32) % 0x7000),
            10 => 0xa020_0003_0000_0000 | (any % 0x60),
            _ => 1 << (any % 64),
        }
    }

    pub(crate) fn gprs(&mut self) -> Gprs {
        Gprs::from_array(std::array::from_fn(|_| self.value()))
    }

    pub(crate) fn exit(&mut self) -> L2Exit {
        // CAST: halves of random words.
        let mut half = || self.value() as u32;
        let words = [half(), half(), half(), half(), half(), half()];
        L2Exit {
            reason: if self.below(8) == 0 {
                self.next() as u32
            } else {
                self.below(80) as u32
            },
            qualification: self.value(),
            gla: self.value(),
            gpa: self.value(),
            interruption_info: words[0],
            interruption_error: words[1],
            idt_vectoring_info: words[2],
            idt_vectoring_error: words[3],
            instruction_length: words[4],
            instruction_info: words[5],
            cpl: self.next() as u8,
        }
    }
}
