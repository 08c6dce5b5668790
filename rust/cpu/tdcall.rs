// SPDX-License-Identifier: GPL-2.0
//! TDCALL, the instruction.

// UNSAFETY: inline assembly.
#![allow(unsafe_code)]

use core::arch::asm;

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
