// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Virtio devices on the memory-mapped transport [VIRTIO 4.2]: a disk and a source of random
//! numbers. The rings are `virtio-queue`'s.

pub mod block;
mod buffers;
pub mod mmio;
pub mod rng;

use crate::platform::Gsi;

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u8);

impl Slot {
    /// Bytes of its registers.
    pub const LEN: u32 = 0x200;
    /// Guest-physical address of the first slot. Each has a page.
    pub const FIRST: u32 = 0xd000_0000;
    /// Number of slots: each has its own interrupt line.
    pub const COUNT: u8 = Gsi::COUNT - Gsi::FIRST_VIRTIO;

    /// The slot of this number, which is below [`Self::COUNT`].
    pub const fn nth(number: u8) -> Self {
        assert!(number < Self::COUNT, "no such slot");
        Self(number)
    }

    /// Guest-physical address of its registers.
    pub const fn base(self) -> u32 {
        // CAST: widening.
        Self::FIRST + 0x1000 * self.0 as u32
    }

    /// Its line.
    pub const fn gsi(self) -> Gsi {
        match Gsi::new(Gsi::FIRST_VIRTIO + self.0) {
            Some(gsi) => gsi,
            None => unreachable!(),
        }
    }
}
