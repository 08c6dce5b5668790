// SPDX-License-Identifier: GPL-2.0
//! Reboot, power-off, kexec: nothing of this kernel stays with the host or the TDX module.
//!
//! The next kernel uses as its own memory what this one had for virtual APIC pages and for messages
//! of the host. A kernel that crashes calls nobody: what it leaves behind, [`crate::vp::machine`] takes back when
//! the next one loads the module.

// UNSAFETY: hands a callback to the kernel.
#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::glue::abi::{self, safe_in_c};
use crate::vp::machine;

// Whatever was registered is not called any more on return.
safe_in_c! {
    fn vtl_shutdown_unregister();
}

/// The kernel tells before it ends.
pub(crate) struct Notified(());

impl Notified {
    /// When the machine is there.
    pub(crate) fn new() -> Self {
        // SAFETY: The function is one of this module, and `drop` takes it back before it goes.
        unsafe { abi::vtl_shutdown_register(Some(begins)) };
        Self(())
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        vtl_shutdown_unregister();
    }
}

extern "C" fn begins() {
    if let Some(machine) = machine::machine() {
        machine.stop();
        pr_info!("stopped: the host and the TDX module know no page of this kernel any more\n");
    }
}
