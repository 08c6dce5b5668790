// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processors: starting them, and making them leave their guests.
//!
//! If there are several, QEMU's first one starts the others, and then sleeps forever or keeps the
//! host's timers. QEMU changes
//! flags of that processor, and of no other, from the threads of all of them, so that what VMRUN
//! and #VMEXIT write there can get lost. So the TD has the others, numbered from 0 in the order of
//! the MADT; this file maps APICs to numbers. A single processor belongs to the TD, since no other
//! thread could disturb it.
//!
//! A processor that removes a page from L1 must know that no other one still uses it. Every VMRUN
//! starts with an empty TLB, so it is enough that each processor inside L1 exits once:
//! [`shootdown`] sends an NMI, which is intercepted, and waits.

// UNSAFETY: the entry points that assembly calls, and the two values it reads.
#![expect(unsafe_code)]

use crate::boot::{STACK_BYTES, Stack};
use crate::cpu::{self, apic, idt};
use crate::host::timers;
use crate::l1_apic::{Ipi, MAX_CPUS, mode};
use crate::log;
use crate::mem::frame::FramePool;
use crate::stats::Stats;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// State of a processor that others access.
pub struct CpuShared {
    /// Physical APIC ID.
    apic_id: AtomicU32,
    is_up: AtomicBool,
    /// Inside a guest, or on the way in.
    is_in_guest: AtomicBool,
    /// Value of [`EPOCH`] at the latest entry.
    entered_epoch: AtomicU64,
    /// An NMI for L1 is pending.
    has_nmi: AtomicBool,
    /// Interrupts that came before L1 has started the processor, a bit for each vector.
    early: [AtomicU64; 4],
    /// Counts what ends all old rights of its L2s.
    flushes: AtomicU64,
    /// Counters.
    pub stats: Stats,
}

impl CpuShared {
    const fn new() -> Self {
        Self {
            apic_id: AtomicU32::new(u32::MAX),
            is_up: AtomicBool::new(false),
            is_in_guest: AtomicBool::new(false),
            entered_epoch: AtomicU64::new(0),
            has_nmi: AtomicBool::new(false),
            early: [const { AtomicU64::new(0) }; 4],
            flushes: AtomicU64::new(0),
            stats: Stats::new(),
        }
    }

    /// Announces that this processor is about to run a guest.
    pub fn enter_guest(&self) {
        // ORDERING: sequentially consistent, so that either the shooter sees this store or this
        // processor sees the changed table.
        self.is_in_guest.store(true, Ordering::SeqCst);
        self.entered_epoch
            .store(EPOCH.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Announces that this processor has left its guest.
    pub fn leave_guest(&self) {
        self.is_in_guest.store(false, Ordering::SeqCst);
    }

    /// Ends all old rights of its L2s, from their next run on.
    pub fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }

    /// How often they were ended.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// L1 starts the processor: it finds the interrupts pending that it has sent before, as on a
    /// processor that waits with interrupts disabled, except for [`apic::TIMER_VECTOR`]. An NMI it would
    /// have taken meanwhile.
    pub fn start(&self) {
        self.take_nmi();
        for (word, early) in self.early.iter().enumerate() {
            let early = early.swap(0, Ordering::SeqCst);
            for bit in (0..64).filter(|bit| (early >> bit) & 1 != 0) {
                apic::send(apic::id(), 64 * word as u32 + bit); // CAST: a vector
            }
        }
    }

    /// Returns true if L1 has sent an NMI since the last call. Every other NMI is a kick: it may
    /// come with L1's own as one, or long after the exit that it was meant to cause.
    pub fn take_nmi(&self) -> bool {
        self.has_nmi.swap(false, Ordering::SeqCst)
    }
}

/// One entry per virtual processor, by VCPU_INDEX.
pub static CPUS: [CpuShared; MAX_CPUS] = [const { CpuShared::new() }; MAX_CPUS];

/// Counts shootdowns.
static EPOCH: AtomicU64 = AtomicU64::new(1);
static COUNT: AtomicU32 = AtomicU32::new(1);

/// Number of processors.
pub fn count() -> usize {
    // ORDERING: set once before the others start.
    COUNT.load(Ordering::Relaxed) as usize
}

/// Number of this processor, if it is one of the TD's.
pub fn current_index() -> Option<usize> {
    const X2APIC_TOPOLOGY: u32 = 0xb;
    index_of(cpu::cpuid(X2APIC_TOPOLOGY, 0).edx)
}

/// Number of the processor with this physical APIC ID.
pub fn index_of(apic_id: u32) -> Option<usize> {
    // ORDERING: written once before the others start.
    (0..count()).find(|&index| CPUS[index].apic_id.load(Ordering::Relaxed) == apic_id)
}

/// Physical APIC ID of a processor.
pub fn apic_id(index: usize) -> u32 {
    // ORDERING: as in `index_of`.
    CPUS[index].apic_id.load(Ordering::Relaxed)
}

/// Declares the processors by their physical APIC IDs. All but this one become the TD's, in this
/// order; or this one, if it is the only one.
///
/// # Errors
///
/// There are too many.
pub fn declare(apic_ids: impl Iterator<Item = u32>) -> Result<(), &'static str> {
    let own_id = apic::id();
    let mut count = 0;
    for id in apic_ids.filter(|id| *id != own_id) {
        let shared = CPUS
            .get(count)
            .ok_or("more processors than the emulator has room for: give QEMU a smaller -smp")?;
        shared.apic_id.store(id, Ordering::Relaxed);
        count += 1;
    }
    if count == 0 {
        CPUS[0].apic_id.store(own_id, Ordering::Relaxed);
        count = 1;
    }
    COUNT.store(count as u32, Ordering::Relaxed); // CAST: at most MAX_CPUS
    Ok(())
}

/// Makes a processor leave its guest, or leave the next one at once.
pub fn kick(index: usize) {
    apic::send(apic_id(index), apic::NMI);
}

/// Posts an interrupt to L1 on a processor.
pub fn send_interrupt(index: usize, vector: u8) {
    apic::send(apic_id(index), u32::from(vector));
}

/// Sends what L1 writes to an interrupt command register.
pub fn send_ipi(ipi: &Ipi) {
    for index in (0..count()).filter(|index| (ipi.targets >> index) & 1 != 0) {
        if ipi.mode == mode::NMI {
            CPUS[index].has_nmi.store(true, Ordering::SeqCst);
            kick(index);
        } else {
            apic::send(apic_id(index), (ipi.mode << 8) | ipi.rest);
        }
    }
}

/// Ends an interrupt on a processor that runs no guest: one that L1 has not started yet, or QEMU's first
/// one. That one gets those of devices that name APIC ID 0, which is another's for L1.
pub fn interrupt_without_guest(vector: u8) {
    static IS_LOGGED: AtomicBool = AtomicBool::new(false);
    apic::end_of_interrupt();
    match current_index() {
        Some(index) => {
            let early = &CPUS[index].early[usize::from(vector / 64)];
            early.fetch_or(1 << (vector % 64), Ordering::SeqCst);
        }
        None if IS_LOGGED.swap(true, Ordering::SeqCst) => {}
        None => log!(Warn, "interrupt {vector:#x} for no processor of L1's"),
    }
}

#[unsafe(no_mangle)]
static emu_ap_next: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static emu_ap_stacks: AtomicU64 = AtomicU64::new(0);

/// Starts the TD's processors and waits until they are all up, unless this one is the TD's.
///
/// # Safety
///
/// The trampoline page is free, and everything that `emu_ap_main` uses is initialised.
pub unsafe fn start_others(pool: &FramePool) -> Result<(), &'static str> {
    if current_index().is_some() {
        return Ok(());
    }
    let frames = count() as u64 * (STACK_BYTES as u64 / 4096);
    let stacks = pool
        .allocate_many(frames)
        .ok_or("no frames for the stacks of the processors")?;
    emu_ap_stacks.store(stacks, Ordering::SeqCst);
    // SAFETY: the page is free by `# Safety`.
    let vector = unsafe { crate::boot::install_trampoline() };
    apic::start_all_others(vector);
    let is_up = |index: usize| CPUS[index].is_up.load(Ordering::SeqCst);
    while !(0..count()).all(is_up) {
        core::hint::spin_loop();
    }
    Ok(())
}

/// The stack of this processor.
pub fn stack() -> Stack {
    Stack::current(emu_ap_stacks.load(Ordering::SeqCst))
}

/// Ends the part of QEMU's first processor, which may still keep the host's timers.
pub fn retire() -> ! {
    if timers::are_offered() {
        timers::keep();
    }
    loop {
        // SAFETY: with interrupts off it sleeps, and an NMI's handler only returns.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn emu_ap_main(_number: u32) -> ! {
    idt::load();
    apic::enable();
    let Some(index) = index_of(apic::id()) else {
        panic!(
            "a processor started that the MADT does not list: APIC id {}",
            apic::id()
        );
    };
    CPUS[index].is_up.store(true, Ordering::SeqCst);
    match index {
        0 => crate::run::first_processor(),
        _ => crate::run::other_processor(index),
    }
}

/// Sleeps until the timer of `apic`, or any other interrupt; only where SVM is not enabled.
pub fn doze() {
    // SAFETY: the handler of the interrupt that ends the sleep changes nothing that is in use here. None
    // is taken before the processor sleeps.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Some milliseconds.
const SPINS_PER_KICK: u32 = 1 << 20;

/// Makes sure that no other processor uses a nested translation older than this call.
pub fn shootdown(own_index: usize) {
    let epoch = EPOCH.fetch_add(1, Ordering::SeqCst) + 1;
    let needs_kick = |shared: &CpuShared| {
        shared.is_in_guest.load(Ordering::SeqCst)
            && shared.entered_epoch.load(Ordering::SeqCst) < epoch
    };
    for (index, shared) in CPUS.iter().enumerate().take(count()) {
        if index == own_index || !needs_kick(shared) {
            continue;
        }
        // Again now and then, because QEMU may lose an NMI as it may lose an interrupt (`vp`).
        while needs_kick(shared) {
            kick(index);
            (0..SPINS_PER_KICK)
                .take_while(|_| needs_kick(shared))
                .for_each(|_| core::hint::spin_loop());
        }
    }
}
