// SPDX-License-Identifier: GPL-2.0
//! DR0 to DR3 and DR6, which lower VTL and VTL2 share; the TDX module switches DR7 only.
//!
//! VTL2's breakpoints (perf, ptrace) may come and go with any interrupt. So with interrupts on, the
//! registers are VTL2's if it has a breakpoint, and nobody's if it has none: then the lower VTL's
//! values may stay where they are, since nothing looks at them.

// UNSAFETY: FFI that writes debug registers.
#![allow(unsafe_code)]

use crate::cpu::fpu::Section;
use crate::cpu::guards::IrqsOff;
use crate::glue::abi::{self, safe_in_c};
use crate::pure::registers::DEBUG_START;

safe_in_c! {
    /// Clears the registers in which VTL2 has no breakpoint, and no other.
    fn vtl_debug_forget();
}

/// DR0, DR1, DR2, DR3, DR6 of the lower VTL (`lower`), and what VTL2 has meanwhile.
pub(crate) type DebugRegs = abi::vtl_debug;

impl DebugRegs {
    /// Those of a processor that has just started.
    pub(crate) fn new() -> Self {
        Self {
            lower: DEBUG_START,
            ..Self::default()
        }
    }

    /// Turns VTL2's breakpoints off and loads the lower VTL's registers.
    pub(crate) fn load(&mut self, _irqs: &IrqsOff) {
        // SAFETY: Interrupts are off; the values were checked, or read from the processor.
        unsafe { abi::vtl_debug_load(self) }
    }

    /// Stores the lower VTL's registers; VTL2's breakpoints, if any, are back.
    pub(crate) fn store(&mut self, _irqs: &IrqsOff) {
        // SAFETY: Interrupts are off since `load`, which has said what VTL2 has.
        unsafe { abi::vtl_debug_store(self) }
    }

    /// Leaves nothing of the lower VTL's in the registers.
    pub(crate) fn forget(&self, _section: &Section) {
        let [addresses @ .., _dr6] = &self.lower;
        if addresses.iter().any(|address| *address != 0) {
            vtl_debug_forget();
        }
    }
}
