// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Devices on PCI bus 0, by the ports of the host bridge.

use crate::host;

const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u64 = 6;
const BAR0: u64 = 0x10;

/// A device.
#[derive(Clone, Copy)]
pub struct Device {
    slot: u64,
}

impl Device {
    /// Finds the one with this vendor (low half) and device number, and lets it access memory.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn find(id: u64) -> Self {
        let mut devices = (0..32).map(Self::at);
        let found = devices.find(|device| device.config(0) == id);
        let device = found.expect("QEMU lacks a device that scripts/tmk.sh gives it");
        device.set_config(COMMAND, MEMORY_AND_BUS_MASTER);
        device
    }

    /// The one in this slot, if there is one.
    pub const fn at(slot: u64) -> Self {
        Self { slot }
    }

    fn select(self, register: u64) {
        host::write_port32(0xcf8, 0x8000_0000 | (self.slot << 11) | register);
    }

    /// Reads a double word of its configuration.
    pub fn config(self, register: u64) -> u64 {
        self.select(register & !3);
        host::read_port32(0xcfc)
    }

    /// Writes one.
    pub fn set_config(self, register: u64, value: u64) {
        self.select(register & !3);
        host::write_port32(0xcfc, value);
    }

    /// Reads a byte of it.
    pub fn config8(self, register: u64) -> u64 {
        (self.config(register) >> (8 * (register & 3))) & 0xff
    }

    /// Where its registers are that BAR `number` is for.
    pub fn bar(self, number: u64) -> u64 {
        let low = self.config(BAR0 + 4 * number);
        let high = match low & 6 {
            4 => self.config(BAR0 + 4 * number + 4),
            _ => 0,
        };
        (high << 32) | (low & !0xf)
    }
}
