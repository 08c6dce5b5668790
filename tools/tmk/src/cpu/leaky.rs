// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that a TDX module does not switch between L1 and L2 [ABI state not switched].
//!
//! Nothing of this program depends on them: the compiler uses no vector register on this target.

use core::arch::asm;

/// DR0 to DR3.
pub fn read_drs() -> [u64; 4] {
    let (a, b, c, d);
    // SAFETY: no effect.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d, options(nostack, nomem));
    }
    [a, b, c, d]
}

/// Writes DR0 to DR3.
pub fn write_drs(values: [u64; 4]) {
    let [a, b, c, d] = values;
    // SAFETY: no breakpoint is enabled in DR7.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) a, in(reg) b, in(reg) c, in(reg) d, options(nostack, nomem));
    }
}

/// CR2.
pub fn read_cr2() -> u64 {
    let value;
    // SAFETY: no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nostack, nomem)) };
    value
}

/// Writes CR2.
pub fn write_cr2(value: u64) {
    // SAFETY: nothing here uses CR2.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nostack, nomem)) };
}

/// XMM3, low half.
pub fn read_xmm3() -> u64 {
    let value;
    // SAFETY: no effect.
    unsafe { asm!("movq {}, xmm3", out(reg) value, options(nostack, nomem)) };
    value
}

/// Writes XMM3.
pub fn write_xmm3(value: u64) {
    // SAFETY: nothing here uses vector registers.
    unsafe { asm!("movq xmm3, {}", in(reg) value, options(nostack, nomem)) };
}

#[repr(C, align(16))]
struct FpuState([u64; 64]);

/// Saves the state of the FPU and loads it again, that many times.
pub fn restore_fpu_state(times: u64) {
    let mut state = FpuState([0; 64]);
    // SAFETY: the buffer has the size and alignment of the two instructions, and contains what was
    // saved.
    unsafe {
        asm!("fxsave64 [{0}]", "2:", "fxrstor64 [{0}]", "dec {1}", "jnz 2b",
            in(reg) &raw mut state, inout(reg) times => _, options(nostack));
    }
}

/// Enables XSAVE and components of XCR0: x87, SSE and AVX are bits 0 to 2.
pub fn grant_state(xcr0: u64) {
    const OSXSAVE: u64 = 1 << 18;
    // CAST: halves.
    let (low, high) = (xcr0 as u32, (xcr0 >> 32) as u32);
    // SAFETY: nothing here saves or restores extended state.
    unsafe {
        asm!("mov {cr4}, cr4", "or {cr4}, {bit}", "mov cr4, {cr4}", "xsetbv",
            cr4 = out(reg) _, bit = in(reg) OSXSAVE,
            in("ecx") 0, in("eax") low, in("edx") high, options(nostack, nomem));
    }
}

/// XCR0; only after [`grant_state`].
pub fn read_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: XSAVE has been enabled.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack, nomem));
    }
    (u64::from(high) << 32) | u64::from(low)
}

/// The third quadword of YMM4, in the half that belongs to AVX; only after AVX was enabled.
pub fn read_ymm4() -> u64 {
    let value;
    // SAFETY: AVX has been granted.
    unsafe {
        asm!("vextractf128 xmm5, ymm4, 1", "vmovq {}, xmm5", out(reg) value,
            options(nostack, nomem));
    }
    value
}

/// Writes it.
pub fn write_ymm4(value: u64) {
    // SAFETY: AVX has been granted.
    unsafe {
        asm!("vmovq xmm5, {}", "vinsertf128 ymm4, ymm4, xmm5, 1", in(reg) value,
            options(nostack, nomem));
    }
}
