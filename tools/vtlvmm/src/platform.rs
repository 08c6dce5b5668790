// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is where: ports, device memory, interrupt lines. The one list that the devices, the ACPI
//! tables and the documentation agree with.

pub mod clock;
pub mod interrupts;
pub mod ioapic;
pub mod ports;
pub mod power;
pub mod serial;

use crate::memory::Range;

/// Guest-physical address of the I/O APIC.
pub const IO_APIC_BASE: u32 = 0xfec0_0000;
/// Bytes of its registers.
pub const IO_APIC_LEN: u32 = 0x1000;

/// Where a PC starts after a reset, in the firmware's ROM. A kernel without another way to reset jumps there.
pub const RESET_ENTRY: Range = Range::new(0xf_fff0, 0x10_0000);

/// A line to the I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gsi(u8);

impl Gsi {
    /// The serial port's.
    pub const SERIAL: Self = Self(4);
    /// The first virtio device's.
    pub const FIRST_VIRTIO: u8 = 16;
    /// Number of interrupt lines.
    pub const COUNT: u8 = 24;

    /// The line of this number, below [`Self::COUNT`].
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        // CAST: widening.
        self.0 as u32
    }

    pub(crate) const fn index(self) -> usize {
        // CAST: widening.
        self.0 as usize
    }
}

/// Port numbers, and what is written to them.
#[derive(Clone, Copy, Debug)]
pub struct Ports;

impl Ports {
    /// Serial port, COM1.
    pub const SERIAL: u16 = 0x3f8;
    /// Its ports.
    pub const SERIAL_LEN: u8 = 8;
    /// Index of the real-time clock; data is the next port.
    pub const CLOCK: u16 = 0x70;
    /// Its ports.
    pub const CLOCK_LEN: u8 = 2;
    /// A character for the console, without a driver.
    pub const DEBUG_CONSOLE: u16 = 0xe9;
    /// Ends the machine with the number written, as QEMU's `isa-debug-exit`.
    pub const EXIT: u16 = 0xf4;
    /// Command port of the keyboard controller, of which there is only the reset.
    pub const KEYBOARD: u16 = 0x64;
    /// Command that resets the machine.
    pub const KEYBOARD_RESET: u8 = 0xfe;
    /// Sleep control register [ACPI 4.8.3.7].
    pub const SLEEP_CONTROL: u16 = 0x600;
    /// Sleep status register.
    pub const SLEEP_STATUS: u16 = 0x601;
    /// Reset register [ACPI 4.8.3.6].
    pub const RESET: u16 = 0x602;
    /// What resets the machine.
    pub const RESET_VALUE: u8 = 1;
    /// SLP_TYP of S5.
    pub const SOFT_OFF: u8 = 5;
}
