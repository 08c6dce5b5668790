// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Machine code: the built-in guests, and the markers of the benchmark.
//!
//! The only unsafe code of this command; used by `cmd::run` and `cmd::bench`.

// UNSAFETY: assembled data, and one no-op instruction.
#![expect(unsafe_code)]

use crate::layout::ModeName;

core::arch::global_asm!(include_str!("../guest/demo.S"), options(att_syntax));

/// First and last byte of the built-in guests, placed by demo.S.
mod symbols {
    // SAFETY: demo.S defines these labels in read-only data of this program.
    unsafe extern "C" {
        pub(super) static vtl0_demo_real: u8;
        pub(super) static vtl0_demo_real_end: u8;
        pub(super) static vtl0_demo_prot32: u8;
        pub(super) static vtl0_demo_prot32_end: u8;
        pub(super) static vtl0_demo_long: u8;
        pub(super) static vtl0_demo_long_end: u8;
    }
}

/// The built-in demo guest for `mode`.
pub(crate) fn demo(mode: ModeName) -> &'static [u8] {
    let (start, end) = match mode {
        ModeName::Real => (
            &raw const symbols::vtl0_demo_real,
            &raw const symbols::vtl0_demo_real_end,
        ),
        ModeName::Prot32 => (
            &raw const symbols::vtl0_demo_prot32,
            &raw const symbols::vtl0_demo_prot32_end,
        ),
        ModeName::Long => (
            &raw const symbols::vtl0_demo_long,
            &raw const symbols::vtl0_demo_long_end,
        ),
    };
    let len = end.addr() - start.addr();
    // SAFETY: demo.S defines both labels in one section, the end after the start, and all bytes
    // between them are initialised and never change.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Endless CPUID, the guest of the benchmark: `1: cpuid; jmp 1b`.
pub(crate) const CPUID_LOOP: [u8; 4] = [0x0f, 0xa2, 0xeb, 0xfc];

/// Displacements of the marker no-ops, one pair per measured path; the counting plugin
/// (tools/checks/insn_count) uses the same numbers.
pub(crate) mod marker {
    /// An ioctl that does next to nothing begins.
    pub(crate) const NULL_IOCTL_BEGIN: i32 = 0x5654_0101;
    /// It ended.
    pub(crate) const NULL_IOCTL_END: i32 = 0x5654_0102;
    /// A round trip to VTL0 begins.
    pub(crate) const USER_ROUND_TRIP_BEGIN: i32 = 0x5654_0201;
    /// It ended.
    pub(crate) const USER_ROUND_TRIP_END: i32 = 0x5654_0202;
}

/// Executes the no-op that marks a place for the counting plugin.
#[inline(always)]
pub(crate) fn mark<const DISPLACEMENT: i32>() {
    // SAFETY: a no-op; its memory operand is never accessed.
    unsafe {
        core::arch::asm!(
            "nop dword ptr [rax + rax + {displacement}]",
            displacement = const DISPLACEMENT,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack
            .windows(needle.len())
            .any(|window| window == needle)
    }

    #[test]
    fn demos_fit_a_page_and_hold_their_instructions() {
        const CPUID: &[u8] = &[0x0f, 0xa2];
        const VMCALL: &[u8] = &[0x0f, 0x01, 0xc1];
        const RDMSR: &[u8] = &[0x0f, 0x32];
        const OUT_E9: &[u8] = &[0xe6, 0xe9];
        for mode in [ModeName::Real, ModeName::Prot32, ModeName::Long] {
            let guest = demo(mode);
            assert!(!guest.is_empty() && guest.len() < 4096, "{mode:?}");
            for code in [CPUID, VMCALL, RDMSR, OUT_E9, b"hello from VTL0"] {
                assert!(contains(guest, code), "{mode:?} {code:x?}");
            }
        }
    }

    #[test]
    fn demos_differ_by_mode() {
        assert_ne!(demo(ModeName::Real), demo(ModeName::Prot32));
        assert!(contains(demo(ModeName::Long), b"64-bit"));
    }
}
