// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The time-stamp counter.

/// Reads the time-stamp counter, in program order.
///
/// ```
/// let begin = vtl::tsc();
/// assert!(vtl::tsc() >= begin);
/// ```
pub fn tsc() -> u64 {
    #[allow(
        unused_unsafe,
        reason = "safe with newer compilers than the oldest supported"
    )]
    // SAFETY: every x86-64 CPU has LFENCE.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    #[allow(
        unused_unsafe,
        reason = "safe with newer compilers than the oldest supported"
    )]
    // SAFETY: every x86-64 CPU has RDTSC. Linux enables it in user mode unless a process disables
    // it for itself, which would end in SIGSEGV.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}
