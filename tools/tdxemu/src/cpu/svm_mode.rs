// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Turning SVM on.

// UNSAFETY: MSR writes, CLGI.
#![expect(unsafe_code)]

use super::msr;
use crate::mem::frame::FramePool;
use core::arch::asm;
use svm::vmrun::VmrunReady;

/// Turns SVM on for this processor and closes the global interrupt flag: from here on interrupts
/// stay pending until a guest or the idle guest runs.
///
/// # Errors
///
/// When the processor has no SVM, or no frame is left.
pub fn enable(pool: &FramePool) -> Result<VmrunReady, &'static str> {
    const SVM_FUNCTION: u32 = 0x8000_000a;
    const NESTED_PAGING: u32 = 1;
    let features = crate::cpu::cpuid(SVM_FUNCTION, 0);
    let is_amd_v = crate::cpu::cpuid(0x8000_0001, 0).ecx & (1 << 2) != 0;
    if !is_amd_v || features.edx & NESTED_PAGING == 0 {
        return Err("the processor has no SVM with nested paging: QEMU needs -cpu max,+svm,+npt");
    }
    let host_save_pa = pool.allocate().ok_or("no frame for the host save area")?;
    // SAFETY: EFER exists.
    let efer = unsafe { msr::read(msr::EFER) };
    // SAFETY: CPUID reports SVM; setting SVME alone changes nothing else.
    unsafe { msr::write(msr::EFER, efer | msr::EFER_SVME) };
    // SAFETY: the frame was allocated just now and is used for nothing else.
    unsafe { msr::write(msr::VM_HSAVE_PA, host_save_pa) };
    // SAFETY: SVM is enabled; interrupts are handled by the IDT that was loaded before, or by
    // guests.
    unsafe { asm!("clgi", "sti", options(nostack)) };
    // SAFETY: the lines above did what the contract lists; memory is identity mapped by header.S;
    // mem/npt.rs builds the nested tables from L1's own memory only; this target has no FPU code
    // and uses neither FS nor GS nor a task register.
    Ok(unsafe { VmrunReady::new() })
}

/// Returns true if this processor runs guests.
pub fn is_enabled() -> bool {
    // SAFETY: EFER exists.
    unsafe { msr::read(msr::EFER) & msr::EFER_SVME != 0 }
}
