// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The synthetic timers of the Hyper-V host. L1's processors have no timer to spare, their local
//! APICs are L1's. So QEMU's first processor, if it is none of the TD's, keeps them: it sleeps until
//! the next one expires, and posts the interrupt. There are no timers without such a processor, nor
//! if L1's clock is not the machine's.

use crate::cpu::{apic, tsc};
use crate::hyperv::timers::Timers;
use crate::l1_apic::MAX_CPUS;
use crate::setup::{Platform, platform};
use crate::smp;
use crate::vp::Vp;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

static TIMERS: [Mutex<Timers>; MAX_CPUS] = [const { Mutex::new(Timers::RESET) }; MAX_CPUS];
/// APIC ID of the processor that keeps them.
static KEEPER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// Declares that this processor is going to [`keep`] the timers.
pub fn declare_keeper() {
    KEEPER.store(apic::id(), Ordering::SeqCst);
}

/// Returns true if the host has timers.
pub fn are_offered() -> bool {
    // ORDERING: set once, before L1 starts.
    KEEPER.load(Ordering::Relaxed) != NOBODY
}

/// The machine's time since its start in units of 100 ns: the reference counter, unless L1's clock
/// is another one.
pub fn reference_time(platform: &Platform, ticks: u64) -> u64 {
    // CAST: the quotient is smaller than the ticks as long as the rate is above 10 MHz.
    (u128::from(ticks) * 10_000 / u128::from(platform.tsc_khz.max(1))) as u64
}

/// RDMSR of a register of processor `index`.
pub fn read(index: usize, register: u32) -> Option<u64> {
    TIMERS[index].lock().read(register)
}

/// WRMSR of a register of the processor itself.
pub fn write(vp: &Vp, register: u32, value: u64) -> Option<()> {
    let now = reference_time(vp.platform, tsc::now());
    TIMERS[vp.index].lock().write(register, value, now)?;
    let keeper = KEEPER.load(Ordering::Relaxed);
    apic::send(keeper, u32::from(apic::TIMER_VECTOR));
    Some(())
}

/// Keeps the timers of all processors.
pub fn keep() -> ! {
    let platform = platform();
    apic::mask_pins();
    apic::prepare_timer();
    loop {
        let now = reference_time(platform, tsc::now());
        let next = (0..smp::count()).filter_map(|index| {
            let mut timers = TIMERS[index].lock();
            while let Some(vector) = timers.expired(now) {
                smp::send_interrupt(index, vector);
            }
            timers.next()
        });
        // One that is written from here on sends an interrupt, which ends the sleep.
        apic::set_timer(next.min().map(|due| (due - now).saturating_mul(100)));
        smp::doze();
    }
}
