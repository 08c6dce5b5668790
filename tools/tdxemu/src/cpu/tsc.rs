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
/// Ticks of the interval timer between two readings, 20 ms; it counts 55 ms from 65535 to 0.
const MEASURE_TICKS: u64 = PIT_HZ / 50;
/// The machine below may preempt this processor at any point. So each reading has a known error,
/// and a measurement with too large an error is repeated.
const ATTEMPTS: usize = 100;
const GOOD_ENOUGH_PPM: u64 = 100;

fn out_byte(to: u16, value: u8) {
    // SAFETY: only used below for the interval timer, which does not access memory.
    unsafe { port::write(to, 1, u32::from(value)) }
}

fn in_byte(from: u16) -> u8 {
    // SAFETY: only used below for the timer's gate port, which does not access memory.
    let value = unsafe { port::read(from, 1) };
    value as u8 // CAST: one byte was read
}

/// Channel 2 of the interval timer, and the time-stamp counter at that moment.
struct Reading {
    ticks_left: u64,
    tsc: u64,
    /// How far off `tsc` may be.
    uncertainty: u64,
}

fn read_both() -> Reading {
    const LATCH_CHANNEL_2: u8 = 0x80;
    let before = now();
    out_byte(0x43, LATCH_CHANNEL_2);
    let uncertainty = now() - before;
    let (low, high) = (in_byte(0x42), in_byte(0x42));
    Reading {
        ticks_left: u64::from(u16::from_le_bytes([low, high])),
        tsc: before + uncertainty / 2,
        uncertainty,
    }
}

/// The surest of a few readings.
fn read_surely() -> Reading {
    let others = core::iter::repeat_with(read_both).take(7);
    others.fold(read_both(), |best, next| {
        if next.uncertainty < best.uncertainty {
            next
        } else {
            best
        }
    })
}

/// Measures the rate in kHz against channel 2 of the interval timer, before interrupts are in use.
pub fn measure_khz() -> u64 {
    let (mut best_ppm, mut best_khz) = (u64::MAX, 0);
    for _ in 0..ATTEMPTS {
        let Some((ppm, khz)) = measure_once() else {
            continue;
        };
        if ppm < best_ppm {
            (best_ppm, best_khz) = (ppm, khz);
        }
        if ppm <= GOOD_ENOUGH_PPM {
            break;
        }
    }
    assert!(best_khz != 0, "the interval timer cannot be measured with");
    best_khz
}

/// The possible error in millionths, and the rate in kHz. `None` if the timer expired meanwhile.
fn measure_once() -> Option<(u64, u64)> {
    const GATE_PORT: u16 = 0x61;
    const RAN_OUT: u8 = 0x20;
    let gate = in_byte(GATE_PORT) & !3;
    out_byte(GATE_PORT, gate | 1);
    out_byte(0x43, 0xb0); // channel 2, low then high byte, mode 0: output rises at the end
    out_byte(0x42, 0xff);
    out_byte(0x42, 0xff);
    let first = read_surely();
    let mut last = read_both();
    while last.ticks_left + MEASURE_TICKS > first.ticks_left && in_byte(GATE_PORT) & RAN_OUT == 0 {
        last = read_both();
    }
    last = read_surely();
    let has_run_out = in_byte(GATE_PORT) & RAN_OUT != 0;
    out_byte(GATE_PORT, gate);
    let ticks = first.ticks_left.checked_sub(last.ticks_left)?;
    let elapsed = last.tsc.checked_sub(first.tsc)?;
    if has_run_out || ticks < MEASURE_TICKS / 2 || elapsed == 0 {
        return None;
    }
    let ppm = (first.uncertainty + last.uncertainty) * 1_000_000 / elapsed;
    Some((ppm, elapsed * PIT_HZ / ticks / 1000))
}
