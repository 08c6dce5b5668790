// SPDX-License-Identifier: GPL-2.0
//! Fires the tracepoints of `vtl_trace.h`. A disabled one costs a no-op, patched to a jump when
//! enabled.

// UNSAFETY: reads the static key of a tracepoint, and calls what the kernel's macros generate for
// it.
#![allow(unsafe_code)]

use crate::glue::abi::safe_in_c;
use crate::glue::ffi::is_traced;
use crate::pure::exit::RawExit;

// They take numbers. RCU is watching wherever Rust runs: only `vtl_guest_enter`, in C, leaves that
// state.
safe_in_c! {
    fn rust_do_trace_vtl_enter(vm: u8, reason: u8, rip: u64);
    fn rust_do_trace_vtl_exit(vm: u8, status: u64, qualification: u64, rip: u64, cycles: u64);
    fn rust_do_trace_vtl_refused(command: u32, operand: u64, answer: u64);
}

/// Calls the function of a tracepoint if it is enabled.
macro_rules! fire {
    ($key:ident, $function:ident($($argument:expr),* $(,)?)) => {
        if is_traced!($key) {
            $function($($argument),*);
        }
    };
}

/// A lower VTL is about to be entered; `rip` is called only if the tracepoint is enabled.
pub(crate) fn vtl_enter(vm: u8, reason: u8, rip: impl FnOnce() -> u64) {
    fire!(
        __tracepoint_vtl_enter,
        rust_do_trace_vtl_enter(vm, reason, rip())
    );
}

/// TDG.VP.ENTER has returned.
pub(crate) fn vtl_exit(vm: u8, exit: &RawExit, rip: u64, cycles: u64) {
    fire!(
        __tracepoint_vtl_exit,
        rust_do_trace_vtl_exit(vm, exit.rax, exit.rcx, rip, cycles)
    );
}

/// A command was refused with an errno, or a TDCALL with a status.
pub(crate) fn vtl_refused(command: u32, operand: u64, answer: u64) {
    fire!(
        __tracepoint_vtl_refused,
        rust_do_trace_vtl_refused(command, operand, answer)
    );
}
