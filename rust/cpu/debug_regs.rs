// SPDX-License-Identifier: GPL-2.0
//! DR0 to DR3 and DR6, which lower VTL and VTL2 share; the TDX module switches only DR7.
//!
//! Any interrupt may set or remove a breakpoint of VTL2 (perf, ptrace). So while interrupts are
//! enabled, the registers are VTL2's if it has a breakpoint. If it has none, nothing reads them,
//! and the lower VTL's values may stay loaded.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::cpu::fpu::Section;
use crate::cpu::guards::IrqsOff;
use crate::glue::abi::{self, safe_in_c};
use crate::pure::registers::DEBUG_START;

// Debug registers can at most make the kernel take a #DB, and not even that while DR7 is clear; DR7
// is only set to the value that it had before.
safe_in_c! {
    fn vtl_debug_load(debug: &mut abi::vtl_debug as *mut abi::vtl_debug, needs_addresses: bool);
    fn vtl_debug_store(debug: &mut abi::vtl_debug as *mut abi::vtl_debug);
    /// Clears the registers that hold no breakpoint of VTL2.
    fn vtl_debug_forget();
}

/// DR0, DR1, DR2, DR3, DR6 of the lower VTL (`lower`), and those that VTL2 has while it runs.
pub(crate) struct DebugRegs(abi::vtl_debug);

impl DebugRegs {
    /// Values after a reset.
    pub(crate) fn new() -> Self {
        Self(abi::vtl_debug {
            lower: DEBUG_START,
            ..abi::vtl_debug::default()
        })
    }

    /// The lower VTL's values.
    pub(crate) fn lower(&self) -> &[u64; 5] {
        &self.0.lower
    }

    /// The lower VTL's values, to be set to checked ones.
    pub(crate) fn lower_mut(&mut self) -> &mut [u64; 5] {
        &mut self.0.lower
    }

    /// Disables VTL2's breakpoints and loads the lower VTL's registers. Loads only DR6 if VTL2 has
    /// no breakpoint and `needs_addresses` is false.
    pub(crate) fn load(&mut self, needs_addresses: bool, _irqs: &IrqsOff) {
        vtl_debug_load(&mut self.0, needs_addresses);
    }

    /// Saves the lower VTL's registers and restores VTL2's breakpoints.
    pub(crate) fn store(&mut self, _irqs: &IrqsOff) {
        vtl_debug_store(&mut self.0);
    }

    /// Removes the lower VTL's values from the registers.
    pub(crate) fn forget(&mut self, _section: &Section) {
        let [addresses @ .., _dr6] = &self.0.lower;
        if self.0.must_forget && addresses.iter().any(|address| *address != 0) {
            vtl_debug_forget();
        }
        self.0.must_forget = false;
    }
}
