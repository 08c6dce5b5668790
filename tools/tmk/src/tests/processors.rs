// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! L1's processors: their numbers, and interrupts and NMIs that name them.

use super::Memory;
use super::smp::{all_done, everywhere, others};
use crate::cpu::{self, CPUS, guest, rdtsc, take_interrupts, times_taken};
use crate::host;
use crate::smp::{run_on, send, wait};
use crate::tdx::{self, status};
use crate::vm::{INTERRUPT, LOOP, Outcome, RFLAGS_IF, Vm, equal, reason, reg};
use core::sync::atomic::{AtomicU64, Ordering};

const NMI: u64 = 2;
const ALL: u64 = (1 << CPUS) - 1;
/// More than any interrupt takes.
const PATIENCE_TICKS: u64 = 60_000_000_000;

/// Waits until a processor has handled a vector that many times.
fn wait_until_taken(id: usize, vector: u64, times: u64) -> Outcome {
    let start = rdtsc();
    while times_taken(id, vector) < times {
        if id == 0 {
            take_interrupts();
        }
        equal!(u64::from(rdtsc() - start > PATIENCE_TICKS), 0);
        core::hint::spin_loop();
    }
    Ok(())
}

/// The processor that is to check its number.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Every source of a processor's own number agrees.
pub fn check_number(_: &mut Vm) -> Outcome {
    const APIC_BASE: u64 = 0x1b;
    const APIC_ID: u64 = 0x802;
    const LOGICAL_ID: u64 = 0x80d;
    let number = NUMBER.load(Ordering::SeqCst);
    equal!(u64::from(cpu::cpuid(1, 0).ebx >> 24), number);
    // The topology is not for the TDX module to tell.
    let topology = cpu::catch_ve(|| {
        cpu::cpuid(0xb, 0);
    });
    equal!(topology.unwrap_or(0), reason::CPUID);
    equal!(host::rdmsr(APIC_ID), number);
    equal!(host::rdmsr(LOGICAL_ID), 1 << number);
    equal!((host::rdmsr(APIC_BASE) >> 8) & 1, u64::from(number == 0));
    // TDG.VP.INFO: VCPU_INDEX.
    equal!(tdx::call(1, 0, 0, 0, 0)[9] & 0xffff_ffff, number);
    Ok(())
}

pub fn numbers_count_from_zero_wherever_they_are_read(vm: &mut Vm, _: &Memory) -> Outcome {
    check_number(vm)?;
    for id in others() {
        NUMBER.store(id as u64, Ordering::SeqCst);
        run_on(id, super::smp::CHECK_NUMBER);
        wait(id)?;
    }
    NUMBER.store(0, Ordering::SeqCst);
    // What QEMU's ACPI tables query: bit 0 is set if the processor is enabled.
    let is_enabled = |cpu: u64| {
        host::write_port32(0xcd8, cpu);
        host::read_port(0xcdc) & 1
    };
    for cpu in 0..CPUS as u64 {
        equal!(is_enabled(cpu), 1);
    }
    equal!(is_enabled(CPUS as u64), 0);
    Ok(())
}

/// Processors that take `vector` because of a write to the interrupt command register.
fn reached(vector: u64, destination: u64, command: u64) -> Result<u64, crate::vm::Fail> {
    let count = |id| times_taken(id, vector);
    let before: [u64; CPUS] = core::array::from_fn(count);
    send(destination as usize, command | vector); // CAST: 64 bits
    // An interrupt that arrived before the job is handled before the next one.
    for _ in 0..2 {
        everywhere(super::smp::NOTHING);
        all_done()?;
        take_interrupts();
    }
    let mut reached = 0;
    for (id, before) in before.iter().enumerate() {
        let times = count(id) - before;
        equal!(times.min(1), times);
        reached |= times << id;
    }
    Ok(reached)
}

pub fn interrupts_reach_the_processors_they_name_and_no_other(_: &mut Vm, _: &Memory) -> Outcome {
    const LOGICAL: u64 = 1 << 11;
    const LOWEST_PRIORITY: u64 = 1 << 8;
    const SHORTHAND: u64 = 1 << 18;
    const EVERYONE: u64 = 0xffff_ffff;
    host::wrmsr(0x80f, 0x1ff); // APIC on
    equal!(reached(0x51, 3, 0)?, 1 << 3);
    equal!(reached(0x51, 0, 0)?, 1);
    equal!(reached(0x51, 3, SHORTHAND)?, 1);
    equal!(reached(0x51, 3, 2 * SHORTHAND)?, ALL);
    equal!(reached(0x51, 3, 3 * SHORTHAND)?, ALL & !1);
    equal!(reached(0x51, EVERYONE, 0)?, ALL);
    equal!(reached(0x51, EVERYONE, LOGICAL)?, ALL);
    equal!(reached(0x51, 0xa5, LOGICAL)?, 0xa5);
    equal!(reached(0x51, 0x1_0001, LOGICAL)?, 0);
    equal!(reached(0x51, 0x30, LOGICAL | LOWEST_PRIORITY)?, 1 << 4);
    // One more than L1 has, but not more than QEMU has.
    equal!(reached(0x51, CPUS as u64, 0)?, 0);
    // What it reads is what was written.
    send(2, 0x62);
    equal!(host::rdmsr(0x830), (2 << 32) | 0x62);
    Ok(())
}

/// Lets the timer of the PC fire once, some microseconds from now.
fn start_pc_timer() {
    host::write_port(0x43, 0x30);
    host::write_port(0x40, 0x80);
    host::write_port(0x40, 0);
}

/// Routes the timer's pin of the IOAPIC; what was written is read again.
fn route_pc_timer(high: u64, low: u64) -> Outcome {
    const SELECT: u64 = 0xfec0_0000;
    const WINDOW: u64 = 0xfec0_0010;
    const PIN: u64 = 2;
    for (half, value) in [(1, high), (0, low)] {
        host::write_mmio32(SELECT, 0x10 + 2 * PIN + half);
        host::write_mmio32(WINDOW, value);
        equal!(host::read_mmio32(WINDOW), value);
        equal!(host::read_mmio32(SELECT), 0x10 + 2 * PIN + half);
    }
    Ok(())
}

pub fn interrupts_of_devices_reach_the_processor_they_name(_: &mut Vm, _: &Memory) -> Outcome {
    const VECTOR: u64 = 0x52;
    const LOGICAL: u64 = 1 << 11;
    const MASKED: u64 = 1 << 16;
    host::wrmsr(0x80f, 0x1ff); // APIC on
    let last = CPUS - 1;
    let routes = [
        (0, 0, 0),
        (last, (last as u64) << 24, 0),
        (last, 1 << (24 + last), LOGICAL),
        (3, 3 << 24, 0),
    ];
    for (id, high, mode) in routes {
        let before = times_taken(id, VECTOR);
        route_pc_timer(high, mode | VECTOR)?;
        start_pc_timer();
        wait_until_taken(id, VECTOR, before + 1)?;
    }
    let taken: u64 = (0..CPUS).map(|id| times_taken(id, VECTOR)).sum();
    equal!(taken, routes.len() as u64);
    route_pc_timer(0, MASKED)
}

const NMIS: u64 = 200;

/// Sends NMIs to the first processor, each after the previous one has arrived.
pub fn send_nmis(_: &mut Vm) -> Outcome {
    let before = times_taken(0, NMI);
    for number in 1..=NMIS {
        send(0, 4 << 8);
        wait_until_taken(0, NMI, before + number)?;
    }
    Ok(())
}

/// Runs the L2 to a VMCALL, whatever NMIs arrive meanwhile.
fn run_to_vmcall(vm: &mut Vm, number: u64) -> Outcome {
    const VALID: u64 = 1 << 31;
    let mut outcome = vm.enter();
    while outcome == status::HOST_ROUTED_ASYNC {
        if vm.exit[10] & VALID != 0 {
            vm.write(crate::tdx::vmcs::ENTRY_EVENT, vm.exit[10] & 0xffff_ffff)?;
        }
        outcome = vm.enter();
    }
    equal!(outcome, status::SUCCESS);
    equal!(vm.exit[0] & 0xffff_ffff, reason::VMCALL);
    equal!(vm.get(reg::RAX) & 0xffff_ffff, number);
    vm.skip();
    Ok(())
}

/// The emulator sends NMIs of its own, here one with each interrupt that it injects into an L2. L1
/// must get none of those, and all of its own.
pub fn every_nmi_reaches_l1_and_none_is_made_up(vm: &mut Vm, _: &Memory) -> Outcome {
    let before = times_taken(0, NMI);
    vm.start()?;
    vm.pass_msr(0x80b, true, true)?;
    run_on(1, super::smp::SEND_NMIS);
    while times_taken(0, NMI) < before + NMIS && !crate::smp::is_done(1) {
        vm.set(reg::RFLAGS, vm.get(reg::RFLAGS) | RFLAGS_IF);
        vm.write(crate::tdx::vmcs::ENTRY_EVENT, 0x8000_0041)?;
        vm.call(guest::l2_nop());
        run_to_vmcall(vm, INTERRUPT)?;
        run_to_vmcall(vm, LOOP)?;
    }
    wait(1)?;
    equal!(times_taken(0, NMI), before + NMIS);
    Ok(())
}
