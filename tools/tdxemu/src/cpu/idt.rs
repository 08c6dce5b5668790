// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The emulator's own exceptions and interrupts.
//!
//! An NMI is how one processor makes another leave its guest: the handler returns at once, after
//! recording for `svm::vmrun::consume_nmi` that it ran. A fault at a marked MSR access continues at
//! its mark. A processor that runs no guest gets interrupts of L1 and of devices, too. Everything else
//! is a bug and stops the machine.

// UNSAFETY: descriptor table, LIDT and the frame the stubs push.
#![expect(unsafe_code)]

use super::{apic, svm_mode};
use crate::run::end_by_machine;
use crate::smp;
use core::arch::{asm, global_asm};
use core::ptr::addr_of;
use svm::vmrun;

global_asm!(include_str!("idt.S"), options(att_syntax));

unsafe extern "C" {
    static emu_idt_stubs: u8;
    static emu_rdmsr_safe_insn: u8;
    static emu_rdmsr_safe_fault: u8;
    static emu_wrmsr_safe_insn: u8;
    static emu_wrmsr_safe_fault: u8;
}

const NMI: u64 = 2;
const GP: u64 = 13;
const FIRST_INTERRUPT: u64 = 32;

/// What the stubs push.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(core::mem::offset_of!(Frame, vector) == 120);
const _: () = assert!(core::mem::offset_of!(Frame, rip) == 136);

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Gate(u64, u64);

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// The table is the same for every processor and never changes once made.
static IDT: spin::Once<[Gate; 256]> = spin::Once::new();

fn gate(vector: usize) -> Gate {
    const INTERRUPT_GATE: u64 = 0x8e00_0000_0000;
    const CODE_SELECTOR: u64 = 8;
    let address = addr_of!(emu_idt_stubs) as u64 + 16 * vector as u64;
    let low = (address & 0xffff) | (CODE_SELECTOR << 16) | INTERRUPT_GATE;
    Gate(low | ((address & 0xffff_0000) << 32), address >> 32)
}

/// Loads the table on this processor.
pub fn load() {
    let table = IDT.call_once(|| core::array::from_fn(gate));
    let pointer = TablePointer {
        limit: (size_of_val(table) - 1) as u16,
        base: table.as_ptr() as u64,
    };
    // SAFETY: the table is static, its gates lead to the stubs of idt.S in the code segment that
    // header.S loaded.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags)) };
}

#[unsafe(no_mangle)]
extern "C" fn emu_trap(frame: *mut Frame) {
    // SAFETY: idt.S passes the frame it pushed, which nothing else refers to.
    let frame = unsafe { &mut *frame };
    match frame.vector {
        NMI if vmrun::is_nmi_window(frame.rip) => frame.rax = 1,
        NMI => {}
        vector if vector == u64::from(apic::TIMER_VECTOR) => apic::end_of_interrupt(),
        GP if frame.rip == addr_of!(emu_rdmsr_safe_insn) as u64 => {
            frame.rip = addr_of!(emu_rdmsr_safe_fault) as u64;
        }
        GP if frame.rip == addr_of!(emu_wrmsr_safe_insn) as u64 => {
            frame.rip = addr_of!(emu_wrmsr_safe_fault) as u64;
        }
        // CAST: a vector.
        vector if vector >= FIRST_INTERRUPT && !svm_mode::is_enabled() => {
            smp::interrupt_without_guest(vector as u8);
        }
        // Where guests run, the emulator has interrupts disabled, even if some are pending.
        vector if vector >= FIRST_INTERRUPT && frame.rip == vmrun::exit_rip() => {
            end_by_machine(format_args!("GIF, interrupt {vector:#x} after VMRUN"))
        }
        vector => {
            let cr2: u64;
            // SAFETY: reading CR2 has no effect.
            unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack)) };
            panic!(
                "exception {vector} in the emulator: error {:#x} cr2 {cr2:#x}\n{frame:x?}",
                frame.error
            );
        }
    }
}
