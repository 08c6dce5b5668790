// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processor the emulator itself runs on.

pub mod apic;
pub mod cr;
pub mod idt;
pub mod msr;
pub mod pic;
pub mod port;
pub mod svm_mode;
pub mod tsc;

/// Result of CPUID.
#[derive(Clone, Copy, Debug)]
pub struct CpuidResult {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// Executes CPUID.
#[expect(unsafe_code)] // UNSAFETY: one instruction without effect on memory
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let (eax, ebx, ecx, edx): (u32, u64, u32, u32);
    // SAFETY: CPUID reads; RBX, which the compiler reserves, is put back.
    unsafe {
        core::arch::asm!("mov {rbx}, rbx", "cpuid", "xchg {rbx}, rbx", rbx = out(reg) ebx,
            inout("eax") leaf => eax, inout("ecx") subleaf => ecx, out("edx") edx,
            options(nomem, nostack, preserves_flags));
    }
    // CAST: CPUID writes 32 bits.
    CpuidResult {
        eax,
        ebx: ebx as u32,
        ecx,
        edx,
    }
}
