// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What L1 may not do to QEMU's machine, which the emulator shares with it: write to any memory by
//! something that is no device on its bus, put a device in the place of memory, change registers of
//! the processor that executes the access, or end QEMU as if L1 had powered off.
//!
//! `host/io.rs`, `host/pci.rs` and `host/mmio.rs` carry out what this file decides.

use crate::mem::map::Range;

/// Ports that answer as if nothing were there.
const ABSENT: [Range; 2] = [
    // fw_cfg: its DMA takes a physical address, and passes by the DMA-remapping unit.
    Range::new(0x510, 0x51c),
    // VMware's: changes general registers of the processor that accesses it.
    Range::new(0x5658, 0x565c),
];
const KEYBOARD_DATA: u16 = 0x60;
const KEYBOARD_COMMAND: u16 = 0x64;
/// Bit 0 resets, bit 1 is A20.
const SYSTEM_CONTROL: u16 = 0x92;
/// Every command but these two is an SMI, which enters firmware in the middle of what runs.
const APM_COMMAND: u16 = 0xb2;
const ACPI_ENABLE: u32 = 2;
const ACPI_DISABLE: u32 = 3;
/// Which events are SMIs.
const SMI_ENABLE: Range = Range::new(0x630, 0x634);
const RESET_CONTROL: u16 = 0xcf9;
const RESET_CPU: u32 = 1 << 2;

/// High-precision timers: an interrupt of theirs is a write of any value to any address below 4 GiB.
pub const HPET: Range = Range::new(0xfed0_0000, 0xfed0_0400);
/// The local APIC is not memory for L1, which uses x2APIC registers. What is written above its page is
/// a message-signalled interrupt, in QEMU also if a processor writes.
pub const LOCAL_APIC: Range = Range::new(0xfee0_0000, 0xfef0_0000);

/// Returns true if L1 finds no device at any of these ports.
pub fn is_absent(port: u16, size_bytes: u8) -> bool {
    let accessed = range_of(port, size_bytes);
    ABSENT.iter().any(|absent| absent.overlaps(&accessed))
}

fn range_of(port: u16, size_bytes: u8) -> Range {
    let start = u64::from(port);
    Range::new(start, start + u64::from(size_bytes))
}

/// What becomes of a write to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// The machine gets it.
    Passes,
    /// It has no effect.
    IsDropped,
    /// It would reset the machine.
    Resets,
}

/// L1's writes to ports.
#[derive(Debug)]
pub struct Ports {
    /// The next byte for the keyboard controller is for its output port, which has the lines for reset
    /// and A20.
    is_data_for_outputs: bool,
}

impl Ports {
    /// After reset.
    pub const RESET: Self = Self {
        is_data_for_outputs: false,
    };

    /// Decides about a write. QEMU hands wide ones to the keyboard controller byte by byte.
    pub fn write(&mut self, port: u16, size_bytes: u8, data: u32) -> Write {
        let bytes = data.to_le_bytes();
        let bytes = bytes.iter().take(usize::from(size_bytes)).copied();
        match port {
            _ if is_absent(port, size_bytes) => Write::IsDropped,
            KEYBOARD_COMMAND => strictest(bytes.map(|byte| self.command(byte))),
            KEYBOARD_DATA => strictest(bytes.map(|byte| self.data(byte))),
            SYSTEM_CONTROL => strictest(bytes.map(|byte| match byte & 1 {
                0 => Write::IsDropped,
                _ => Write::Resets,
            })),
            RESET_CONTROL if data & RESET_CPU != 0 => Write::Resets,
            APM_COMMAND if size_bytes == 1 && matches!(data & 0xff, ACPI_ENABLE | ACPI_DISABLE) => {
                Write::Passes
            }
            APM_COMMAND => Write::IsDropped,
            _ if SMI_ENABLE.overlaps(&range_of(port, size_bytes)) => Write::IsDropped,
            _ => Write::Passes,
        }
    }

    /// The machine's controller never learns of data for its output port.
    fn command(&mut self, byte: u8) -> Write {
        const WRITE_OUTPUTS: u8 = 0xd1;
        const DISABLE_A20: u8 = 0xdd;
        match byte {
            // Pulses lines of the output port whose bits are clear, of which bit 0 is for reset.
            _ if byte & 0xf1 == 0xf0 => Write::Resets,
            WRITE_OUTPUTS => {
                self.is_data_for_outputs = true;
                Write::IsDropped
            }
            DISABLE_A20 => Write::IsDropped,
            // Others that data follows.
            0x60 | 0xd2 | 0xd3 | 0xd4 => {
                self.is_data_for_outputs = false;
                Write::Passes
            }
            _ => Write::Passes,
        }
    }

    fn data(&mut self, byte: u8) -> Write {
        match core::mem::take(&mut self.is_data_for_outputs) {
            true if byte & 1 == 0 => Write::Resets,
            true => Write::IsDropped,
            false => Write::Passes,
        }
    }
}

fn strictest(writes: impl Iterator<Item = Write>) -> Write {
    writes.max().unwrap_or(Write::Passes)
}

/// A function on a PCI bus: bus, device and function number in one.
pub type Function = u16;

/// Returns true if writes of L1 to these bytes of a function's configuration have no effect: they could
/// put configuration space or registers of the chipset over memory, or take memory away.
pub fn is_fixed(function: Function, register: u16, len_bytes: u64) -> bool {
    const HOST_BRIDGE: Function = 0;
    const LPC_BRIDGE: Function = 0x1f << 3;
    // The ACPI registers' base and enable bit, and the base of the root complex's registers.
    const BASES: [Range; 2] = [Range::new(0x40, 0x48), Range::new(0xf0, 0xf4)];
    let start = u64::from(register);
    let accessed = Range::new(start, start + len_bytes);
    match function {
        HOST_BRIDGE => true,
        LPC_BRIDGE => BASES.iter().any(|base| base.overlaps(&accessed)),
        _ => false,
    }
}

/// Function and register that the ports of the host bridge select: what was written to the first, and
/// which of the second is accessed. `None` if they select nothing.
pub fn selected(address: u32, port: u16) -> Option<(Function, u16)> {
    const ENABLED: u32 = 1 << 31;
    // CAST: fields of the address.
    (address & ENABLED != 0)
        .then_some(((address >> 8) as u16, (address as u16 & 0xff) | (port & 3)))
}

/// Where configuration space is in memory, by the two words of the host bridge's register.
pub fn config_space(low: u32, high: u32) -> Option<Range> {
    const ENABLED: u32 = 1;
    const LARGEST: u64 = 256 << 20;
    let len_bytes = LARGEST >> ((low >> 1) & 3);
    let base = (u64::from(high) << 32) | u64::from(low);
    let start = base & !(len_bytes - 1);
    (low & ENABLED != 0).then_some(Range::new(start, start + len_bytes))
}

/// Function and register at an offset in configuration space.
pub fn at_offset(offset: u64) -> (Function, u16) {
    // CAST: fields of the offset, which is below 256 MiB.
    ((offset >> 12) as u16, (offset & 0xfff) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(port: u16, size_bytes: u8, data: u32) -> Write {
        let mut ports = Ports::RESET;
        ports.write(port, size_bytes, data)
    }

    #[test]
    fn fw_cfg_and_vmware_are_absent_whichever_byte_is_accessed() {
        for port in 0x510..0x51c {
            assert!(is_absent(port, 1), "{port:#x}");
            assert_eq!(write(port, 4, 0), Write::IsDropped);
        }
        assert!(is_absent(0x50d, 4) && is_absent(0x5658, 1) && is_absent(0x5657, 2));
        for (port, size_bytes) in [(0x50c, 4), (0x50f, 1), (0x51c, 4), (0x3f8, 1), (0xffff, 4)] {
            assert!(!is_absent(port, size_bytes), "{port:#x}");
        }
    }

    #[test]
    fn every_way_to_reset_is_noticed() {
        for (port, size_bytes, data) in [
            (0xcf9, 1, 6),
            (0xcf9, 2, 4),
            (0x64, 1, 0xfe),
            (0x64, 1, 0xf0),
            (0x64, 1, 0xf2),
            (0x64, 2, 0xfe20),
            (0x64, 4, 0xf400_0000),
            (0x92, 1, 1),
            (0x92, 2, 0x0300),
        ] {
            assert_eq!(
                write(port, size_bytes, data),
                Write::Resets,
                "{port:#x} {data:#x}"
            );
        }
        // Pulses of other lines, the kind of reset without the reset, bytes that are not written.
        for (port, size_bytes, data) in [
            (0x64, 1, 0xf1),
            (0x64, 1, 0xff),
            (0x64, 1, 0xfe20),
            (0x60, 1, 0xfe),
            (0xcf9, 1, 2),
        ] {
            assert_eq!(
                write(port, size_bytes, data),
                Write::Passes,
                "{port:#x} {data:#x}"
            );
        }
    }

    #[test]
    fn the_keyboard_controllers_outputs_reset_and_nothing_else() {
        let mut ports = Ports::RESET;
        assert_eq!(ports.write(0x64, 1, 0xd1), Write::IsDropped);
        // A command without data in between changes nothing.
        assert_eq!(ports.write(0x64, 1, 0x20), Write::Passes);
        assert_eq!(ports.write(0x60, 1, 0xfe), Write::Resets);
        ports.write(0x64, 1, 0xd1);
        assert_eq!(ports.write(0x60, 1, 0x01), Write::IsDropped);
        assert_eq!(ports.write(0x60, 1, 0x00), Write::Passes);
        ports.write(0x64, 1, 0xd1);
        assert_eq!(ports.write(0x64, 1, 0x60), Write::Passes);
        assert_eq!(ports.write(0x60, 1, 0x00), Write::Passes);
        assert_eq!(ports.write(0x64, 2, 0xd120), Write::IsDropped);
        assert_eq!(ports.write(0x60, 2, 0x0001), Write::IsDropped);
    }

    #[test]
    fn a20_stays_enabled() {
        assert_eq!(write(0x92, 1, 0), Write::IsDropped);
        assert_eq!(write(0x64, 1, 0xdd), Write::IsDropped);
        assert_eq!(write(0x64, 1, 0xdf), Write::Passes);
    }

    #[test]
    fn l1_makes_no_smi() {
        for (port, size_bytes, data) in [(0xb2, 1, 0), (0xb2, 1, 4), (0xb2, 2, 2), (0xb2, 4, 3)] {
            assert_eq!(write(port, size_bytes, data), Write::IsDropped, "{data:#x}");
        }
        assert_eq!(write(0x630, 4, 0x21), Write::IsDropped);
        assert_eq!(write(0x62f, 2, 0x2100), Write::IsDropped);
        for (port, data) in [(0xb2, 2), (0xb2, 3), (0xb3, 4), (0x604, 1), (0x634, 1)] {
            assert_eq!(write(port, 1, data), Write::Passes, "{port:#x} {data:#x}");
        }
    }

    #[test]
    fn bases_of_the_chipset_do_not_move() {
        for register in [0, 4, 0x60, 0x90, 0x9d, 0xfff] {
            assert!(is_fixed(0, register, 1));
        }
        let lpc = 0xf8;
        for (register, len_bytes) in [(0x40, 1), (0x44, 1), (0xf0, 4), (0xf3, 1), (0xec, 8)] {
            assert!(is_fixed(lpc, register, len_bytes), "{register:#x}");
        }
        for (register, len_bytes) in [(4, 2), (0x3c, 4), (0x60, 4), (0xec, 4), (0xf4, 4)] {
            assert!(!is_fixed(lpc, register, len_bytes), "{register:#x}");
        }
        assert!(!is_fixed(0x08, 0x60, 4) && !is_fixed(0x0100, 0x60, 4));
    }

    #[test]
    fn configuration_is_found_by_ports_and_in_memory() {
        assert_eq!(selected(0x60, 0xcfc), None);
        assert_eq!(selected(0x8000_0060, 0xcfc), Some((0, 0x60)));
        // As in QEMU, the port's number is added by OR.
        assert_eq!(selected(0x8001_f8f3, 0xcfd), Some((0x1f8, 0xf3)));
        assert_eq!(
            config_space(0xb000_0001, 0),
            Some(Range::new(0xb000_0000, 0xc000_0000))
        );
        assert_eq!(
            config_space(0x3000_0005, 1),
            Some(Range::new(0x1_3000_0000, 0x1_3400_0000))
        );
        assert_eq!(config_space(0xb000_0000, 0), None);
        assert_eq!(at_offset(0x000f_80f0), (0xf8, 0xf0));
        assert_eq!(at_offset(0x000f_ffff), (0xff, 0xfff));
    }
}
