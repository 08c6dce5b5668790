// SPDX-License-Identifier: GPL-2.0
//! Reboot, power-off, kexec: nothing of this kernel stays with the host or the TDX module.
//!
//! The next kernel uses as its own memory what this one had for virtual APIC pages and for messages
//! of the host, and may accept what this one has given to the host. A kernel that crashes calls nobody:
//! what it leaves behind, [`crate::vp::machine`] takes back when the next one loads the module.

use kernel::prelude::*;

use crate::mem::withdrawn;
use crate::nodes::c::BeforeShutdown;
use crate::pure::hv_call;
use crate::vp::machine::{self, Machine};

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
    let Some(machine) = machine::machine() else {
        return;
    };
    machine.stop();
    pr_info!("stopped: the host and the TDX module know no page of this kernel any more\n");
    match take_back(&machine) {
        Ok(0) => (),
        Ok(kept) => pr_warn!("the host keeps {kept} pages of the lower VTLs\n"),
        Err(_) => pr_warn!("killed: the host keeps the pages of the lower VTLs that it has\n"),
    }
}

/// Asks the host for all memory of the lower VTLs that it was given: the next kernel does not know which
/// it is. Returns how many pages the host keeps.
fn take_back(machine: &Machine) -> Result<usize> {
    let Some(host) = machine.host() else {
        return Ok(0);
    };
    withdrawn::take_back(|page| {
        let (control, input) = hv_call::make_private(page);
        host.call(control, &input, &mut [])
            .is_ok_and(|status| hv_call::done(status) == 1)
    })
}
