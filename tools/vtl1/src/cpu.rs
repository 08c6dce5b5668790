// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processor: tables, MSRs of the hypervisor, hypercalls, and the functions that `start.S` calls.

// UNSAFETY: instructions, and functions that assembly calls.
#![expect(unsafe_code)]

use core::arch::{asm, global_asm};

use vtl1::boot::FAULT_STACK_END_VA;

use crate::crash::{self, Report};
use crate::entry;

global_asm!(include_str!("start.S"), options(att_syntax));

unsafe extern "C" {
    fn vtl1_load_tables(fault_stack_end: u64);
}

#[unsafe(no_mangle)]
extern "C" fn vtl1_call(rax: u64, rcx: u64, rdi: u64) {
    entry::call(rax, rcx, rdi);
}

#[unsafe(no_mangle)]
extern "C" fn vtl1_exception(vector: u64, error: u64, rip: u64, cr2: u64) -> ! {
    crash::end(&Report::exception(vector, error, rip, cr2))
}

/// Loads tables in which every exception has a handler, on a stack of its own.
pub(crate) fn load_tables() {
    // SAFETY: start.S changes only its own tables, keeps what a callee has to keep, and loads
    // segments with the bases and limits that VTL2 has started with. VTL2 maps the stack.
    unsafe { vtl1_load_tables(FAULT_STACK_END_VA) };
}

/// WRMSR of a register of the hypervisor, for which VTL2 acts.
pub(crate) fn write_hyperv_msr(index: u32, value: u64) {
    // CAST: halves.
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the callers pass the assist page, which `pages` accesses by volatile copies only, and
    // the crash registers, which only VTL2 reads.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack)) };
}

/// Makes a hypercall with the input page at `input`; returns RAX.
pub(crate) fn hypercall(control: u64, input: u64) -> u64 {
    let rax;
    // SAFETY: VTL2 reads the input page and changes RAX. It is not a VTL call or return: the
    // library encodes another code.
    unsafe {
        asm!("vmcall", in("rcx") control, in("rdx") input, in("r8") 0_u64, lateout("rax") rax,
             options(nostack));
    }
    rax
}

/// Halts for good. Interrupts are disabled.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: HLT changes no state.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}
