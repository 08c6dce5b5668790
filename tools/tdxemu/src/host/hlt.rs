// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.HLT>: sleep until something is pending for L1.

use super::{io, iommu};
use crate::run::not_modelled;
use crate::vp::Vp;
use core::sync::atomic::{AtomicUsize, Ordering};
use svm::SvmExit;

/// Processors that L1 has started.
static STARTED: AtomicUsize = AtomicUsize::new(1);
/// Those of them that sleep with interrupts off. When all do, nothing can ever wake L1: this is how
/// Linux ends without ACPI's help.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// Counts a processor that L1 has started.
pub fn count_started() {
    STARTED.fetch_add(1, Ordering::SeqCst);
}

/// Sleeps.
pub fn sleep(vp: &mut Vp, are_interrupts_off: bool) {
    if !are_interrupts_off {
        return sleep_until_pending(vp);
    }
    // ORDERING: the last one to stop sees that all others have.
    if STOPPED.fetch_add(1, Ordering::SeqCst) + 1 == STARTED.load(Ordering::SeqCst) {
        io::power_off("L1 stops for good: interrupts are off on all its processors");
    }
    sleep_until_pending(vp);
    STOPPED.fetch_sub(1, Ordering::SeqCst);
}

/// An interrupt stays pending in the local APIC, where L1 finds it.
fn sleep_until_pending(vp: &mut Vp) {
    loop {
        iommu::report_refusals();
        match vp.sleep() {
            SvmExit::Intr => return,
            SvmExit::Nmi if vp.take_nmi() => return vp.inject_nmi(),
            // A kick: nothing of L1 was in use here.
            SvmExit::Nmi => {}
            other => not_modelled(vp, format_args!("exit {other:x?} while asleep")),
        }
    }
}
