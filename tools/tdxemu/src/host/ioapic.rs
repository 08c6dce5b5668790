// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! QEMU's IOAPIC, whose entries name processors: L1 reads and writes its own numbers. In the
//! machine's IOAPIC each entry has one physical destination. [82093AA 3.1, 3.2]

use crate::l1_apic::{self, MASKED, ROUTING};
use crate::mem::map::Range;
use crate::{log, smp};
use spin::Mutex;

/// Its registers.
pub const REGISTERS: Range = Range::new(0xfec0_0000, 0xfec0_1000);

const SELECT: u64 = 0xfec0_0000;
const WINDOW: u64 = 0xfec0_0010;
/// The first of the entries, which have two registers each.
const ENTRIES: u32 = 0x10;
const PINS: usize = 24;
/// An APIC ID that no processor has.
const NOBODY: u32 = 0xfe;

/// What L1 has written.
struct Written {
    select: u32,
    entries: [[u32; 2]; PINS],
}

static WRITTEN: Mutex<Written> = Mutex::new(Written {
    select: 0,
    entries: [[MASKED, 0]; PINS],
});

impl Written {
    /// Entry and half that the window shows.
    fn shown(&self) -> Option<(usize, usize)> {
        let register = self.select.checked_sub(ENTRIES)? as usize;
        (register / 2 < PINS).then_some((register / 2, register % 2))
    }

    /// What the machine's entry has to be.
    fn routed(&self, pin: usize) -> [u32; 2] {
        let [low, high] = self.entries[pin];
        let (target, routed) = l1_apic::redirection(low, high, smp::count());
        let apic_id = target.map_or(NOBODY, smp::apic_id);
        if target.is_none() && low & MASKED == 0 {
            log!(
                Warn,
                "IOAPIC: entry {pin} ({high:#x} {low:#x}) names no processor of L1's"
            );
        }
        [routed, (apic_id << 24) | (high & 0xff_ffff)]
    }
}

/// Reads a register; `native` reads the machine's.
pub fn read(address: u64, native: impl Fn(u64) -> u32) -> u32 {
    let written = WRITTEN.lock();
    let machine = native(address);
    match (address, written.shown()) {
        (SELECT, _) => written.select,
        // Delivery status and remote IRR are the machine's.
        (WINDOW, Some((pin, 0))) => (machine & !ROUTING) | (written.entries[pin][0] & ROUTING),
        (WINDOW, Some((pin, _))) => written.entries[pin][1],
        _ => machine,
    }
}

/// Writes a register; `native` writes the machine's.
pub fn write(address: u64, value: u32, native: impl Fn(u64, u32)) {
    let mut written = WRITTEN.lock();
    if address == SELECT {
        written.select = value & 0xff;
    }
    let (WINDOW, Some((pin, half))) = (address, written.shown()) else {
        return native(address, value);
    };
    written.entries[pin][half] = value;
    let words = written.routed(pin);
    // The destination first: the other half may open the entry.
    for half in [1, 0] {
        // CAST: below 64.
        native(SELECT, ENTRIES + (2 * pin + half) as u32);
        native(WINDOW, words[half]);
    }
    native(SELECT, written.select);
}
