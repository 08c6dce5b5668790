// SPDX-License-Identifier: GPL-2.0
//! `/dev/mshv_sint`: VMBus messages and events, for a paravisor that relays them to the lower VTL.

// UNSAFETY: declares a C function.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::fs::{File, Kiocb};
use kernel::iov::IovIterDest;
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

use crate::glue::abi::{
    mshv_sint_mask, mshv_vtl_set_eventfd, mshv_vtl_signal_event, mshv_vtl_sint_post_msg, safe_in_c,
    Valid,
};
use crate::glue::ffi::EventFd;
use crate::hv::synic::Synic;
use crate::hv::Host;
use crate::nodes::args::Argument;
use crate::nodes::c::{adopt, FileOperations};
use crate::nodes::commands;
use crate::nodes::device;
use crate::pure::hv_call::Control;
use crate::pure::hv_message::{self, FLAGS, PAYLOAD_BYTES, SLOT_BYTES};
use crate::vp::machine::Machine;

// It reads two words of flags.
safe_in_c! {
    fn vtl_is_nonblocking(kiocb: Valid<'_, bindings::kiocb> as *mut bindings::kiocb) -> bool;
}

/// With poll(), which the misc device abstraction does not have.
static OPERATIONS: FileOperations = FileOperations::of_sint();

/// `/dev/mshv_sint`.
pub(crate) struct Sint;

/// One open file.
pub(crate) struct SintFile {
    machine: Arc<Machine>,
}

impl SintFile {
    fn host(&self) -> Result<&Host> {
        self.machine.host().ok_or(ENXIO)
    }

    pub(super) fn synic(&self) -> Result<&Synic> {
        self.host()?.synic().ok_or(ENXIO)
    }

    /// Identifies the file among those that register eventfds.
    fn owner(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Makes a simple hypercall. Its result is the result of the ioctl.
    fn call(&self, code: u64, input: &[u8]) -> Result<isize> {
        let control = Control::new(code).ok_or(EINVAL)?;
        let status = self.host()?.call(control, input, &mut [])?;
        Ok((status & 0xffff) as isize) // CAST: 16 bits
    }

    /// `MSHV_SINT_POST_MESSAGE`.
    ///
    /// # Errors
    ///
    /// EFAULT. EINVAL: a type of more than 32 bits, or a payload larger than a message's.
    fn post_message(&self, argument: Argument) -> Result<isize> {
        let request: mshv_vtl_sint_post_msg = argument.read()?;
        let kind = u32::try_from(request.message_type).map_err(|_| EINVAL)?;
        let len_bytes = request.payload_size as usize; // CAST: u32 fits
        let mut payload = [0; PAYLOAD_BYTES];
        let payload = payload.get_mut(..len_bytes).ok_or(EINVAL)?;
        if len_bytes != 0 {
            let from = Argument::pointer(request.payload_ptr);
            from.bytes(len_bytes).reader().read_slice(payload)?;
        }
        let input = hv_message::post_input(request.connection_id, kind, payload);
        self.call(hv_message::POST_MESSAGE, &input)
    }

    /// `MSHV_SINT_SIGNAL_EVENT`.
    ///
    /// # Errors
    ///
    /// EFAULT. EINVAL: no such flag.
    fn signal_event(&self, argument: Argument) -> Result<isize> {
        let request: mshv_vtl_signal_event = argument.read()?;
        if request.flag >= FLAGS {
            return Err(EINVAL);
        }
        let flag = request.flag as u16; // CAST: below 2048
        let input = hv_message::signal_input(request.connection_id, flag);
        self.call(hv_message::SIGNAL_EVENT, &input)
    }

    /// `MSHV_SINT_SET_EVENTFD`.
    ///
    /// # Errors
    ///
    /// EFAULT. EINVAL: no such flag, or the file is not an eventfd. EBADF: no such file.
    fn set_eventfd(&self, argument: Argument) -> Result<isize> {
        let request: mshv_vtl_set_eventfd = argument.read()?;
        if request.flag >= FLAGS {
            return Err(EINVAL);
        }
        let eventfd = match request.fd {
            ..0 => None,
            fd => Some(EventFd::new(fd)?),
        };
        self.synic()?
            .event_fds
            .register(self.owner(), request.flag, eventfd)?;
        Ok(0)
    }

    /// `MSHV_SINT_PAUSE_MESSAGE_STREAM`.
    ///
    /// # Errors
    ///
    /// EFAULT. EINVAL: the value is neither 0 nor 1.
    fn pause(&self, argument: Argument) -> Result<isize> {
        let mshv_sint_mask { mask, reserved: _ } = argument.read()?;
        if mask > 1 {
            return Err(EINVAL);
        }
        self.synic()?.pause(mask != 0);
        Ok(0)
    }
}

impl Drop for SintFile {
    fn drop(&mut self) {
        if let Ok(synic) = self.synic() {
            synic.event_fds.release(self.owner());
        }
    }
}

#[vtable]
impl MiscDevice for Sint {
    type Ptr = Arc<SintFile>;

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Arc<SintFile>> {
        let machine = device::open()?;
        let sint = Arc::new(SintFile { machine }, GFP_KERNEL)?;
        adopt(file, &OPERATIONS);
        Ok(sint)
    }

    fn read_iter(kiocb: Kiocb<'_, Arc<SintFile>>, to: &mut IovIterDest<'_>) -> Result<usize> {
        let file = kiocb.file();
        let synic = file.synic()?;
        if to.len() < SLOT_BYTES {
            return Err(EINVAL);
        }
        loop {
            if synic.read_message(to)? {
                return Ok(SLOT_BYTES);
            }
            if synic.is_paused() {
                return Ok(0);
            }
            if vtl_is_nonblocking((&kiocb).into()) {
                return Err(EAGAIN);
            }
            synic.wait()?;
        }
    }

    fn ioctl(
        sint: ArcBorrow<'_, SintFile>,
        _file: &File,
        command: u32,
        argument: usize,
    ) -> Result<isize> {
        let argument = Argument::new(argument);
        match command {
            commands::SINT_POST_MESSAGE => sint.post_message(argument),
            commands::SINT_SIGNAL_EVENT => sint.signal_event(argument),
            commands::SINT_SET_EVENTFD => sint.set_eventfd(argument),
            commands::SINT_PAUSE_MESSAGE_STREAM => sint.pause(argument),
            _ => Err(ENOTTY),
        }
    }
}
