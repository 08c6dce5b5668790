// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Model-specific registers: access, and access that survives a fault.

// UNSAFETY: RDMSR and WRMSR.
#![expect(unsafe_code)]

use core::arch::{asm, global_asm};

/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_PAT.
pub const PAT: u32 = 0x277;
/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// VM_HSAVE_PA.
pub const VM_HSAVE_PA: u32 = 0xc001_0117;

/// EFER.LME.
pub const EFER_LME: u64 = 1 << 8;
/// EFER.LMA.
pub const EFER_LMA: u64 = 1 << 10;
/// EFER.NXE.
pub const EFER_NXE: u64 = 1 << 11;
/// EFER.SVME.
pub const EFER_SVME: u64 = 1 << 12;

// A fault of the marked instruction continues at the `_fault` label with RAX = 1; `idt.rs` has the
// table of these pairs.
global_asm!(
    ".globl emu_rdmsr_safe, emu_rdmsr_safe_insn, emu_rdmsr_safe_fault",
    ".type emu_rdmsr_safe, @function",
    "emu_rdmsr_safe:",
    "mov ecx, edi",
    "emu_rdmsr_safe_insn:",
    "rdmsr",
    "mov [rsi], eax",
    "mov [rsi + 4], edx",
    "xor eax, eax",
    "ret",
    "emu_rdmsr_safe_fault:",
    "mov eax, 1",
    "ret",
    ".size emu_rdmsr_safe, . - emu_rdmsr_safe",
    ".globl emu_wrmsr_safe, emu_wrmsr_safe_insn, emu_wrmsr_safe_fault",
    ".type emu_wrmsr_safe, @function",
    "emu_wrmsr_safe:",
    "mov ecx, edi",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "emu_wrmsr_safe_insn:",
    "wrmsr",
    "xor eax, eax",
    "ret",
    "emu_wrmsr_safe_fault:",
    "mov eax, 1",
    "ret",
    ".size emu_wrmsr_safe, . - emu_wrmsr_safe",
);

unsafe extern "C" {
    fn emu_rdmsr_safe(msr: u32, value: *mut u64) -> u64;
    fn emu_wrmsr_safe(msr: u32, value: u64) -> u64;
}

/// Reads a register.
///
/// # Safety
///
/// The register exists.
pub unsafe fn read(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the register exists, `# Safety`; reading has no effect on memory.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    (u64::from(high) << 32) | u64::from(low)
}

/// Writes a register.
///
/// # Safety
///
/// The register exists, accepts the value, and the program stays sound with it.
pub unsafe fn write(msr: u32, value: u64) {
    // CAST: the two halves.
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: forwarded to the caller, `# Safety`.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high,
            options(nostack, preserves_flags));
    }
}

/// Reads any register; `None` if the processor refuses.
pub fn try_read(msr: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: a fault is caught; reading a register changes nothing the program depends on.
    let status = unsafe { emu_rdmsr_safe(msr, &raw mut value) };
    (status == 0).then_some(value)
}

/// Writes a register; `None` if the processor refuses.
///
/// # Safety
///
/// The program stays sound with every value the processor accepts.
pub unsafe fn try_write(msr: u32, value: u64) -> Option<()> {
    // SAFETY: a fault is caught; the rest is forwarded to the caller, `# Safety`.
    let status = unsafe { emu_wrmsr_safe(msr, value) };
    (status == 0).then_some(())
}
