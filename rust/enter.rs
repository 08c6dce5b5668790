// SPDX-License-Identifier: GPL-2.0
//! The one edge into the lower VTL: TDG.VP.ENTER. Its two halves outside Rust are `helpers.c`, which
//! tells RCU and time accounting, and `enter/vp_enter.S`, which executes it.

// UNSAFETY: calls the entry stub.
#![allow(unsafe_code)]

use crate::abi::{self, mshv_tdx_exit_info};
use crate::irq::IrqsOff;
use crate::pure::exit::RawExit;
use crate::pure::mitigation::Scrub;
use crate::pure::vp_enter::EntryRcx;

/// Enters a lower VTL whose other state `run/context.rs` has loaded. `cr2` is exchanged.
pub(crate) fn tdg_vp_enter(
    rcx: EntryRcx,
    guest_state_gpa: u64,
    cr2: &mut u64,
    scrub: Scrub,
    _irqs: &IrqsOff,
) -> RawExit {
    let mut exit = mshv_tdx_exit_info::default();
    // SAFETY: The stub saves and restores every register that belongs to its caller; `_irqs` proves
    // that interrupts are off; both pointers are valid for the call; `guest_state_gpa` lies in a run
    // page, which `RunPage` made for the TDX module to write.
    unsafe { abi::vtl_guest_enter(rcx.raw(), guest_state_gpa, &mut exit, cr2, scrub.0) };
    from_stub(exit)
}

fn from_stub(exit: mshv_tdx_exit_info) -> RawExit {
    let mshv_tdx_exit_info {
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
    } = exit;
    RawExit {
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
    }
}
