// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The VTL call. [TLFS 15]
//!
//! VTL1 runs on the boot processor only, which is CPU 0, except for a crash kernel: an interrupt has the call
//! made there. It returns before the interrupt's handler does.

// UNSAFETY: one instruction, and a C function that takes a pointer.
#![expect(unsafe_code)]

use core::arch::asm;

use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;

const BOOT_CPU: i32 = 0;
/// RCX of a VTL call; RAX is zero.
const VTL_CALL: u64 = 0x11;

/// What VTL1 returns.
pub(crate) struct Reply {
    /// RAX.
    pub(crate) status: u64,
    /// RCX.
    pub(crate) value: u64,
}

struct Call {
    request: u64,
    reply: Reply,
}

/// Has VTL1 handle the request at this guest-physical address. May sleep.
///
/// # Errors
///
/// ENXIO if CPU 0 is offline.
pub(crate) fn vtl_call(request: u64) -> Result<Reply> {
    let mut call = Call {
        request,
        reply: Reply {
            status: 0,
            value: 0,
        },
    };
    let about = core::ptr::from_mut(&mut call).cast();
    // SAFETY: `on_boot_cpu` takes a pointer to a `Call`, which lives longer: with true as its last
    // argument the function returns after `on_boot_cpu` has.
    to_result(unsafe {
        bindings::smp_call_function_single(BOOT_CPU, Some(on_boot_cpu), about, true)
    })?;
    Ok(call.reply)
}

/// # Safety
///
/// `about` points to a [`Call`] that nobody else accesses.
unsafe extern "C" fn on_boot_cpu(about: *mut c_void) {
    // SAFETY: the caller guarantees both, by the line above.
    let call = unsafe { &mut *about.cast::<Call>() };
    let Reply { status, value } = &mut call.reply;
    // SAFETY: VTL1 changes RAX and RCX, and no other register, and the memory that the request names,
    // to which `channel` has no reference now. A hypervisor without VTL1 on this processor answers in
    // RAX.
    unsafe {
        asm!(
            "vmcall",
            inlateout("rax") 0_u64 => *status,
            inlateout("rcx") VTL_CALL => *value,
            in("rdi") call.request,
            options(nostack),
        );
    }
}
