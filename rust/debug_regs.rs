// SPDX-License-Identifier: GPL-2.0
//! DR0 to DR3 and DR6, which lower VTL and VTL2 share; the TDX module switches DR7 only.

// UNSAFETY: FFI that writes debug registers.
#![allow(unsafe_code)]

use crate::abi;
use crate::irq::IrqsOff;
use crate::pure::registers::DEBUG_START;

/// DR0, DR1, DR2, DR3, DR6 of the side that is not on the processor.
pub(crate) struct DebugRegs(pub(crate) [u64; 5]);

impl DebugRegs {
    /// Those of a processor that has just started.
    pub(crate) fn new() -> Self {
        Self(DEBUG_START)
    }
}

/// The processor has the lower VTL's registers; VTL2's breakpoints are off.
#[must_use]
pub(crate) struct Exchanged<'a> {
    regs: &'a mut DebugRegs,
    host_dr7: u64,
}

impl<'a> Exchanged<'a> {
    /// Turns VTL2's breakpoints off, then exchanges what they point to.
    pub(crate) fn new(regs: &'a mut DebugRegs, _irqs: &IrqsOff) -> Self {
        // SAFETY: Interrupts are off; paired with the call in `drop`.
        let host_dr7 = unsafe { abi::vtl_breakpoints_off() };
        // SAFETY: Breakpoints are off; the values are VTL2's own, or were checked, or read from the
        // processor.
        unsafe { abi::vtl_exchange_debug(regs.0.as_mut_ptr()) };
        Self { regs, host_dr7 }
    }
}

impl Drop for Exchanged<'_> {
    fn drop(&mut self) {
        // SAFETY: As in `new`.
        unsafe { abi::vtl_exchange_debug(self.regs.0.as_mut_ptr()) };
        // SAFETY: The value is the one that `new` got.
        unsafe { abi::vtl_breakpoints_restore(self.host_dr7) };
    }
}
