// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processors: starting them, and making them leave their guests.
//!
//! A processor that takes a page away from L1 must know that no other one still uses it. Every
//! VMRUN starts with an empty TLB, so it is enough that each processor inside L1 leaves it once:
//! [`shootdown`] sends an NMI, which is intercepted, and waits.

// UNSAFETY: the entry points that assembly calls, and the two values it reads.
#![expect(unsafe_code)]

use crate::boot::STACK_BYTES;
use crate::cpu::{self, apic, idt};
use crate::mem::frame::FramePool;
use crate::stats::Stats;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Most processors a TD can have here.
pub const MAX_CPUS: usize = 64;

/// What other processors may look at.
pub struct CpuShared {
    apic_id: AtomicU32,
    is_up: AtomicBool,
    /// Inside a guest, or on the way in.
    is_in_guest: AtomicBool,
    /// Value of [`EPOCH`] at the latest entry.
    entered_epoch: AtomicU64,
    /// The next NMI is a kick, not one of L1's.
    is_kicked: AtomicBool,
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
            is_kicked: AtomicBool::new(false),
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

    /// Makes the processor leave its guest, or leave the next one at once.
    pub fn kick(&self, index: usize) {
        self.is_kicked.store(true, Ordering::SeqCst);
        apic::send_nmi(apic_id(index));
    }

    /// Whether the NMI just taken was a kick. Asks once.
    pub fn take_kick(&self) -> bool {
        self.is_kicked.swap(false, Ordering::SeqCst)
    }
}

/// One entry per virtual processor, by VCPU_INDEX, which is the order of the MADT.
pub static CPUS: [CpuShared; MAX_CPUS] = [const { CpuShared::new() }; MAX_CPUS];

/// Counts shootdowns.
static EPOCH: AtomicU64 = AtomicU64::new(1);
static COUNT: AtomicU32 = AtomicU32::new(1);

/// Number of processors.
pub fn count() -> usize {
    // ORDERING: set once before the others start.
    COUNT.load(Ordering::Relaxed) as usize
}

/// Number of this processor.
pub fn current_index() -> usize {
    const X2APIC_TOPOLOGY: u32 = 0xb;
    index_of(cpu::cpuid(X2APIC_TOPOLOGY, 0).edx).unwrap_or(0)
}

/// Number of the processor with this APIC id.
pub fn index_of(apic_id: u32) -> Option<usize> {
    // ORDERING: written once before the others start.
    (0..count()).find(|&index| CPUS[index].apic_id.load(Ordering::Relaxed) == apic_id)
}

/// APIC id of a processor.
pub fn apic_id(index: usize) -> u32 {
    // ORDERING: as in `index_of`.
    CPUS[index].apic_id.load(Ordering::Relaxed)
}

/// Declares which processors there are, in the order of their numbers.
///
/// # Errors
///
/// When there are too many, or this one is not among them.
pub fn declare(apic_ids: &[u32]) -> Result<(), &'static str> {
    if apic_ids.len() > MAX_CPUS {
        return Err("more processors than the emulator has room for: give QEMU a smaller -smp");
    }
    for (shared, id) in CPUS.iter().zip(apic_ids) {
        shared.apic_id.store(*id, Ordering::Relaxed);
    }
    COUNT.store(apic_ids.len() as u32, Ordering::Relaxed); // CAST: at most MAX_CPUS
    index_of(apic::id())
        .map(drop)
        .ok_or("the MADT does not list the first processor")
}

#[unsafe(no_mangle)]
static emu_ap_next: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static emu_ap_stacks: AtomicU64 = AtomicU64::new(0);

/// Starts the other processors and waits until they are all up.
///
/// # Safety
///
/// The trampoline page is free, and everything that `emu_ap_main` uses is initialised.
pub unsafe fn start_others(pool: &FramePool) -> Result<(), &'static str> {
    let others = count() - 1;
    if others == 0 {
        return Ok(());
    }
    let frames = others as u64 * (STACK_BYTES as u64 / 4096);
    let stacks = pool
        .allocate_many(frames)
        .ok_or("no frames for the stacks of the processors")?;
    emu_ap_stacks.store(stacks, Ordering::SeqCst);
    // SAFETY: the page is free by `# Safety`.
    let vector = unsafe { crate::boot::install_trampoline() };
    apic::start_all_others(vector);
    let is_other_up = |index: &usize| CPUS[*index].is_up.load(Ordering::SeqCst);
    while (0..count()).filter(is_other_up).count() < others {
        core::hint::spin_loop();
    }
    Ok(())
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
    crate::run::other_processor(index)
}

/// Sleeps for about a millisecond; only before SVM is on.
pub fn doze() {
    // SAFETY: the timer of `apic::start_timer` ends the sleep and its handler only acknowledges.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
}

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
        shared.kick(index);
        while needs_kick(shared) {
            core::hint::spin_loop();
        }
    }
}
