// SPDX-License-Identifier: GPL-2.0
//! The nodes that exist only on Hyper-V: `/dev/mshv_hvcall` and `/dev/mshv_sint`.

use kernel::miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;

use super::{hvcall, sint};
use crate::vp::machine;

/// The nodes; the second only if this driver may use the SynIC.
pub(crate) struct Nodes {
    _hvcall: Pin<KBox<MiscDeviceRegistration<hvcall::HvCall>>>,
    _sint: Option<Pin<KBox<MiscDeviceRegistration<sint::Sint>>>>,
}

impl Nodes {
    /// Registers them, if the host is Hyper-V.
    ///
    /// # Errors
    ///
    /// Those of the registrations.
    pub(crate) fn register() -> Result<Option<Self>> {
        let machine = machine::machine().ok_or(ENODEV)?;
        let Some(host) = machine.host() else {
            return Ok(None);
        };
        let sint = match host.synic() {
            Some(_) => Some(node(c"mshv_sint")?),
            None => None,
        };
        Ok(Some(Self {
            _hvcall: node(c"mshv_hvcall")?,
            _sint: sint,
        }))
    }
}

fn node<T: MiscDevice>(name: &'static CStr) -> Result<Pin<KBox<MiscDeviceRegistration<T>>>> {
    let options = MiscDeviceOptions { name };
    KBox::pin_init(MiscDeviceRegistration::register(options), GFP_KERNEL)
}
