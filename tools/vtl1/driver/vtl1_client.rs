// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtl1_client`: the services of the secure kernel at VTL1, for a Linux at VTL0.
//!
//! VTL1 is an ACPI device, MVTL0001. `file` is `/dev/vtl1`, where a process writes a request and
//! reads the reply; `channel` has the memory for both, and `call` makes the VTL call, on CPU 0:
//!
//! ```text
//! write ─ file ─ channel ─ call ─ VMCALL ─► VTL1
//! ```
//!
//! VTL0 trusts VTL1, which can write all of VTL0's memory; but not the processes that have opened the
//! device. `Documentation/vtl1.rst` describes the protocols.

#![deny(unsafe_code)]

mod call;
mod channel;
mod file;

use kernel::miscdevice::{MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::{acpi, device, driver, platform};

use channel::Channel;
use file::OpenFile;

module! {
    type: Module,
    name: "vtl1_client",
    authors: ["mshv_vtl_tdx contributors"],
    description: "The services of a secure kernel at VTL1",
    license: "Dual MIT/GPL",
}

#[pin_data]
struct Module {
    #[pin]
    _driver: driver::Registration<platform::Adapter<Client>>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Before the driver, whose files use it.
        channel::init();
        try_pin_init!(Self {
            _driver <- driver::Registration::new(c"vtl1_client", module),
        })
    }
}

/// The device while the driver is bound to it.
#[pin_data]
struct Client {
    _open: channel::Open,
    #[pin]
    _node: MiscDeviceRegistration<OpenFile>,
}

kernel::acpi_device_table!(
    ACPI_TABLE,
    <Client as platform::Driver>::IdInfo,
    [(acpi::DeviceId::new(c"MVTL0001"), ())]
);

impl platform::Driver for Client {
    type IdInfo = ();
    type Data<'bound> = Self;
    const ACPI_ID_TABLE: Option<acpi::IdTable<Self::IdInfo>> = Some(&ACPI_TABLE);

    fn probe<'bound>(
        device: &'bound platform::Device<device::Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let device = device.as_ref();
            let mut channel = Channel::new(device)?;
            let identity = channel.identify()?;
            if identity.version != channel::VERSION {
                dev_err!(
                    device,
                    "VTL1 has version {} of the interface, and this driver knows version {}\n",
                    identity.version,
                    channel::VERSION
                );
                return Err(ENODEV);
            }
            let open = channel::open(channel)?;
            dev_info!(
                device,
                "VTL1 is here, with the keys {:016x}{:016x}\n",
                identity.keys[0],
                identity.keys[1]
            );
            Ok(try_pin_init!(Self {
                _open: open,
                _node <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"vtl1" }),
            }))
        })
    }
}
