// SPDX-License-Identifier: GPL-2.0
//! TDCALL, the instruction.

// UNSAFETY: inline assembly.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::pure::controls::Flush;
use crate::pure::field::VmIndex;
use crate::pure::leaf;
use crate::pure::status::Status;
use crate::pure::tdcall::{virtual_apic_write, Call, Registers, Tdcall};

/// Executes TDCALL on the current processor.
pub(crate) struct Instruction;

impl Tdcall for Instruction {
    fn tdcall(&mut self, call: Call) -> Registers {
        // SAFETY: Only `pure::tdcall` makes a `Call`: of leaves that the driver names itself and that
        // change nothing of this kernel, and of what `pure::policy` allows. Who asks has looked whether
        // this is a TD (`Features::detect`).
        unsafe { execute(call.registers()) }
    }
}

/// Has the lower VTL in a VM use a page as its virtual APIC page, on the VP of this CPU.
///
/// # Errors
///
/// The status, when it is not SUCCESS.
///
/// # Safety
///
/// This is a TD. The page serves no other purpose until the TDX module has been told another address.
pub(crate) unsafe fn set_virtual_apic_page(vm: VmIndex, gpa: u64) -> Result<(), Status> {
    // SAFETY: The write gives the lower VTL the page, which its caller has for it ("serves no other
    // purpose"), and changes nothing else.
    let answer = unsafe { execute(virtual_apic_write(vm, gpa)) };
    answer.succeeded().map(|_| ())
}

/// The instruction.
///
/// # Safety
///
/// This is a TD, so that the instruction exists. What the leaf does changes no register but these, and
/// no memory that this kernel relies on.
unsafe fn execute(registers: Registers) -> Registers {
    let Registers {
        mut rax,
        mut rcx,
        mut rdx,
        mut r8,
        mut r9,
        mut r10,
        mut r11,
    } = registers;
    // SAFETY: By the caller's promise ("the instruction exists", "no register but these").
    unsafe {
        asm!(
            ".byte 0x66, 0x0f, 0x01, 0xcc",
            inout("rax") rax,
            inout("rcx") rcx,
            inout("rdx") rdx,
            inout("r8") r8,
            inout("r9") r9,
            inout("r10") r10,
            inout("r11") r11,
        );
    }
    Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        r10,
        r11,
    }
}

/// TDG.VP.VMCALL with the function of an instruction. [GHCI Instruction.WBINVD]
const FUNCTION_WBINVD: u64 = 54;
/// R10 to R12: what the host sees, and may change.
const EXPOSED: u64 = 0x1c00;

/// Asks the host to write back caches. What it answers is not looked at.
pub(crate) fn ask_for_flush(flush: Flush) {
    let keeps_lines = match flush {
        Flush::Invalidate => 0_u64,
        Flush::WriteBack => 1,
    };
    // SAFETY: A VP is about to run, so this is a TD. The TDX module gives the host the registers of the mask and takes from it no
    // others; RAX is its own status.
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
