// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What Hyper-V offers besides messages and events: features, registers by hypercall, timers.

use super::Memory;
use super::memory::shared_window;
use crate::cpu::{peek, poke, rdtsc, take_interrupts, taken_vector};
use crate::host;
use crate::vm::{Outcome, Vm, equal};

const TIME_REF_COUNT: u64 = 0x4000_0020;
const STIMER0_CONFIG: u64 = 0x4000_00b0;
const STIMER0_COUNT: u64 = 0x4000_00b1;
const STIMER3_CONFIG: u64 = 0x4000_00b6;
const STIMER3_COUNT: u64 = 0x4000_00b7;
const ENABLED: u64 = 1;
const PERIODIC: u64 = 1 << 1;
const AUTO_ENABLE: u64 = 1 << 3;
const DIRECT: u64 = 1 << 12;
/// Of the reference counter.
const MILLISECOND: u64 = 10_000;

const SHARED: u64 = 1 << 47;
/// Memory of VTL0 that no other test uses.
const PAGE: u64 = 36 << 20;

fn now() -> u64 {
    host::rdmsr(TIME_REF_COUNT)
}

const fn direct(vector: u64) -> u64 {
    DIRECT | (vector << 4)
}

/// Sleeps until an interrupt comes, and returns its vector.
fn next_vector() -> u64 {
    host::sleep();
    take_interrupts();
    taken_vector()
}

/// Returns true if no interrupt comes for a few milliseconds.
fn is_silent() -> bool {
    let end = now() + 5 * MILLISECOND;
    while now() < end {
        take_interrupts();
    }
    taken_vector() == 0
}

pub fn features_name_vsm_and_timers(_: &mut Vm, _: &Memory) -> Outcome {
    let [eax, ebx, _, edx] = host::cpuid(0x4000_0003);
    // Reference counter and timers; AccessVSM; timers in direct mode.
    equal!(eax & 0xa, 0xa);
    equal!((ebx >> 16) & 1, 1);
    equal!((edx >> 19) & 1, 1);
    Ok(())
}

pub fn reference_counter_has_units_of_100_ns(_: &mut Vm, _: &Memory) -> Outcome {
    let ticks_per_second = host::rdmsr(0x4000_0022);
    let (start, start_tsc) = (now(), rdtsc());
    while now() < start + 20 * MILLISECOND {}
    let by_tsc = (rdtsc() - start_tsc) * 10_000_000 / ticks_per_second;
    // Each reading is an exit, which a busy machine may hold up.
    equal!(
        u64::from((19 * MILLISECOND..100 * MILLISECOND).contains(&by_tsc)),
        1
    );
    Ok(())
}

pub fn registers_of_the_partition_are_read_and_set_by_name(_: &mut Vm, memory: &Memory) -> Outcome {
    const GET: u64 = 0x50;
    const SET: u64 = 0x51;
    const SELF_VP: u64 = 0xffff_fffe;
    const VSM_CAPABILITIES: u64 = 0xd_0006;
    const VSM_PARTITION_CONFIG: u64 = 0xd_0007;
    const GUEST_VSM_PARTITION_CONFIG: u64 = 0xd_0008;
    const TIME: u64 = 0x9_0004;
    const PM_TIMER_ASSIST: u64 = 0x9_0032;
    const SINT3: u64 = 0xa_0003;
    const INVALID_PARAMETER: u64 = 5;
    let reps = |count: u64| count << 32;
    let input = memory.start + PAGE;
    host::map_gpa(input | SHARED, 0x2000);
    let window = shared_window() + input;
    poke(window, u64::MAX); // this partition
    poke(window + 8, SELF_VP);
    poke(window + 16, VSM_CAPABILITIES | (VSM_PARTITION_CONFIG << 32));
    poke(window + 24, GUEST_VSM_PARTITION_CONFIG | (TIME << 32));
    let get = |count| host::hypercall(GET | reps(count), input, input + 0x1000);
    let before = now();
    equal!(get(4), reps(4));
    let value = |index: u64| peek(window + 0x1000 + 16 * index);
    // DR6 is shared; VTL1 is the highest that the guest may have.
    equal!(value(0), 1);
    equal!(value(1), 0);
    equal!(value(2), 1);
    equal!(u64::from((before..=now()).contains(&value(3))), 1);
    // A register that the host does not have ends the call where it is.
    poke(window + 24, 0xd_00ff | (TIME << 32));
    equal!(get(4), reps(2) | INVALID_PARAMETER);

    let set = || host::hypercall(SET | reps(1), input, 0);
    poke(window + 16, PM_TIMER_ASSIST);
    poke(window + 24, 0);
    for (value, result) in [(0, reps(1)), (0x408, INVALID_PARAMETER)] {
        poke(window + 32, value);
        equal!(set(), result);
    }
    // Padding, and the upper half of the value.
    poke(window + 32, 0);
    for (at, bit) in [(16, 1 << 32), (16, 1 << 63), (24, 1), (40, 1)] {
        let word = peek(window + at);
        poke(window + at, word | bit);
        equal!(set(), INVALID_PARAMETER);
        poke(window + at, word);
    }
    // The partition's registers are VTL2's own, by name or as the caller's; the SINTs are VTL0's.
    let vtl = |byte: u64| poke(window + 8, SELF_VP | (byte << 32));
    for (byte, own, lower) in [
        (0, reps(1), INVALID_PARAMETER),
        (0x12, reps(1), INVALID_PARAMETER),
        (0x10, INVALID_PARAMETER, reps(1)),
        (0x11, INVALID_PARAMETER, INVALID_PARAMETER),
        (0x13, INVALID_PARAMETER, INVALID_PARAMETER),
        (0x20, INVALID_PARAMETER, INVALID_PARAMETER),
        (0x110, INVALID_PARAMETER, INVALID_PARAMETER),
    ] {
        vtl(byte);
        for (name, value, result) in [
            (PM_TIMER_ASSIST, 0, own),
            (VSM_PARTITION_CONFIG, 1, own),
            (SINT3, 1 << 16, lower),
        ] {
            poke(window + 16, name);
            poke(window + 32, value);
            equal!(set(), result);
        }
        poke(window + 16, TIME);
        equal!(get(1), own);
    }
    Ok(())
}

pub fn timer_interrupts_once_when_it_is_due(_: &mut Vm, _: &Memory) -> Outcome {
    host::wrmsr(0x80f, 0x1ff); // APIC on
    host::wrmsr(STIMER0_CONFIG, direct(0x66) | AUTO_ENABLE | ENABLED);
    for after in [3 * MILLISECOND, MILLISECOND / 10, 1] {
        let due = now() + after;
        host::wrmsr(STIMER0_COUNT, due);
        equal!(next_vector(), 0x66);
        equal!(u64::from(now() >= due), 1);
        equal!(host::rdmsr(STIMER0_CONFIG), direct(0x66) | AUTO_ENABLE);
        equal!(host::rdmsr(STIMER0_COUNT), due);
    }
    // What is over already expires at once.
    host::wrmsr(STIMER0_COUNT, 1);
    equal!(next_vector(), 0x66);
    equal!(u64::from(is_silent()), 1);
    host::wrmsr(STIMER0_CONFIG, 0);
    Ok(())
}

pub fn timer_that_is_stopped_does_not_interrupt(_: &mut Vm, _: &Memory) -> Outcome {
    for (register, value) in [(STIMER3_COUNT, 0), (STIMER3_CONFIG, 0)] {
        host::wrmsr(STIMER3_CONFIG, direct(0x67) | AUTO_ENABLE);
        host::wrmsr(STIMER3_COUNT, now() + 2 * MILLISECOND);
        host::wrmsr(register, value);
        equal!(u64::from(is_silent()), 1);
    }
    Ok(())
}

pub fn periodic_timer_interrupts_until_it_is_stopped(_: &mut Vm, _: &Memory) -> Outcome {
    let start = now();
    host::wrmsr(STIMER3_COUNT, 2 * MILLISECOND);
    host::wrmsr(STIMER3_CONFIG, direct(0x68) | PERIODIC | ENABLED);
    // Another one may expire meanwhile.
    host::wrmsr(STIMER0_CONFIG, direct(0x69) | AUTO_ENABLE);
    host::wrmsr(STIMER0_COUNT, start + 100_000 * MILLISECOND);
    for _ in 0..4 {
        equal!(next_vector(), 0x68);
    }
    equal!(u64::from(now() >= start + 8 * MILLISECOND), 1);
    host::wrmsr(STIMER3_CONFIG, 0);
    host::wrmsr(STIMER0_CONFIG, 0);
    take_interrupts();
    taken_vector();
    equal!(u64::from(is_silent()), 1);
    Ok(())
}

pub fn timers_without_direct_mode_are_refused_or_disabled(_: &mut Vm, _: &Memory) -> Outcome {
    let refuses = |value| u64::from(host::refuses_wrmsr(STIMER0_CONFIG, value));
    // A message to SINT 2; a vector of an exception; reserved bits; the same without.
    equal!(refuses((2 << 16) | ENABLED), 1);
    equal!(refuses(direct(15) | ENABLED), 1);
    equal!(refuses(direct(0x66) | (1 << 20)), 1);
    equal!(refuses(direct(0x66) | ENABLED), 0);
    // One that would notify nobody.
    equal!(refuses(AUTO_ENABLE | ENABLED), 0);
    equal!(host::rdmsr(STIMER0_CONFIG), AUTO_ENABLE);
    equal!(refuses(0), 0);
    equal!(u64::from(host::refuses_rdmsr(STIMER3_COUNT + 1)), 1);
    Ok(())
}
