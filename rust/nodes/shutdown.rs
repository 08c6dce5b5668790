// SPDX-License-Identifier: GPL-2.0
//! Reboot, power-off, kexec: detaches this kernel from the host and the TDX module.
//!
//! The next kernel uses the memory of this one's virtual-APIC pages and SynIC pages for other
//! purposes, and may accept memory that this one has shared with the host. A kernel that crashes
//! runs none of this: [`crate::vp::machine`] cleans up after it when the next kernel loads the
//! module.

use kernel::prelude::*;

use crate::mem::withdrawn;
use crate::nodes::attest;
use crate::nodes::c::BeforeShutdown;
use crate::pure::hv_call;
use crate::vp::machine::{self, Machine};

/// Registration of the callback before shutdown.
pub(crate) struct Notified {
    _registered: BeforeShutdown,
}

impl Notified {
    /// To be created after the machine.
    pub(crate) fn new() -> Self {
        Self {
            _registered: BeforeShutdown::new(begins, attest::tick),
        }
    }
}

extern "C" fn begins() {
    let Some(machine) = machine::machine() else {
        return;
    };
    machine.stop();
    // From here on no VP switches.
    attest::close(&machine);
    pr_info!("stopped: the host and the TDX module use no page of this kernel any more\n");
    match take_back(&machine) {
        Ok(0) => (),
        Ok(kept) => pr_warn!("{kept} pages of the lower VTLs are still shared with the host\n"),
        Err(_) => pr_warn!("interrupted: lower-VTL pages may still be shared with the host\n"),
    }
}

/// Asks the host to return all memory of the lower VTLs that is shared with it, because the next
/// kernel does not know which that is. Returns the number of pages that are still shared.
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
