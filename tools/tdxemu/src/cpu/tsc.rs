// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The time-stamp counter and its rate.

// UNSAFETY: RDTSC and the ports of the interval timer.
#![expect(unsafe_code)]

use super::port;
use core::arch::asm;

/// The counter.
pub fn now() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC reads a counter and nothing else.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    (u64::from(high) << 32) | u64::from(low)
}

const PIT_HZ: u64 = 1_193_182;
const MEASURE_MS: u64 = 10;
/// Measurements; the machine below may be busy, so the middle one counts.
const MEASUREMENTS: usize = 7;

fn out_byte(to: u16, value: u8) {
    // SAFETY: only used below for the interval timer, which does not access memory.
    unsafe { port::write(to, 1, u32::from(value)) }
}

fn in_byte(from: u16) -> u8 {
    // SAFETY: only used below for the timer's gate port, which does not access memory.
    let value = unsafe { port::read(from, 1) };
    value as u8 // CAST: one byte was read
}

/// Measures the rate in kHz against channel 2 of the interval timer, before interrupts are in use.
pub fn measure_khz() -> u64 {
    let mut results: [u64; MEASUREMENTS] = core::array::from_fn(|_| measure_once_khz());
    results.sort_unstable();
    results[MEASUREMENTS / 2]
}

fn measure_once_khz() -> u64 {
    const GATE_PORT: u16 = 0x61;
    let ticks = PIT_HZ * MEASURE_MS / 1000;
    let gate = in_byte(GATE_PORT) & !3;
    out_byte(GATE_PORT, gate);
    out_byte(0x43, 0xb0); // channel 2, low then high byte, mode 0: output rises at the end
    // CAST: the two bytes of a 16-bit count.
    out_byte(0x42, ticks as u8);
    out_byte(0x42, (ticks >> 8) as u8);
    out_byte(GATE_PORT, gate | 1);
    let start = now();
    while in_byte(GATE_PORT) & 0x20 == 0 {
        core::hint::spin_loop();
    }
    let elapsed = now() - start;
    out_byte(GATE_PORT, gate);
    elapsed / MEASURE_MS
}
