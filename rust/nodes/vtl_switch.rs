// SPDX-License-Identifier: GPL-2.0
//! `MSHV_VTL_SWITCH_SETUP`: makes the kernel carry out the VTL calls and returns of a VP.

use kernel::prelude::*;

use crate::glue::abi::mshv_vtl_switch;
use crate::nodes::args::{Argument, Growing};
use crate::nodes::device::VtlFile;
use crate::pure::uapi;

/// `MSHV_VTL_SWITCH_SETUP`. Takes effect with the next run.
///
/// # Errors
///
/// EFAULT. EINVAL: not the address of a page, flags, or a size below that of the structure. E2BIG:
/// a field is set that this module does not know. ENXIO: no such VP. EOPNOTSUPP: the TD has no
/// VTL1. EBUSY: another process has set up something through this file.
pub(crate) fn set_up(vtl: &VtlFile, argument: Argument) -> Result<isize> {
    let machine = vtl.machine();
    let cpu = Growing::<mshv_vtl_switch>::read(argument, size_of::<mshv_vtl_switch>())?.selector;
    // The head has been checked already.
    let mshv_vtl_switch { assist, flags, .. } = argument.read()?;
    if flags != 0 {
        return Err(EINVAL);
    }
    machine.vp(cpu).ok_or(ENXIO)?;
    if !uapi::has_vtl_switch(machine.features().limits.num_l2_vms) {
        return Err(EOPNOTSUPP);
    }
    vtl.assists().set(cpu, assist)?;
    Ok(0)
}
