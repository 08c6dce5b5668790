// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The old interrupt controllers, which firmware leaves running with the timer unmasked. A TD
//! starts with no interrupt pending, whatever its kernel does about them later.

// UNSAFETY: two ports.
#![expect(unsafe_code)]

use super::port;

const MASKS: [u16; 2] = [0x21, 0xa1];

/// Masks every input.
pub fn silence() {
    for port in MASKS {
        // SAFETY: a mask register; it reaches no memory.
        unsafe { port::write(port, 1, 0xff) };
    }
}
