// SPDX-License-Identifier: GPL-2.0
//! The only way into the lower VTL: TDG.VP.ENTER. The parts outside Rust are `enter.c`, which informs
//! RCU and context tracking, and `vp_enter.S`, which executes it.

// UNSAFETY: calls the entry stub.
#![allow(unsafe_code)]

use crate::cpu::guards::IrqsOff;
use crate::glue::abi;
use crate::vp::operands::Operands;

/// Enters a lower VTL; `run/context.rs` has loaded its state.
#[inline]
pub(crate) fn tdg_vp_enter(operands: &mut Operands, _irqs: &IrqsOff) {
    let operands = core::ptr::from_mut(operands).cast();
    // SAFETY: The stub saves and restores every register that belongs to its caller. `_irqs` proves
    // that interrupts are disabled. `operands` is valid for the call and has the layout that the
    // stub expects, by the assertions beside it. By its invariant, the guest state is in a run page,
    // which `RunPage` allocated for the TDX module to write to, and which exists.
    unsafe { abi::vtl_guest_enter(operands) };
}
