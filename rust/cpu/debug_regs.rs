// SPDX-License-Identifier: GPL-2.0
//! DR0 to DR3 and DR6, which lower VTL and VTL2 share; the TDX module switches only DR7.
//!
//! Any interrupt may set or remove a breakpoint of VTL2 (perf, ptrace). So while interrupts are
//! enabled, the registers are VTL2's if it has a breakpoint. If it has none, nothing reads them,
//! and the lower VTL's values may stay loaded.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::cpu::fpu::Section;
use crate::glue::abi::{self, safe_in_c};
use crate::pure::registers::DEBUG_START;

// It clears only registers that nothing uses.
safe_in_c! {
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

    /// States if DR0 to DR3 matter to the lower VTL that will be entered. If they do not, and VTL2
    /// has no breakpoint, an entry loads only DR6.
    pub(crate) fn set_needs_addresses(&mut self, needs_addresses: bool) {
        self.0.needs_addresses = needs_addresses;
    }

    /// What an entry loads and saves.
    pub(crate) fn registers(&mut self) -> &mut abi::vtl_debug {
        &mut self.0
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
