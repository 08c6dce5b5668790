// SPDX-License-Identifier: GPL-2.0
//! The one edge into the lower VTL: TDG.VP.ENTER. Its two halves outside Rust are `helpers.c`, which
//! tells RCU and time accounting, and `enter/vp_enter.S`, which executes it.

// UNSAFETY: calls the entry stub.
#![allow(unsafe_code)]

use core::mem::offset_of;

use crate::abi::{self, mshv_tdx_exit_info};
use crate::irq::IrqsOff;
use crate::pure::exit::RawExit;
use crate::pure::mitigation::Scrub;
use crate::pure::vp_enter::EntryRcx;

/// Enters a lower VTL whose other state `run/context.rs` has loaded. `exit` says what came back, `cr2`
/// is exchanged.
pub(crate) fn tdg_vp_enter(
    rcx: EntryRcx,
    guest_state_gpa: u64,
    exit: &mut RawExit,
    cr2: &mut u64,
    scrub: Scrub,
    _irqs: &IrqsOff,
) {
    let exit = core::ptr::from_mut(exit).cast();
    // SAFETY: The stub saves and restores every register that belongs to its caller; `_irqs` proves
    // that interrupts are off; both pointers are valid for the call; `guest_state_gpa` lies in a run
    // page, which `RunPage` made for the TDX module to write. `exit` has the layout that the stub
    // knows, by the assertions below.
    unsafe { abi::vtl_guest_enter(rcx.raw(), guest_state_gpa, exit, cr2, scrub.0) };
}

/// Tells RCU that this CPU passes through a quiescent state: nothing that it protects is held on the
/// way into a guest.
pub(crate) fn note_quiescent_state(_irqs: &IrqsOff) {
    // SAFETY: Interrupts are off, and no RCU reader is open in the run loop.
    unsafe { abi::vtl_note_quiescent_state() }
}

macro_rules! assert_same_place {
    ($($register:ident)*) => {
        $(const _: () = assert!(
            offset_of!(RawExit, $register) == offset_of!(mshv_tdx_exit_info, $register)
        );)*
    };
}

assert_same_place!(rax rcx rdx rsi rdi r8 r9 r10 r11 r12 r13);
const _: () = assert!(size_of::<RawExit>() == size_of::<mshv_tdx_exit_info>());
