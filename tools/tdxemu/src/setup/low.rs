// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VTL0's memory below 1 MiB that is not pending: made RAM, and emptied of what firmware left there.

// UNSAFETY: writes to registers of the chipset.
#![expect(unsafe_code)]

use crate::cpu::port;
use crate::mem::guest::GuestMemory;
use crate::mem::layout::LOW_BUILT;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
/// PAM registers of the host bridge, 00:00.0: route accesses to 0xc0000 to 0xeffff, in steps of 16
/// KiB.
const PAM: core::ops::RangeInclusive<u16> = 0x91..=0x96;
/// Memory does, for reads and writes of both halves.
const ALL_MEMORY: u32 = 0x33;

/// Makes it RAM, and fills it with zero.
///
/// # Errors
///
/// When the emulator itself has some of it.
pub fn clear(memory: &GuestMemory) -> Result<(), &'static str> {
    for register in PAM {
        let address = 0x8000_0000 | u32::from(register & !3);
        // SAFETY: chooses the register that the next access is for.
        unsafe { port::write(CONFIG_ADDRESS, 4, address) };
        // SAFETY: the register is the host bridge's, and controls no memory that the emulator uses.
        unsafe { port::write(CONFIG_DATA + (register & 3), 1, ALL_MEMORY) };
    }
    let is_done = |range: &crate::mem::map::Range| memory.zero(range.start, range.len_bytes());
    match LOW_BUILT.iter().all(is_done) {
        true => Ok(()),
        false => Err("memory below 1 MiB is not free"),
    }
}
