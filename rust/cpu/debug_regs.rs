// SPDX-License-Identifier: GPL-2.0
//! DR0 to DR3 and DR6, which lower VTL and VTL2 share; the TDX module switches DR7 only.
//!
//! VTL2's breakpoints (perf, ptrace) may come and go with any interrupt. So with interrupts on, the
//! registers are VTL2's if it has a breakpoint, and nobody's if it has none: then the lower VTL's
//! values may stay where they are, since nothing looks at them.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::cpu::fpu::Section;
use crate::cpu::guards::IrqsOff;
use crate::glue::abi::{self, safe_in_c};
use crate::pure::registers::DEBUG_START;

// A debug register can stop the kernel where it does not want to be stopped, and no more; with DR7 off,
// not even that, and DR7 gets but what it had.
safe_in_c! {
    fn vtl_debug_load(debug: &mut abi::vtl_debug as *mut abi::vtl_debug, needs_addresses: bool);
    fn vtl_debug_store(debug: &mut abi::vtl_debug as *mut abi::vtl_debug);
    /// Clears the registers in which VTL2 has no breakpoint, and no other.
    fn vtl_debug_forget();
}

/// DR0, DR1, DR2, DR3, DR6 of the lower VTL (`lower`), and what VTL2 has meanwhile.
pub(crate) struct DebugRegs(abi::vtl_debug);

impl DebugRegs {
    /// Those of a processor that has just started.
    pub(crate) fn new() -> Self {
        Self(abi::vtl_debug {
            lower: DEBUG_START,
            ..abi::vtl_debug::default()
        })
    }

    /// Those of the lower VTL.
    pub(crate) fn lower(&self) -> &[u64; 5] {
        &self.0.lower
    }

    /// Those of the lower VTL, to be set to values that were checked.
    pub(crate) fn lower_mut(&mut self) -> &mut [u64; 5] {
        &mut self.0.lower
    }

    /// Turns VTL2's breakpoints off and loads the lower VTL's registers: DR6 alone, where VTL2 has no
    /// breakpoint and nothing `needs_addresses`.
    pub(crate) fn load(&mut self, needs_addresses: bool, _irqs: &IrqsOff) {
        vtl_debug_load(&mut self.0, needs_addresses);
    }

    /// Stores the lower VTL's registers; VTL2's breakpoints, if any, are back.
    pub(crate) fn store(&mut self, _irqs: &IrqsOff) {
        vtl_debug_store(&mut self.0);
    }

    /// Leaves nothing of the lower VTL's in the registers.
    pub(crate) fn forget(&mut self, _section: &Section) {
        let [addresses @ .., _dr6] = &self.0.lower;
        if self.0.must_forget && addresses.iter().any(|address| *address != 0) {
            vtl_debug_forget();
        }
        self.0.must_forget = false;
    }
}
