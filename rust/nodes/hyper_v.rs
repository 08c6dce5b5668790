// SPDX-License-Identifier: GPL-2.0
//! The nodes that exist on Hyper-V only: `/dev/mshv_hvcall` and `/dev/mshv_sint`.

use kernel::miscdevice::{MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;

use super::{hvcall, sint};
use crate::vp::machine;

/// Both, as far as the host offers what is below them.
pub(crate) struct Nodes {
    _hvcall: Pin<KBox<MiscDeviceRegistration<hvcall::HvCall>>>,
    _sint: Option<sint::Node>,
}

impl Nodes {
    /// Registers them, if the host is Hyper-V.
    ///
    /// # Errors
    ///
    /// Those of the registration.
    pub(crate) fn register() -> Result<Option<Self>> {
        let machine = machine::machine().ok_or(ENODEV)?;
        let Some(host) = machine.host() else {
            return Ok(None);
        };
        let sint = match host.synic() {
            Some(_) => Some(sint::Node::register()?),
            None => None,
        };
        let name = MiscDeviceOptions {
            name: c"mshv_hvcall",
        };
        Ok(Some(Self {
            _hvcall: KBox::pin_init(MiscDeviceRegistration::register(name), GFP_KERNEL)?,
            _sint: sint,
        }))
    }
}
