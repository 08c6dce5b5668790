// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The local APIC in x2APIC mode.
//!
//! Each processor's physical APIC is at the same time L1's virtual one: L1's interrupts are
//! delivered by the hardware, and the emulator "posts" one by sending an IPI.

// UNSAFETY: APIC registers are MSRs.
#![expect(unsafe_code)]

use super::msr;

/// APIC ID.
pub const ID: u32 = 0x802;
const TPR: u32 = 0x808;
const PPR: u32 = 0x80a;
const EOI: u32 = 0x80b;
/// Logical ID.
pub const LDR: u32 = 0x80d;
const SVR: u32 = 0x80f;
const IRR: u32 = 0x820;
/// Interrupt command register.
pub const ICR: u32 = 0x830;
const LVT_TIMER: u32 = 0x832;
const LVT_LINT0: u32 = 0x835;
const LVT_LINT1: u32 = 0x836;
const TIMER_INITIAL: u32 = 0x838;
const TIMER_DIVIDE: u32 = 0x83e;

/// Vector of the emulator's own timer, used before L1 owns the APIC, or where it never does.
pub const TIMER_VECTOR: u8 = 0xf0;

const ENABLE_X2APIC: u64 = 0xc00;
const LVT_MASKED: u64 = 1 << 16;
const LVT_PERIODIC: u64 = 1 << 17;
const SVR_RESET: u64 = 0xff;
const SVR_ENABLED: u64 = 0x1ff;

fn read(register: u32) -> u64 {
    // SAFETY: `enable` ran first on every processor, so the register exists.
    unsafe { msr::read(register) }
}

fn write(register: u32, value: u64) {
    // SAFETY: as for `read`; the callers below write values the manual allows.
    unsafe { msr::write(register, value) }
}

/// Switches the APIC to x2APIC mode.
pub fn enable() {
    // SAFETY: IA32_APIC_BASE exists on every processor that QEMU has.
    let base = unsafe { msr::read(msr::APIC_BASE) };
    // SAFETY: enabling from any enabled state is a legal transition.
    unsafe { msr::write(msr::APIC_BASE, base | ENABLE_X2APIC) };
}

/// This processor's APIC id.
pub fn id() -> u32 {
    read(ID) as u32 // CAST: the register has 32 bits
}

/// Sends INIT and start-up to all other processors.
pub fn start_all_others(vector: u8) {
    const ALL_BUT_SELF: u64 = 3 << 18;
    write(ICR, ALL_BUT_SELF | 0x4500);
    write(ICR, ALL_BUT_SELF | 0x4600 | u64::from(vector));
}

/// Delivery mode NMI.
pub const NMI: u32 = 4 << 8;

/// Sends an interrupt to one processor: vector, delivery mode and trigger mode.
pub fn send(apic_id: u32, command: u32) {
    const ASSERT: u32 = 1 << 14;
    write(
        ICR,
        (u64::from(apic_id) << 32) | u64::from(command | ASSERT),
    );
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Makes QEMU look again whether an interrupt is pending for this processor: a write to TPR does so,
/// whatever the value.
pub fn look_again() {
    write(TPR, read(TPR));
}

/// Starts a timer that interrupts about every millisecond.
pub fn start_timer() {
    const MILLISECOND_TICKS: u64 = 1_000_000;
    prepare_timer();
    write(LVT_TIMER, LVT_PERIODIC | u64::from(TIMER_VECTOR));
    write(TIMER_INITIAL, MILLISECOND_TICKS);
}

/// Makes the timer one that interrupts once after [`set_timer`], by [`TIMER_VECTOR`].
pub fn prepare_timer() {
    write(SVR, SVR_ENABLED);
    write(TIMER_DIVIDE, 0xb); // divide by one
    write(LVT_TIMER, u64::from(TIMER_VECTOR));
}

/// Keeps out the interrupts of the old interrupt controller, and NMIs of devices.
pub fn mask_pins() {
    write(LVT_LINT0, LVT_MASKED);
    write(LVT_LINT1, LVT_MASKED);
}

/// Has the timer interrupt after this many nanoseconds, or earlier if they are too many for it; or
/// stops it. QEMU's counts nanoseconds.
pub fn set_timer(after_ns: Option<u64>) {
    // A count of 0 stops it.
    let count = after_ns.map_or(0, |ns| ns.clamp(1, u64::from(u32::MAX)));
    write(TIMER_INITIAL, count);
}

/// Puts the timer back into its reset state.
pub fn stop_timer() {
    write(TIMER_INITIAL, 0);
    write(LVT_TIMER, LVT_MASKED);
    write(SVR, SVR_RESET);
}

/// Returns true if an interrupt is pending whose priority class is above the processor's.
pub fn has_deliverable_interrupt() -> bool {
    let highest = (0..8u32).rev().find_map(|word| {
        let bits = read(IRR + word) as u32; // CAST: the register has 32 bits
        bits.checked_ilog2().map(|bit| 32 * word + bit)
    });
    // CAST: PPR has eight bits.
    highest.is_some_and(|vector| vector >> 4 > (read(PPR) as u32) >> 4)
}
