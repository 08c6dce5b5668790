// SPDX-License-Identifier: GPL-2.0
//! The host below, if it is Hyper-V: what only such a host offers.
//!
//! Hypercalls go out by TDG.VP.VMCALL through pages that are shared with the host. What the host
//! sends lies in `hv::synic`. `vp::host_interrupts` takes it to the VPs, and `nodes::hyper_v` has the
//! nodes by which a paravisor reaches both. On another host none of this exists.

pub(crate) mod c;
pub(crate) mod event_fds;
pub(crate) mod page;
pub(crate) mod synic;

use kernel::prelude::*;

use crate::cpu::guards::{OnOneCpu, PreemptOff};
use crate::pure::hv_call::Control;
use page::HostPage;
use synic::Synic;

/// The pages of a CPU. Between two calls both are zero.
struct Pages {
    input: HostPage,
    output: HostPage,
}

/// The host, as a partner for hypercalls.
pub(crate) struct Host {
    /// Indexed by CPU number.
    pages: KVec<Pages>,
    synic: Option<Synic>,
}

impl Host {
    /// `None` if the host is not Hyper-V, or does not share memory with us.
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
                pr_err!("no hypercalls: the host shares no memory\n");
                return Ok(None);
            };
            pages.push(Pages { input, output }, GFP_KERNEL)?;
        }
        let synic = Synic::detect().unwrap_or_else(|_| {
            pr_err!("no messages of the host: it shares no memory\n");
            None
        });
        Ok(Some(Self { pages, synic }))
    }

    /// The controllers of its interrupts, if they are ours.
    pub(crate) fn synic(&self) -> Option<&Synic> {
        self.synic.as_ref()
    }

    /// Makes a hypercall. `output` gets what the host has written, zeros where it has not.
    ///
    /// # Errors
    ///
    /// ENXIO for a CPU without pages, which never is.
    pub(crate) fn call(&self, control: Control, input: &[u8], output: &mut [u8]) -> Result<u64> {
        // The pages are those of the CPU: nobody else may come in between.
        let alone = PreemptOff::new();
        let pages = self.pages.get(alone.cpu() as usize).ok_or(ENXIO)?; // CAST: u32 fits
        pages.input.write(input);
        let answer = c::vtl_hypercall(control.word(), pages.input.phys(), pages.output.phys());
        pages.output.read_at(0, output);
        // The host may have written more than was asked for, and to both pages.
        pages.input.clear(kernel::page::PAGE_SIZE);
        pages.output.clear(kernel::page::PAGE_SIZE);
        Ok(control.settle(answer))
    }
}
