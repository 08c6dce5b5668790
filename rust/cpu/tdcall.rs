// SPDX-License-Identifier: GPL-2.0
//! TDCALL, the instruction.

// UNSAFETY: inline assembly.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::pure::controls::Flush;
use crate::pure::leaf;
use crate::pure::tdcall::{Registers, Tdcall};

/// Executes TDCALL on the current processor.
pub(crate) struct Instruction;

impl Tdcall for Instruction {
    fn tdcall(&mut self, registers: Registers) -> Registers {
        let Registers {
            mut rax,
            mut rcx,
            mut rdx,
            mut r8,
            mut r9,
            mut r10,
            mut r11,
        } = registers;
        // SAFETY: The leaves that reach this point are those the driver names itself and those that
        // `pure::policy` allows: they change no memory of this kernel and no register but these.
        // `machine::Machine` was made, so this is a TD and the instruction exists.
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
    // SAFETY: As above. The TDX module gives the host the registers of the mask and takes from it no
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
