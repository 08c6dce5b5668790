// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The devices that belong to the emulator: the debug console, and the port that ends QEMU.

// UNSAFETY: two I/O ports.
#![expect(unsafe_code)]

use crate::cpu::port;
use core::fmt::{self, Write};
use spin::Mutex;

/// isa-debugcon.
pub const DEBUG_PORT: u16 = 0xe9;
/// isa-debug-exit. Writing V ends QEMU with status 2V + 1.
pub const EXIT_PORT: u16 = 0xf4;

/// Why the machine stops, as written to [`EXIT_PORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// A bug of the emulator, or something it does not model. QEMU's status: 33.
    Emulator = 0x10,
    /// L1 reported a fatal error or is beyond recovery. QEMU's status: 35.
    L1 = 0x11,
    /// L1 requested a reset, which the emulator does not model. QEMU's status: 37.
    Reset = 0x12,
    /// The command line or the machine is not usable. QEMU's status: 39.
    Setup = 0x13,
    /// The machine below lost a guest's state or an NMI. QEMU's status: 41.
    Machine = 0x14,
    /// An L2 used a right that L1 had declared gone. QEMU's status: 43.
    Stale = 0x15,
}

struct DebugConsole;

impl Write for DebugConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the port prints a character.
            unsafe { port::write(DEBUG_PORT, 1, u32::from(byte)) };
        }
        Ok(())
    }
}

static LINES: Mutex<DebugConsole> = Mutex::new(DebugConsole);

/// Prints one line. A processor that dies with the lock held does not silence the others.
pub fn line(arguments: fmt::Arguments<'_>) {
    const PATIENCE: u32 = 10_000_000;
    let mut held = None;
    for _ in 0..PATIENCE {
        held = LINES.try_lock();
        if held.is_some() {
            break;
        }
        core::hint::spin_loop();
    }
    // Writing to the port cannot fail.
    let _ = match crate::smp::current_index() {
        Some(index) => writeln!(DebugConsole, "tdxemu[{index}] {arguments}"),
        None => writeln!(DebugConsole, "tdxemu[boot] {arguments}"),
    };
    drop(held);
}

/// Ends QEMU.
pub fn end(reason: End) -> ! {
    // SAFETY: the port ends the machine.
    unsafe { port::write(EXIT_PORT, 1, reason as u32) };
    loop {
        core::hint::spin_loop();
    }
}
