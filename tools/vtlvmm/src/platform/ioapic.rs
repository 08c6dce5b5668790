// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The I/O APIC: 24 lines, each with the interrupt that it becomes.
//!
//! Lines are pulses, because all devices here are edge-triggered. A line that the guest sets to
//! level-triggered behaves the same, and Remote IRR stays zero.

use super::Gsi;

/// Destination of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An x2APIC ID; all ones are all.
    Physical(u32),
    /// Bits in the logical x2APIC ID; all ones are all.
    Logical(u32),
}

impl Destination {
    /// All processors.
    pub const ALL: u32 = u32::MAX;

    /// Returns true if the processor with this x2APIC ID is meant.
    pub const fn includes(self, id: u32) -> bool {
        match self {
            Self::Physical(Self::ALL) | Self::Logical(Self::ALL) => true,
            Self::Physical(wanted) => wanted == id,
            Self::Logical(set) => set >> 16 == id >> 4 && set & (1 << (id & 15)) != 0,
        }
    }
}

/// An interrupt on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub destination: Destination,
    /// Vector, not below 16.
    pub vector: u8,
}

/// The registers.
#[derive(Clone, Debug)]
pub struct IoApic {
    selected: u8,
    entries: [u64; Gsi::COUNT as usize],
}

const MASKED: u64 = 1 << 16;
const LOGICAL: u64 = 1 << 11;
/// Delivery status and Remote IRR.
const READ_ONLY: u64 = (1 << 12) | (1 << 14);
const FIRST_VECTOR: u8 = 16;

impl Default for IoApic {
    fn default() -> Self {
        Self {
            selected: 0,
            entries: [MASKED; Gsi::COUNT as usize],
        }
    }
}

impl IoApic {
    const SELECT: u32 = 0x00;
    const WINDOW: u32 = 0x10;
    const REDIRECTION: u8 = 0x10;

    /// Reads the register at an offset.
    pub fn read(&self, offset: u32) -> u32 {
        /// Version 0x11, which has no EOI register; the number of the last line.
        const VERSION: u32 = 0x11 | ((Gsi::COUNT as u32 - 1) << 16);
        match (offset, self.selected) {
            (Self::SELECT, selected) => u32::from(selected),
            (Self::WINDOW, 1) => VERSION,
            (Self::WINDOW, selected) => match self.entry_of(selected) {
                // CAST: one half of the entry.
                Some((entry, shift)) => (self.entries[entry] >> shift) as u32,
                None => 0,
            },
            _ => 0,
        }
    }

    /// Writes the register at an offset.
    pub fn write(&mut self, offset: u32, value: u32) {
        match offset {
            // CAST: the register has eight bits.
            Self::SELECT => self.selected = value as u8,
            Self::WINDOW => {
                if let Some((entry, shift)) = self.entry_of(self.selected) {
                    let half = 0xffff_ffff << shift;
                    let kept = self.entries[entry] & !half;
                    self.entries[entry] = (kept | (u64::from(value) << shift)) & !READ_ONLY;
                }
            }
            _ => {}
        }
    }

    /// The interrupt that a pulse on a line becomes: none while it is masked, or of a kind that
    /// no driver uses (SMI, NMI, INIT, ExtINT).
    pub fn pulse(&self, line: Gsi) -> Option<Message> {
        const LOWEST_PRIORITY: u64 = 1;
        let entry = self.entries[line.index()];
        // CAST: bits 7:0 and 63:56.
        let (vector, id) = (entry as u8, (entry >> 56) as u8);
        let is_plain = (entry >> 8) & 7 <= LOWEST_PRIORITY;
        if entry & MASKED != 0 || !is_plain || vector < FIRST_VECTOR {
            return None;
        }
        let destination = match (id, entry & LOGICAL) {
            (0xff, 0) => Destination::Physical(Destination::ALL),
            (id, 0) => Destination::Physical(u32::from(id)),
            (id, _) => Destination::Logical(u32::from(id)),
        };
        Some(Message {
            destination,
            vector,
        })
    }

    /// The entry that a register is half of, and where in it.
    fn entry_of(&self, register: u8) -> Option<(usize, u32)> {
        let number = register.checked_sub(Self::REDIRECTION)?;
        let entry = usize::from(number / 2);
        (entry < self.entries.len()).then_some((entry, 32 * u32::from(number % 2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ioapic: &mut IoApic, register: u8, value: u32) {
        ioapic.write(0, u32::from(register));
        ioapic.write(0x10, value);
    }

    fn get(ioapic: &mut IoApic, register: u8) -> u32 {
        ioapic.write(0, u32::from(register));
        ioapic.read(0x10)
    }

    #[test]
    fn lines_are_masked_until_the_guest_says_otherwise() {
        let mut ioapic = IoApic::default();
        assert_eq!(ioapic.pulse(Gsi::SERIAL), None);
        set(&mut ioapic, 0x18, 0x41);
        set(&mut ioapic, 0x19, 3 << 24);
        let message = Message {
            destination: Destination::Physical(3),
            vector: 0x41,
        };
        assert_eq!(ioapic.pulse(Gsi::SERIAL), Some(message));
        set(&mut ioapic, 0x18, 0x0001_0041);
        assert_eq!(ioapic.pulse(Gsi::SERIAL), None);
    }

    #[test]
    fn what_is_no_plain_interrupt_goes_nowhere() {
        let mut ioapic = IoApic::default();
        for entry in [0x0f, 0x241, 0x441, 0x541, 0x741] {
            set(&mut ioapic, 0x18, entry);
            assert_eq!(ioapic.pulse(Gsi::SERIAL), None, "{entry:#x}");
        }
    }

    #[test]
    fn registers_beyond_the_last_line_do_nothing() {
        let mut ioapic = IoApic::default();
        for register in 0..=0xff {
            set(&mut ioapic, register, u32::MAX);
        }
        assert_eq!(get(&mut ioapic, 0x10 + 48), 0);
        assert_eq!(get(&mut ioapic, 0x0f), 0);
        assert_eq!(get(&mut ioapic, 1), 0x0017_0011);
        // Read-only bits stay.
        assert_eq!(get(&mut ioapic, 0x10), 0xffff_afff);
        ioapic.write(0x40, 1);
        assert_eq!(ioapic.read(0x40), 0);
    }

    #[test]
    fn destinations_name_whom_x2apics_name() {
        assert!(Destination::Physical(2).includes(2));
        assert!(!Destination::Physical(2).includes(1));
        assert!(Destination::Logical(0x0001_0004).includes(18));
        assert!(!Destination::Logical(0x0001_0004).includes(2));
        assert!(Destination::Logical(Destination::ALL).includes(77));
    }
}
