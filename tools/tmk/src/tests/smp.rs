// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Several processors: L2s that run at the same time, and what they do to each other.

use super::{Memory, processors};
use crate::cpu::{self, CPUS, guest, peek, take_interrupts, taken_vector};
use crate::host;
use crate::smp::{EARLY_VECTOR, run_on, send, wait};
use crate::tdx::{self, leaf, rights, set_rights, status};
use crate::vm::{Outcome, Vm, equal, reason, reg};
use core::sync::atomic::{AtomicU64, Ordering};

/// Jobs for the other processors.
pub const JOBS: [fn(&mut Vm) -> Outcome; 11] = [
    nothing,
    trips,
    own_interrupts,
    send_nmi,
    send_interrupt,
    read_until_taken,
    restore_fpu_state,
    processors::check_number,
    processors::send_nmis,
    read_without_flush,
    spin,
];
pub const NOTHING: u64 = 0;
const TRIPS: u64 = 1;
const OWN_INTERRUPTS: u64 = 2;
const SEND_NMI: u64 = 3;
const SEND_INTERRUPT: u64 = 4;
const READ_UNTIL_TAKEN: u64 = 5;
const RESTORE_FPU_STATE: u64 = 6;
pub const CHECK_NUMBER: u64 = 7;
pub const SEND_NMIS: u64 = 8;
const READ_WITHOUT_FLUSH: u64 = 9;
const SPIN: u64 = 10;

/// Synchronizes the first processor with the others: the stage, and how many have reached it.
static STAGE: AtomicU64 = AtomicU64::new(0);
static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// All but the first.
pub fn others() -> impl Iterator<Item = usize> {
    1..CPUS
}

/// Gives all others a job.
pub fn everywhere(job: u64) {
    for id in others() {
        run_on(id, job);
    }
}

/// Waits for them.
pub fn all_done() -> Outcome {
    for id in others() {
        wait(id)?;
    }
    Ok(())
}

fn wait_for_stage(stage: u64) {
    while STAGE.load(Ordering::SeqCst) != stage {
        core::hint::spin_loop();
    }
}

/// Reports a stage to the first processor, and waits for it.
fn arrive_and_wait(stage: u64) {
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    wait_for_stage(stage);
}

/// Waits for all others, and lets them go on.
fn gather(stage: u64, change: impl FnOnce() -> Outcome) -> Outcome {
    while ARRIVED.load(Ordering::SeqCst) != CPUS as u64 - 1 {
        core::hint::spin_loop();
    }
    ARRIVED.store(0, Ordering::SeqCst);
    let outcome = change();
    STAGE.store(stage, Ordering::SeqCst);
    outcome
}

fn nothing(_: &mut Vm) -> Outcome {
    Ok(())
}

pub fn every_processor_wakes_up(_: &mut Vm, _: &Memory) -> Outcome {
    // TDG.VP.INFO: NUM_VCPUS in the low half of R8.
    equal!(tdx::call(1, 0, 0, 0, 0)[8] & 0xffff_ffff, CPUS as u64);
    everywhere(NOTHING);
    all_done()
}

fn spin(_: &mut Vm) -> Outcome {
    arrive_and_wait(1);
    Ok(())
}

/// As on a processor that waits with interrupts disabled; an NMI it has taken meanwhile.
pub fn interrupts_sent_before_the_start_wait_and_nmis_do_not(_: &mut Vm, m: &Memory) -> Outcome {
    const SHARED: u64 = 1 << 47;
    const NMI: u64 = 2;
    /// No other test uses it.
    const PAGE: u64 = 52 << 20;
    STAGE.store(0, Ordering::SeqCst);
    everywhere(SPIN);
    // They leave L1 by NMIs of the emulator's, none of which is L1's.
    gather(1, || {
        host::map_gpa((m.start + PAGE) | SHARED, 0x1000);
        Ok(())
    })?;
    all_done()?;
    STAGE.store(0, Ordering::SeqCst);
    for id in others() {
        equal!(cpu::times_taken(id, EARLY_VECTOR), 1);
        equal!(cpu::times_taken(id, NMI), 0);
    }
    Ok(())
}

/// The L2 of this processor loops with values of its own.
fn trips(_: &mut Vm) -> Outcome {
    let id = cpu::index() as u64;
    let mut vm = Vm::new(1 + id % 3);
    vm.start()?;
    vm.set(reg::RSI, 1 + id);
    vm.call(guest::l2_write_cr8());
    vm.call_returns()?;
    for trip in 0..100 {
        let value = (id << 32) | trip;
        vm.set(reg::R12, value);
        vm.call(guest::l2_cpuid());
        vm.expect_skip(reason::CPUID, 2)?;
        equal!(vm.get(reg::R12), value);
        vm.call_returns()?;
    }
    vm.set(reg::RSI, 0);
    vm.call(guest::l2_read_cr8());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 1 + id);
    Ok(())
}

pub fn every_processor_runs_its_l2_at_the_same_time(vm: &mut Vm, _: &Memory) -> Outcome {
    for number in 1..4 {
        Vm::new(number).grant_image()?;
    }
    everywhere(TRIPS);
    trips(vm)?;
    all_done()
}

/// Self-IPIs of an L2 stay in its own virtual APIC.
fn own_interrupts(vm: &mut Vm) -> Outcome {
    const EOI: u32 = 0x80b;
    const SELF_IPI: u32 = 0x83f;
    let first = 0x40 + 8 * cpu::index() as u64;
    vm.start()?;
    vm.pass_msr(EOI, true, true)?;
    vm.pass_msr(SELF_IPI, true, true)?;
    for round in 0..20 {
        let vector = first + round % 8;
        super::interrupts::enable_interrupts(vm);
        vm.set(reg::RSI, u64::from(SELF_IPI));
        vm.set(reg::R12, vector);
        vm.set(reg::R13, 0);
        vm.call(guest::l2_wrmsr());
        vm.expect_interrupt(vector)?;
        equal!(vm.interrupt_status(), vector << 8);
        vm.call_returns()?;
    }
    Ok(())
}

pub fn every_l2_takes_its_own_interrupts(vm: &mut Vm, _: &Memory) -> Outcome {
    everywhere(OWN_INTERRUPTS);
    own_interrupts(vm)?;
    all_done()
}

fn send_nmi(_: &mut Vm) -> Outcome {
    const NMI: u64 = 4 << 8;
    send_into_l2(NMI)
}

fn send_interrupt(_: &mut Vm) -> Outcome {
    send_into_l2(0x71)
}

/// Sends, shortly after the first processor has entered its L2. On a machine that is busy, that one may
/// wait for a while before it does.
fn send_into_l2(what: u64) -> Outcome {
    const DELAY_TICKS: u64 = 200_000_000;
    wait_for_stage(1);
    let start = cpu::rdtsc();
    while cpu::rdtsc() - start < DELAY_TICKS {
        core::hint::spin_loop();
    }
    send(0, what);
    Ok(())
}

pub fn nmi_reaches_l1_while_its_l2_runs(vm: &mut Vm, _: &Memory) -> Outcome {
    const NMI_INFO: u64 = 0x8000_0202;
    const NMI: u64 = 2;
    vm.start()?;
    run_on(1, SEND_NMI);
    vm.call(guest::l2_spin());
    taken_vector();
    STAGE.store(1, Ordering::SeqCst);
    // The host takes the exit, and resumes L1, to which the NMI belongs.
    equal!(vm.enter(), status::HOST_ROUTED_ASYNC);
    STAGE.store(0, Ordering::SeqCst);
    equal!(vm.exit[0] & 0xffff_ffff, reason::EXCEPTION);
    equal!(vm.exit[9] & 0xffff_ffff, NMI_INFO);
    equal!(vm.get(reg::RIP), guest::l2_spin());
    equal!(taken_vector(), NMI);
    wait(1)?;
    // The L2 does not notice.
    vm.set(reg::RIP, guest::l2_nop());
    vm.call_returns()
}

pub fn interrupt_of_another_processor_ends_the_run(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    host::wrmsr(0x80f, 0x1ff); // APIC on
    run_on(1, SEND_INTERRUPT);
    vm.call(guest::l2_spin());
    STAGE.store(1, Ordering::SeqCst);
    equal!(vm.enter(), status::L2_EXIT_PENDING_INTERRUPT);
    STAGE.store(0, Ordering::SeqCst);
    equal!(vm.get(reg::RIP), guest::l2_spin());
    // It is pending until L1 handles it, and prevents entering the L2 until then.
    equal!(vm.enter(), status::PENDING_INTERRUPT);
    take_interrupts();
    equal!(taken_vector(), 0x71);
    wait(1)
}

/// Where the page is that [`read_until_taken`] reads.
static PAGE: AtomicU64 = AtomicU64::new(0);

/// Its L2 reads a page repeatedly, and loses it after an invalidation.
fn read_until_taken(vm: &mut Vm) -> Outcome {
    let page = PAGE.load(Ordering::SeqCst);
    vm.start()?;
    vm.set(reg::RSI, page);
    vm.call(guest::l2_read());
    vm.call_returns()?;
    arrive_and_wait(1);
    vm.invalidate = 1;
    vm.expect(reason::EPT_VIOLATION)?;
    equal!(vm.exit[8], page);
    equal!(vm.exit[13], 0);
    // Back again as soon as the first processor gives it.
    arrive_and_wait(2);
    vm.invalidate = 1;
    vm.call_returns()
}

/// The same, but the first processor's report alone is not enough for it.
fn read_without_flush(vm: &mut Vm) -> Outcome {
    let page = PAGE.load(Ordering::SeqCst);
    vm.start()?;
    vm.set(reg::RSI, page);
    vm.call(guest::l2_read());
    vm.call_returns()?;
    arrive_and_wait(1);
    // It leaves out the flush on odd processors.
    vm.invalidate = (cpu::index() as u64 + 1) % 2;
    vm.call(guest::l2_read());
    if vm.invalidate == 0 {
        vm.call_returns()?;
        vm.call(guest::l2_read());
        vm.invalidate = 1;
    }
    vm.expect(reason::EPT_VIOLATION)?;
    equal!(vm.exit[8], page);
    Ok(())
}

pub fn a_processor_that_forgets_the_flush_keeps_the_right(vm: &mut Vm, m: &Memory) -> Outcome {
    let page = m.start + 0x20_0000;
    equal!(set_rights(vm.number, page | 1, rights::ALL), 0);
    PAGE.store(page, Ordering::SeqCst);
    STAGE.store(0, Ordering::SeqCst);
    everywhere(READ_WITHOUT_FLUSH);
    gather(1, || {
        equal!(set_rights(vm.number, page | 1, 0), 0);
        Ok(())
    })?;
    all_done()
}

pub fn rights_are_taken_on_every_processor(vm: &mut Vm, memory: &Memory) -> Outcome {
    let page = memory.start + 0x20_0000;
    let set = |rights| {
        equal!(set_rights(vm.number, page | 1, rights), 0);
        Ok(())
    };
    tdx::call(leaf::MEM_PAGE_ACCEPT, page | 1, 0, 0, 0);
    set(rights::ALL)?;
    cpu::poke(page, 0x77);
    PAGE.store(page, Ordering::SeqCst);
    STAGE.store(0, Ordering::SeqCst);
    everywhere(READ_UNTIL_TAKEN);
    gather(1, || set(0))?;
    gather(2, || set(rights::ALL))?;
    all_done()?;
    equal!(peek(page), 0x77);
    Ok(())
}

/// Loads FPU state until told to stop.
fn restore_fpu_state(_: &mut Vm) -> Outcome {
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while STAGE.load(Ordering::SeqCst) == 0 {
        cpu::leaky::restore_fpu_state(1000);
    }
    Ok(())
}

/// QEMU clears a flag of its first processor from the thread of whichever processor loads FPU
/// state, and may write old flags back there: the state of a guest that runs or exits at that
/// moment is lost, or it accepts no interrupt any more. So that processor must not be one of L1's.
pub fn fpu_state_loads_of_one_processor_do_not_harm_another(_: &mut Vm, _: &Memory) -> Outcome {
    STAGE.store(0, Ordering::SeqCst);
    ARRIVED.store(0, Ordering::SeqCst);
    run_on(1, RESTORE_FPU_STATE);
    while ARRIVED.load(Ordering::SeqCst) == 0 {
        core::hint::spin_loop();
    }
    // Each leaves L1 and enters it again.
    for _ in 0..100_000 {
        cpu::index();
    }
    STAGE.store(1, Ordering::SeqCst);
    ARRIVED.store(0, Ordering::SeqCst);
    wait(1)
}
