// SPDX-License-Identifier: GPL-2.0
//! Commands that carry an argument: copy in once, check the copy, act, copy out. `request/tdcall.rs` has the
//! largest one.

pub(crate) mod tdcall;

use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::cpu::msr;
use crate::glue::abi::mshv_vtl_ram_disposition;
use crate::mem::registered;
use crate::pure::ranges;
use crate::pure::uapi;

/// `MSHV_CHECK_EXTENSION`.
pub(crate) fn check_extension(argument: UserPtr) -> Result<isize> {
    let capability: u32 = UserSlice::new(argument, size_of::<u32>()).reader().read()?;
    let answer = uapi::check_extension(capability).ok_or(EOPNOTSUPP)?;
    Ok(answer as isize) // CAST: 0 or 1
}

/// `MSHV_ADD_VTL0_MEMORY`.
///
/// # Errors
///
/// EINVAL for what is no memory of a lower VTL; the others as `registered::add`.
pub(crate) fn add_vtl0_memory(argument: UserPtr) -> Result<isize> {
    let mshv_vtl_ram_disposition {
        start_pfn,
        last_pfn,
    } = UserSlice::new(argument, size_of::<mshv_vtl_ram_disposition>())
        .reader()
        .read()?;
    registered::add(ranges::Request::new(start_pfn, last_pfn).ok_or(EINVAL)?)?;
    Ok(0)
}

/// `MSHV_READ_VMX_CR4_FIXED1`.
///
/// # Errors
///
/// EFAULT. EIO: the TDX module does not let this Linux read the register.
pub(crate) fn read_cr4_fixed1(argument: UserPtr) -> Result<isize> {
    let value = msr::read_vmx_cr4_fixed1()?;
    UserSlice::new(argument, size_of::<u64>())
        .writer()
        .write(&value)?;
    Ok(0)
}
