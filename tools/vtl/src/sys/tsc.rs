// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The time-stamp counter.

/// The time-stamp counter, read in program order.
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
    // SAFETY: every x86-64 CPU has RDTSC, and Linux leaves it enabled in user
    // mode unless a process asks otherwise, which ends in SIGSEGV.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}
