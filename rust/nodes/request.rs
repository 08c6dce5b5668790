// SPDX-License-Identifier: GPL-2.0
//! Commands with an operand: copy it in once, check the copy, act, copy out. `request/tdcall.rs`
//! has the largest one.

pub(crate) mod tdcall;

use kernel::prelude::*;

use crate::cpu::msr;
use crate::glue::abi::mshv_vtl_ram_disposition;
use crate::mem::registered;
use crate::nodes::args::Argument;
use crate::pure::ranges;
use crate::pure::uapi;
use crate::vp::machine::Machine;

/// `MSHV_CHECK_EXTENSION`.
pub(crate) fn check_extension(machine: &Machine, argument: Argument) -> Result<isize> {
    let num_l2_vms = machine.features().limits.num_l2_vms;
    let answer = uapi::check_extension(argument.read()?, num_l2_vms).ok_or(EOPNOTSUPP)?;
    Ok(answer as isize) // CAST: 0 or 1
}

/// `MSHV_ADD_VTL0_MEMORY`.
///
/// # Errors
///
/// EINVAL if it is not memory of a lower VTL; the others as `registered::add`.
pub(crate) fn add_vtl0_memory(argument: Argument) -> Result<isize> {
    let mshv_vtl_ram_disposition {
        start_pfn,
        last_pfn,
    } = argument.read()?;
    registered::add(ranges::Request::new(start_pfn, last_pfn).ok_or(EINVAL)?)?;
    Ok(0)
}

/// `MSHV_READ_VMX_CR4_FIXED1`.
///
/// # Errors
///
/// EFAULT. EIO: the TDX module does not let this Linux read the register.
pub(crate) fn read_cr4_fixed1(argument: Argument) -> Result<isize> {
    argument.write(&msr::read_vmx_cr4_fixed1()?)?;
    Ok(0)
}
