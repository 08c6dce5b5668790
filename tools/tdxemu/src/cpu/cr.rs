// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Control register values of the emulator itself.
//!
//! CR0 and CR4 carry the paging bits that Linux also sets: where host and guest agree, TCG saves
//! a TLB flush at each world switch.

use super::msr;

/// PE, MP, ET, NE, WP, PG.
pub const HOST_CR0: u32 = 1 | (1 << 1) | (1 << 4) | (1 << 5) | (1 << 16) | (1 << 31);
/// PSE, PAE, PGE, SMEP, SMAP.
pub const HOST_CR4: u32 = (1 << 4) | (1 << 5) | (1 << 7) | (1 << 20) | (1 << 21);
/// LME, NXE.
pub const HOST_EFER: u32 = (msr::EFER_LME | msr::EFER_NXE) as u32;

/// CR3.
#[expect(unsafe_code)] // UNSAFETY: reads a control register
pub fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: reading CR3 has no effect.
    unsafe {
        core::arch::asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}
