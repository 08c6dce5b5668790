// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Configuration of PCI devices, by the two ports of the host bridge and in memory. L1's writes to what
//! `chipset` calls fixed have no effect.

// UNSAFETY: the two ports, on L1's behalf.
#![expect(unsafe_code)]

use crate::chipset;
use crate::cpu::port;
use crate::log;
use crate::mem::map::Range;
use spin::{Mutex, Once};

/// Selects a register.
const ADDRESS: u16 = 0xcf8;
/// The register that is selected.
const DATA: u16 = 0xcfc;

/// What L1 has written to the first port. The machine's gets it with each access to the second one,
/// under the lock: what is checked is then what is accessed.
static SELECTED: Mutex<u32> = Mutex::new(0);
static CONFIG_SPACE: Once<Option<Range>> = Once::new();

/// Returns true if an access to this port is for here. 0xcf9 is another register.
pub fn has_port(port: u16) -> bool {
    port == ADDRESS || (DATA..DATA + 4).contains(&port)
}

/// Reads a port.
pub fn read(number: u16, size_bytes: u8) -> u32 {
    let selected = SELECTED.lock();
    match number {
        ADDRESS => *selected & (u32::MAX >> (32 - 8 * u32::from(size_bytes))),
        _ => read_data(*selected, number, size_bytes),
    }
}

/// Writes a port. The first one takes nothing but double words.
pub fn write(number: u16, size_bytes: u8, value: u32) {
    let mut selected = SELECTED.lock();
    if number == ADDRESS {
        if size_bytes == 4 {
            *selected = value;
        }
        return;
    }
    let Some((function, register)) = chipset::selected(*selected, number) else {
        return;
    };
    if chipset::is_fixed(function, register, u64::from(size_bytes)) {
        return log!(Debug, "{function:#x} {register:#x} stays as it is");
    }
    select(*selected);
    // SAFETY: a register of a device, and none that moves the chipset's own, checked above; what a
    // device is made to write goes through the DMA-remapping unit (`io`).
    unsafe { port::write(number, size_bytes, value) };
}

fn select(address: u32) {
    // SAFETY: chooses the register that the next access is for.
    unsafe { port::write(ADDRESS, 4, address) };
}

fn read_data(address: u32, number: u16, size_bytes: u8) -> u32 {
    select(address);
    // SAFETY: reading configuration has no effect.
    unsafe { port::read(number, size_bytes) }
}

/// Returns true if a write to this address in memory would be to configuration that is fixed.
pub fn is_fixed(address: u64, size_bytes: u64) -> bool {
    let Some(space) = CONFIG_SPACE.call_once(find_config_space) else {
        return false;
    };
    space.contains(address, 1) && {
        let (function, register) = chipset::at_offset(address - space.start);
        chipset::is_fixed(function, register, size_bytes)
    }
}

/// Firmware has decided where it is, and L1 can't move it.
fn find_config_space() -> Option<Range> {
    const LOW: u32 = 0x8000_0060;
    let _held = SELECTED.lock();
    let [low, high] = [LOW, LOW + 4].map(|address| read_data(address, DATA, 4));
    chipset::config_space(low, high)
}
