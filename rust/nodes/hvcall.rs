// SPDX-License-Identifier: GPL-2.0
//! `/dev/mshv_hvcall`: hypercalls for a paravisor.
//!
//! Each open file declares once which calls it is going to make, and can make no others; and of
//! these only those that `pure::hv_policy` allows.

use core::mem::offset_of;

use kernel::alloc::KVec;
use kernel::fs::File;
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, SetOnce};

use crate::glue::abi::{mshv_vtl_hvcall, mshv_vtl_hvcall_setup};
use crate::mem::{withdrawn, KernelMemory};
use crate::nodes::args::Argument;
use crate::nodes::commands;
use crate::nodes::device;
use crate::observe::event;
use crate::observe::stats::RefusalKind;
use crate::observe::trace;
use crate::pure::hv_call::{self, Control, MAX_BYTES, MAX_LIST_BYTES};
use crate::pure::hv_policy::{self, HvCallPermit, Input};
use crate::vp::machine::Machine;

/// `/dev/mshv_hvcall`.
pub(crate) struct HvCall;

/// One open file.
pub(crate) struct HvCallFile {
    machine: Arc<Machine>,
    /// One bit for each call code.
    allowed: SetOnce<KVec<u8>>,
}

#[vtable]
impl MiscDevice for HvCall {
    type Ptr = Arc<HvCallFile>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Arc<HvCallFile>> {
        let file = HvCallFile {
            machine: device::open()?,
            allowed: SetOnce::new(),
        };
        Ok(Arc::new(file, GFP_KERNEL)?)
    }

    fn ioctl(
        calls: ArcBorrow<'_, HvCallFile>,
        _file: &File,
        command: u32,
        argument: usize,
    ) -> Result<isize> {
        let argument = Argument::new(argument);
        match command {
            commands::HVCALL_SETUP => calls.setup(argument),
            commands::HVCALL => calls.call(argument),
            _ => Err(ENOTTY),
        }
    }
}

/// Reads `len_bytes` of userspace, at most `max_bytes`.
///
/// # Errors
///
/// EINVAL if it is more. EFAULT, ENOMEM.
fn bytes_from_user(address: u64, len_bytes: u64, max_bytes: u64) -> Result<KVec<u8>> {
    if len_bytes > max_bytes {
        return Err(EINVAL);
    }
    Argument::pointer(address).read_list(len_bytes as usize) // CAST: at most `max_bytes`
}

impl HvCallFile {
    /// `MSHV_HVCALL_SETUP`.
    ///
    /// # Errors
    ///
    /// EFAULT, ENOMEM. EINVAL: the list is too long, or the file has one already.
    fn setup(&self, argument: Argument) -> Result<isize> {
        let mshv_vtl_hvcall_setup {
            bitmap_array_size,
            allow_bitmap_ptr,
        } = argument.read()?;
        let list = bytes_from_user(allow_bitmap_ptr, bitmap_array_size, MAX_LIST_BYTES)?;
        if self.allowed.populate(list) {
            Ok(0)
        } else {
            Err(EINVAL)
        }
    }

    fn is_allowed(&self, code: u16) -> bool {
        let list = self.allowed.as_ref();
        list.is_some_and(|list| hv_call::is_allowed(list, code))
    }

    /// Records a call that the file has not declared, or that the policy refuses.
    fn refused(&self, control: u64) {
        if let Some(vp) = self.machine.current_vp() {
            vp.stats.refused(RefusalKind::Hypercall);
        }
        let errno = u64::from(EPERM.to_errno().unsigned_abs());
        trace::vtl_refused(commands::HVCALL, control, errno);
        event::hypercall_refused(self.machine.control(), control);
    }

    /// `MSHV_HVCALL`. A refusal by the host is an answer, in `status`.
    ///
    /// # Errors
    ///
    /// EFAULT, ENOMEM. EINVAL: more than a page, or an invalid control word. EPERM: the file has
    /// not declared the call, or the policy refuses it. EBUSY: a page is a VP's virtual-APIC page.
    /// EBUSY, EINTR: as for `mem::withdrawn::to_shared`. ENXIO: the kernel is shutting down.
    fn call(&self, argument: Argument) -> Result<isize> {
        let request: mshv_vtl_hvcall = argument.read()?;
        if request.input_size > MAX_BYTES || request.output_size > MAX_BYTES {
            return Err(EINVAL);
        }
        if !self.is_allowed(hv_call::code(request.control)) {
            self.refused(request.control);
            return Err(EPERM);
        }
        let control = Control::new(request.control).ok_or(EINVAL)?;
        let input = bytes_from_user(request.input_ptr, request.input_size, MAX_BYTES)?;
        let len_bytes = request.output_size as usize; // CAST: at most a page
        let mut output = KVec::from_elem(0_u8, len_bytes, GFP_KERNEL)?;

        let Some(permit) = hv_policy::decide(control, Input(&input), &KernelMemory) else {
            self.refused(request.control);
            return Err(EPERM);
        };
        let status = self.make(permit, control, &input, &mut output)?;

        Argument::pointer(request.output_ptr)
            .bytes(len_bytes)
            .writer()
            .write_slice(&output)?;
        let to = argument.field(offset_of!(mshv_vtl_hvcall, status));
        to.write(&status)?;
        Ok(0)
    }

    /// Makes a call that is allowed.
    fn make(
        &self,
        permit: HvCallPermit,
        control: Control,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<u64> {
        let host = self.machine.host().ok_or(ENXIO)?;
        if permit == HvCallPermit::Plain {
            return host.call(control, input, output);
        }
        let mut pages = KVec::new();
        for page in hv_policy::pages(control, Input(input), &KernelMemory) {
            pages.push(page.ok_or(EPERM)?, GFP_KERNEL)?;
        }
        let start = usize::from(control.rep_start());
        let call = || {
            // `shutdown.rs` would not ask for the return of pages that are shared after it has run.
            if permit == HvCallPermit::ToShared && self.machine.is_stopped() {
                return Err(ENXIO);
            }
            let status = host.call(control, input, output)?;
            let done = usize::from(hv_call::done(status));
            Ok((status, done.saturating_sub(start)))
        };
        let lower_pages = self.machine.lower_pages();
        let is_taken = |gpa: u64| pages.iter().any(|page| page.holds(gpa));
        lower_pages
            .unless_used(is_taken, || match permit {
                HvCallPermit::ToShared => withdrawn::to_shared(&pages, call),
                _ => withdrawn::to_private(&pages, call),
            })
            .ok_or(EBUSY)?
    }
}
