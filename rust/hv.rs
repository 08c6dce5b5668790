// SPDX-License-Identifier: GPL-2.0
//! The host below, if it is Hyper-V: what only such a host offers.
//!
//! Hypercalls are made by TDG.VP.VMCALL, through pages shared with the host. `hv::synic` receives
//! the host's messages and events, `vp::host_interrupts` passes them on to the VPs, and
//! `nodes::hyper_v` has the nodes by which a paravisor reaches both. On another host none of this
//! exists.

pub(crate) mod c;
pub(crate) mod event_fds;
pub(crate) mod page;
pub(crate) mod synic;

use kernel::prelude::*;

use crate::cpu::guards::{OnOneCpu, PreemptOff};
use crate::pure::hv_call::Control;
use page::HostPage;
use synic::Synic;

/// The hypercall pages of a CPU. Both are zero between two calls.
struct CallPages {
    input: HostPage,
    output: HostPage,
}

/// A Hyper-V host.
pub(crate) struct Host {
    /// Indexed by CPU number.
    pages: KVec<CallPages>,
    synic: Option<Synic>,
}

impl Host {
    /// Returns `None` if the host is not Hyper-V, or refuses to share memory.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn detect() -> Result<Option<Self>> {
        if !c::vtl_is_on_hyper_v() {
            return Ok(None);
        }
        let num_cpus = kernel::cpu::nr_cpu_ids() as usize; // CAST: u32 fits
        let mut pages = KVec::with_capacity(num_cpus, GFP_KERNEL)?;
        for _ in 0..num_cpus {
            let (Ok(input), Ok(output)) = (HostPage::new(), HostPage::new()) else {
                pr_err!("no /dev/mshv_hvcall: the host refuses to share pages\n");
                return Ok(None);
            };
            pages.push(CallPages { input, output }, GFP_KERNEL)?;
        }
        let synic = Synic::detect().unwrap_or_else(|_| {
            pr_err!("no /dev/mshv_sint: the host refuses to share pages\n");
            None
        });
        Ok(Some(Self { pages, synic }))
    }

    /// The SynIC, if this driver may use it.
    pub(crate) fn synic(&self) -> Option<&Synic> {
        self.synic.as_ref()
    }

    /// Makes a hypercall. `output` receives what the host has written, and zeros elsewhere.
    ///
    /// # Errors
    ///
    /// ENXIO for a CPU without pages, which does not happen.
    pub(crate) fn call(&self, control: Control, input: &[u8], output: &mut [u8]) -> Result<u64> {
        // The pages belong to the CPU: no other task may use them meanwhile.
        let alone = PreemptOff::new();
        let pages = self.pages.get(alone.cpu() as usize).ok_or(ENXIO)?; // CAST: u32 fits
        pages.input.write(input);
        let answer = c::vtl_hypercall(control.word(), pages.input.phys(), pages.output.phys());
        pages.output.read_at(0, output);
        // The host may have written more than it should, and to both pages.
        pages.input.clear(kernel::page::PAGE_SIZE);
        pages.output.clear(kernel::page::PAGE_SIZE);
        Ok(control.settle(answer))
    }
}
