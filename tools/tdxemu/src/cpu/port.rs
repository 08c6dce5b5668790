// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Port I/O.

// UNSAFETY: IN and OUT.
#![expect(unsafe_code)]

use core::arch::asm;

/// Reads a port; `size_bytes` 1, 2 or 4.
///
/// # Safety
///
/// No device may be made to write to the emulator's memory by it.
pub unsafe fn read(port: u16, size_bytes: u8) -> u32 {
    match size_bytes {
        1 => {
            let value: u8;
            // SAFETY: forwarded to the caller, `# Safety`.
            unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
            u32::from(value)
        }
        2 => {
            let value: u16;
            // SAFETY: forwarded to the caller, `# Safety`.
            unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
            u32::from(value)
        }
        _ => {
            let value: u32;
            // SAFETY: forwarded to the caller, `# Safety`.
            unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
            value
        }
    }
}

/// Writes a port; `size_bytes` 1, 2 or 4.
///
/// # Safety
///
/// No device may be made to write to the emulator's memory by it.
pub unsafe fn write(port: u16, size_bytes: u8, value: u32) {
    // CAST: the device sees as many bytes as the size says.
    let (byte, word) = (value as u8, value as u16);
    match size_bytes {
        // SAFETY: forwarded to the caller, `# Safety`.
        1 => unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nostack)) },
        // SAFETY: forwarded to the caller, `# Safety`.
        2 => unsafe { asm!("out dx, ax", in("dx") port, in("ax") word, options(nostack)) },
        // SAFETY: forwarded to the caller, `# Safety`.
        _ => unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) },
    }
}
