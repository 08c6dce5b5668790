// SPDX-License-Identifier: GPL-2.0
//! `mshv_vtl_tdx`: runs the lower virtual trust levels of a TDX trust domain.
//!
//! A Linux at VTL2 is VM 0 of the trust domain (TD). Its userspace, a paravisor, runs the other VMs
//! of the TD, which are VTL0 and VTL1, one virtual processor (VP) per CPU:
//!
//! ```text
//! ioctl ─ device ─ request ─ vp::claim ─ run ──► run::context ─ enter ─ vp_enter.S ─ TDG.VP.ENTER
//!                                        ▲                                              │
//!            return to userspace ◄── pure::next ◄── pure::exit ◄────────────────────────┘
//! ```
//!
//! The folders below stand in the order in which data passes: imports point downwards only. `pure`
//! holds everything that only computes, and is tested on the host.
//!
//! A file that declares functions of C or has `unsafe` blocks allows it for itself and says what kind
//! after `UNSAFETY:`. The blocks are in these files, and no other:
//!
//! ```text
//! run/enter  vp/machine  nodes/c  nodes/redirect  mem/fault  mem/registered
//! cpu/fpu  cpu/msr  cpu/tdcall  glue/abi  glue/ffi  glue/page
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

use nodes::{debugfs, device, hyper_v, redirect, shutdown};
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
            description: "An exit storm is 1024 exits that the host causes, each within so many microseconds of the one before; 0: none is looked for",
        },
    },
}

/// The module, from load to unload.
///
/// Fields are dropped in this order: first nobody can come in any more, then no CPU calls back, then
/// what they used goes away.
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
    _shutdown: shutdown::Notified,
    _hotplug: machine::Hotplug,
    _events: event::Pending,
    _interrupts: machine::Interrupts,
    _redirects: redirect::Ready,
    _published: machine::Published,
    _registry: mem::registered::Registry,
    _claims: mem::ranges::Claims,
    _withdrawn: mem::withdrawn::Ready,
}

impl kernel::InPlaceModule for MshvVtlTdx {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _withdrawn: mem::withdrawn::Ready::new()?,
            _registry: mem::registered::Registry::new(),
            _published: machine::Published::new(module_parameters::audit_records.value())?,
            _claims: mem::ranges::Claims::new()?,
            _interrupts: machine::Interrupts::start(machine::machine().ok_or(ENODEV)?),
            _redirects: redirect::Ready::new()?,
            _events: event::Pending::new(),
            _hotplug: machine::Hotplug::new()?,
            _shutdown: shutdown::Notified::new(),
            _debugfs: debugfs::Debugfs::new(loaded()?)?,
            // Devices last: all that a first open could use is there.
            _on_hyper_v: hyper_v::Nodes::register()?,
            _low <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mshv_vtl_low" }),
            _vtl <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mshv_vtl" }),
            _mshv <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"mshv" }),
        })
    }
}

/// The machine, once its VPs are up; that it is, is worth an event.
fn loaded() -> Result<Arc<machine::Machine>> {
    let machine = machine::machine().ok_or(ENODEV)?;
    let num_l2_vms = machine.features().limits.num_l2_vms;
    let lower_bytes = mem::ranges::lower_memory().len_bytes();
    event::loaded(num_l2_vms, machine.audit_records(), lower_bytes);
    Ok(machine)
}
