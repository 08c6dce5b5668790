// SPDX-License-Identifier: GPL-2.0
//! Reboot, power-off, kexec: nothing of this kernel stays with the host or the TDX module.
//!
//! The next kernel uses as its own memory what this one had for virtual APIC pages and for messages
//! of the host. A kernel that crashes calls nobody: what it leaves behind, [`crate::vp::machine`] takes back when
//! the next one loads the module.

use kernel::prelude::*;

use crate::nodes::c::BeforeShutdown;
use crate::vp::machine;

/// The kernel tells before it ends.
pub(crate) struct Notified {
    _registered: BeforeShutdown,
}

impl Notified {
    /// When the machine is there.
    pub(crate) fn new() -> Self {
        Self {
            _registered: BeforeShutdown::new(begins),
        }
    }
}

extern "C" fn begins() {
    if let Some(machine) = machine::machine() {
        machine.stop();
        pr_info!("stopped: the host and the TDX module know no page of this kernel any more\n");
    }
}
