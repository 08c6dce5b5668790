// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Measures the cost of an exit and a VMRUN alone (`emu.bench=1`, `make bench-emu`).
//!
//! The guest is the emulator's own. It uses nested paging like L1 and every L2, because TCG flushes
//! more translations at a world switch with nested paging than without.

use crate::boot;
use crate::cpu::tsc;
use crate::mem::frame::TableFrames;
use crate::vp::{self, Vp};
use core::ptr::addr_of;
use svm::intercept::Misc1;
use svm::npt::Npt;
use svm::vmcb::NESTED_PAGING;

#[expect(unsafe_code)] // UNSAFETY: a piece of code and its address
mod leaving {
    core::arch::global_asm!(
        ".globl emu_leaving_guest",
        "emu_leaving_guest:",
        "cpuid",
        "jmp emu_leaving_guest",
    );
    unsafe extern "C" {
        pub(super) static emu_leaving_guest: u8;
    }
}

/// Exits that are measured together: few enough to fit between two interruptions by the machine
/// below, which may be busy. The cheapest batch counts.
const BATCH: u64 = 16;
const BATCHES: u64 = 1024;

/// An exit with nothing done for it, and the VMRUN after it, in TSC ticks. `None` without memory.
pub fn bare_exit(vp: &Vp) -> Option<u64> {
    let pool = &vp.platform.pool;
    let mut guest = vp::new_idle(pool).ok()?;
    let frames = &mut TableFrames(pool);
    let npt = Npt::new(frames).ok()?;
    let image = boot::image();
    npt.map_identity(frames, image.start, image.end).ok()?;
    let vmcb = &mut guest.vmcb;
    vmcb.control.nested_ctl = NESTED_PAGING;
    vmcb.control.nested_cr3 = npt.root_pa();
    vmcb.control.intercept_misc1 |= Misc1::CPUID;
    vmcb.save.rip = addr_of!(leaving::emu_leaving_guest) as u64;
    let mut cheapest = u64::MAX;
    for _ in 0..BATCHES {
        let start = tsc::now();
        for _ in 0..BATCH {
            guest.run_to_exit(vp.ready());
        }
        cheapest = cheapest.min((tsc::now() - start) / BATCH);
    }
    Some(cheapest)
}
