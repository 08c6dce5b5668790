// SPDX-License-Identifier: GPL-2.0
//! `mshv_vtl_tdx`: runs the lower virtual trust levels of a TDX trust domain.
//!
//! A Linux at VTL2 is VM 0 of the trust domain (TD). Its userspace, a paravisor, runs the other VMs
//! of the TD, VTL0 and VTL1, with one virtual processor (VP) per CPU:
//!
//! ```text
//! ioctl ─ device ─ request ─ vp::claim ─ run ──► run::context ─ enter ─ vp_enter.S ─ TDG.VP.ENTER
//!                                        ▲                                              │
//!            return to userspace ◄── pure::next ◄── pure::exit ◄────────────────────────┘
//! ```
//!
//! The folders below are in the order in which data passes: imports only point downwards. `pure`
//! holds everything that only computes, and is tested on the host.
//!
//! A file that declares C functions or has `unsafe` blocks allows that for itself, and says what kind
//! after `UNSAFETY:`. Only these files have blocks:
//!
//! ```text
//! run/enter  vp/machine  nodes/c  nodes/redirect  mem/fault  mem/registered
//! cpu/debug_regs  cpu/fpu  cpu/msr  cpu/tdcall  glue/abi  glue/ffi  glue/page
//! ```

#![deny(unsafe_code)]

mod nodes;

mod run;

mod vp;

mod hv;
mod mem;

mod observe;

mod cpu;

mod glue;

pub mod pure;

use kernel::miscdevice::{MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::Arc;

use nodes::{attest, debugfs, device, hyper_v, redirect, shutdown};
use observe::event;
use vp::machine;

module! {
    type: MshvVtlTdx,
    name: "mshv_vtl_tdx",
    authors: ["mshv_vtl_tdx contributors"],
    description: "Run lower virtual trust levels of a TDX trust domain",
    license: "GPL",
    params: {
        audit_records: u32 {
            default: 1024,
            description: "Records in the audit ring of each VP: a power of two from 64 to 65536",
        },
        storm_spacing_us: u32 {
            default: 20,
            description: "Largest distance in microseconds between two of the 1024 host-caused exits that make an exit storm; 0 disables detection",
        },
        attest_rtmr: u32 {
            default: 3,
            description: "Run-time measurement register that attestation extends: 2 or 3",
        },
        attest_interval: u32 {
            default: 10,
            description: "Seconds from one checkpoint of the attested log to the next, at most 86400; 0: only those that are asked for",
        },
        attest_batch: u32 {
            default: 4,
            description: "Pages of records after which a VP has them hashed: 1 to 1024",
        },
        audit_leaves: u32 {
            default: 4096,
            description: "Hashes in the ring of each stream of the attested log: a power of two from 64 to 65536",
        },
    },
}

/// The module, from load to unload.
///
/// Fields are dropped in this order: first no file can be opened any more, then no callback runs,
/// then what both used is freed.
#[pin_data]
struct MshvVtlTdx {
    #[pin]
    _mshv: MiscDeviceRegistration<device::Mshv>,
    #[pin]
    _vtl: MiscDeviceRegistration<device::Vtl>,
    #[pin]
    _low: MiscDeviceRegistration<device::Low>,
    _on_hyper_v: Option<hyper_v::Nodes>,
    _debugfs: debugfs::Debugfs,
    _attested: attest::Session,
    _shutdown: shutdown::Notified,
    _hotplug: machine::Hotplug,
    _events: event::Pending,
    _interrupts: machine::Interrupts,
    _redirects: redirect::RedirectReady,
    _published: machine::Published,
    _registry: mem::registered::Registry,
    _claims: mem::ranges::Claims,
    _withdrawn: mem::withdrawn::WithdrawnReady,
}

impl kernel::InPlaceModule for MshvVtlTdx {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _withdrawn: mem::withdrawn::WithdrawnReady::new()?,
            _registry: mem::registered::Registry::new(),
            _published: machine::Published::new(
                module_parameters::audit_records.value(),
                attest::settings()?,
            )?,
            _claims: mem::ranges::Claims::new()?,
            _interrupts: machine::Interrupts::start(machine::machine().ok_or(ENODEV)?),
            _redirects: redirect::RedirectReady::new()?,
            _events: event::Pending::new(),
            _hotplug: machine::Hotplug::new()?,
            _shutdown: shutdown::Notified::new(),
            _attested: attest::Session::open(machine::machine().ok_or(ENODEV)?)?,
            _debugfs: debugfs::Debugfs::new(loaded()?)?,
            // Nodes last: an open() right after registration finds everything else in place.
            _on_hyper_v: hyper_v::Nodes::register()?,
            _low <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mshv_vtl_low" }),
            _vtl <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mshv_vtl" }),
            _mshv <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mshv" }),
        })
    }
}

/// Returns the machine, whose VPs are up by now, and logs that the module is loaded.
fn loaded() -> Result<Arc<machine::Machine>> {
    let machine = machine::machine().ok_or(ENODEV)?;
    let num_l2_vms = machine.features().limits.num_l2_vms;
    let lower_bytes = mem::ranges::lower_memory().len_bytes();
    event::loaded(
        machine.control(),
        num_l2_vms,
        machine.audit_records(),
        lower_bytes,
    );
    Ok(machine)
}
