// SPDX-License-Identifier: GPL-2.0
//! The TDCALL instruction.

// UNSAFETY: inline assembly.
#![allow(unsafe_code)]

use core::arch::asm;

use kernel::page::PAGE_SIZE;

use crate::cpu::measure as measure_page;
use crate::glue::page::SharedPage;
use crate::pure::controls::Flush;
use crate::pure::field::VmIndex;
use crate::pure::leaf;
use crate::pure::measure::{self, REPORT_BYTES};
use crate::pure::status::Status;
use crate::pure::tdcall::{virtual_apic_write, Call, Registers, Tdcall};

/// Executes TDCALL on the current processor.
pub(crate) struct Instruction;

impl Tdcall for Instruction {
    fn tdcall(&mut self, call: Call) -> Registers {
        // SAFETY: Only `pure::tdcall` makes a `Call`: for leaves of the driver's own, which change
        // nothing of this kernel, and for requests that `pure::policy` allows. `Features::detect`
        // made sure that this is a TD before anything could call this.
        unsafe { execute(call.registers()) }
    }
}

/// Sets the virtual-APIC page of a VM on the VP of this CPU.
///
/// # Errors
///
/// The status, if it is not SUCCESS.
///
/// # Safety
///
/// This is a TD. Nothing else uses the page until the TDX module has been given another address.
pub(crate) unsafe fn set_virtual_apic_page(vm: VmIndex, gpa: u64) -> Result<(), Status> {
    // SAFETY: The lower VTL gets access to the page, which nothing else uses, by the caller's
    // promise ("nothing else uses the page"); no other memory or register changes.
    let answer = unsafe { execute(virtual_apic_write(vm, gpa)) };
    answer.succeeded().map(|_| ())
}

/// Has the TDX module write a report of the TD, with the REPORTDATA of `page`, to `page`.
///
/// # Errors
///
/// The status, when it is not SUCCESS.
pub(super) fn report(page: &SharedPage) -> Result<(), Status> {
    let gpa = page.phys();
    let at = |offset: usize| gpa + offset as u64; // CAST: within a page
    let call = measure::report(at(measure_page::REPORT), at(measure_page::REPORT_DATA));
    // SAFETY: `Features::detect` made sure that this is a TD before anything could call this. The report
    // is written within the page, by the assertion below; `page` owns it, and there are no references.
    let answer = unsafe { execute(call) };
    answer.succeeded().map(|_| ())
}

const _: () = assert!(measure_page::REPORT + REPORT_BYTES <= PAGE_SIZE);

/// Executes the instruction.
///
/// # Safety
///
/// This is a TD, so that the instruction exists. The leaf changes no registers but these, and no
/// memory that this kernel relies on.
unsafe fn execute(mut registers: Registers) -> Registers {
    // SAFETY: By the caller's promise ("the instruction exists", "changes no registers but these").
    unsafe {
        asm!(
            ".byte 0x66, 0x0f, 0x01, 0xcc",
            inout("rax") registers.rax,
            inout("rcx") registers.rcx,
            inout("rdx") registers.rdx,
            inout("r8") registers.r8,
            inout("r9") registers.r9,
            inout("r10") registers.r10,
            inout("r11") registers.r11,
        );
    }
    registers
}

/// TDG.VP.VMCALL function for an instruction: its exit reason. [GHCI Instruction.WBINVD]
const FUNCTION_WBINVD: u64 = 54;
/// R10 to R12: the registers that the host sees and may change.
const EXPOSED: u64 = 0x1c00;

/// Asks the host to flush the caches. Its answer is ignored.
pub(crate) fn request_flush(flush: Flush) {
    let keeps_lines = match flush {
        Flush::Invalidate => 0_u64,
        Flush::WriteBack => 1,
    };
    // SAFETY: The caller is about to enter a lower VTL, so this is a TD. The host sees and changes
    // only the registers in the mask; RAX is the TDX module's own status.
    unsafe {
        asm!(
            ".byte 0x66, 0x0f, 0x01, 0xcc",
            inout("rax") leaf::TDG_VP_VMCALL => _,
            inout("rcx") EXPOSED => _,
            inout("r10") 0_u64 => _,
            inout("r11") FUNCTION_WBINVD => _,
            inout("r12") keeps_lines => _,
        );
    }
}
