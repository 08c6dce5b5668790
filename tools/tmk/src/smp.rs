// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Other processors: woken through the mailbox that the MADT names, they wait for jobs, which are
//! the numbers of functions in `tests/smp.rs` [ACPI 5.2.12.19].

use crate::cpu::{self, CPUS, peek, peek32, poke, poke32, rdtsc, take_interrupts};
use crate::host::{self, say};
use crate::tests::smp::JOBS;
use crate::vm::{Fail, Outcome, Vm};
use core::sync::atomic::{AtomicU64, Ordering};

/// Sent to processors before they start.
pub const EARLY_VECTOR: u64 = 0x41;
const NMI: u64 = 4 << 8;
/// Ends the sleep of a processor that has a job.
const WAKE_VECTOR: u64 = 0x62;
/// More than any job takes.
const PATIENCE_TICKS: u64 = 60_000_000_000;

#[repr(C, align(4096))]
struct Stack([AtomicU64; 2048]);
static STACKS: [Stack; CPUS] = [const { Stack([const { AtomicU64::new(0) }; 2048]) }; CPUS];

/// Number of the next job plus one, 0 for none.
static NEXT: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// 0 while a job runs, then 1 for passed and 2 for failed.
static RESULTS: [AtomicU64; CPUS] = [const { AtomicU64::new(1) }; CPUS];

/// A little-endian number of any alignment.
fn number(at: u64, bytes: u64) -> u64 {
    let byte = |index| u64::from(peek32(at + index) & 0xff) << (8 * index);
    (0..bytes).map(byte).sum()
}

/// The MADT, by way of the root pointer in the zero page.
fn madt(boot_params: u64) -> u64 {
    let root = number(peek(boot_params + 0x70) + 16, 4);
    let tables = (0..(number(root + 4, 4) - 36) / 4).map(|slot| number(root + 36 + 4 * slot, 4));
    let is_madt = |table: &u64| number(*table, 4) == u64::from(u32::from_le_bytes(*b"APIC"));
    tables.into_iter().find(is_madt).expect("no MADT")
}

/// Wakes all other processors and returns how many there are in all.
pub fn start_others(boot_params: u64) -> u64 {
    let madt = madt(boot_params);
    let (mut at, end) = (madt + 44, madt + number(madt + 4, 4));
    let (mut mailbox, mut present) = (0, 0u64);
    while at < end {
        match number(at, 1) {
            0 if number(at + 4, 1) & 1 != 0 => present |= 1 << number(at + 3, 1),
            16 => mailbox = number(at + 8, 8),
            _ => {}
        }
        at += number(at + 1, 1);
    }
    assert!(present == (1 << CPUS) - 1, "APIC IDs as bits: {present:#x}");
    for id in 1..CPUS {
        send(id, EARLY_VECTOR);
        send(id, NMI);
    }
    for id in (1..CPUS).filter(|id| (present >> id) & 1 != 0) {
        RESULTS[id].store(0, Ordering::SeqCst);
        wake(mailbox, id);
        assert!(wait(id).is_ok(), "processor {id} does not come up");
    }
    u64::from(present.count_ones())
}

fn wake(mailbox: u64, id: usize) {
    const WAKE: u32 = 1;
    let stack_top = STACKS[id].0.as_ptr() as u64 + size_of::<Stack>() as u64;
    poke(cpu::ap_stack(), stack_top);
    poke32(mailbox + 4, id as u32); // CAST: below CPUS
    poke(mailbox + 8, cpu::ap_start());
    poke32(mailbox, WAKE);
}

/// Gives a processor a job.
pub fn run_on(id: usize, job: u64) {
    RESULTS[id].store(0, Ordering::SeqCst);
    NEXT[id].store(job + 1, Ordering::SeqCst);
    send(id, WAKE_VECTOR);
}

/// Writes the interrupt command register.
pub fn send(id: usize, low: u64) {
    const ICR: u64 = 0x830;
    host::wrmsr(ICR, ((id as u64) << 32) | low);
}

/// Returns true if a processor has no job.
pub fn is_done(id: usize) -> bool {
    RESULTS[id].load(Ordering::SeqCst) != 0
}

/// Waits for a processor's job.
pub fn wait(id: usize) -> Outcome {
    let start = rdtsc();
    loop {
        let got = RESULTS[id].load(Ordering::SeqCst);
        let is_late = rdtsc() - start > PATIENCE_TICKS;
        if got == 1 {
            return Ok(());
        }
        if got != 0 || is_late {
            let (line, file, what) = (line!(), file!(), "result of another processor");
            let want = 1;
            return Err(Fail {
                line,
                file,
                what,
                got,
                want,
            });
        }
        core::hint::spin_loop();
    }
}

/// Where `tmk_ap_start` leads to.
#[expect(unsafe_code)] // UNSAFETY: called by assembly
#[unsafe(no_mangle)]
extern "C" fn tmk_ap_main() -> ! {
    let id = cpu::index();
    cpu::load_idt();
    host::wrmsr(0x80f, 0x1ff); // APIC on
    take_interrupts();
    RESULTS[id].store(1, Ordering::SeqCst);
    loop {
        let next = NEXT[id].swap(0, Ordering::SeqCst);
        if next == 0 {
            host::sleep();
            take_interrupts();
            continue;
        }
        let outcome = JOBS[next as usize - 1](&mut Vm::new(1)); // CAST: an index
        if let Err(fail) = outcome {
            let Fail {
                line,
                file,
                what,
                got,
                want,
            } = fail;
            say!("# processor {id}: {file}:{line}: {what}: {got:#x}, expected {want:#x}");
        }
        let result = if outcome.is_ok() { 1 } else { 2 };
        RESULTS[id].store(result, Ordering::SeqCst);
    }
}
