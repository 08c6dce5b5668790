// SPDX-License-Identifier: GPL-2.0
//! `MSHV_VTL_RESET`: resets the VP of the current CPU to its state after loading the module.
//!
//! That is all the state of lower VTLs that the module itself keeps, for every VM, and the
//! deadlines that it writes to the TDX module. What userspace writes there by `MSHV_TDCALL` stays:
//! VMCS, MSR bitmaps, L2_CTLS, memory rights.

use kernel::prelude::*;

use crate::cpu::tdcall;
use crate::glue::abi::mshv_vtl_head;
use crate::nodes::args::{Argument, Growing};
use crate::pure::deadline::{Deadlines, NEVER};
use crate::pure::field::VmIndex;
use crate::pure::tdcall::tdg_vp_wr_tsc_deadline;
use crate::vp::claim::Pinned;
use crate::vp::machine::Machine;

/// `MSHV_VTL_RESET`.
///
/// # Errors
///
/// EFAULT. EINVAL: a size below that of the head, or a selector. E2BIG: a field is set that this
/// module does not know. EBUSY, ENXIO: as for a run. EIO: the TDX module refused a deadline; then
/// nothing else has changed.
pub(crate) fn reset(machine: &Machine, argument: Argument) -> Result<isize> {
    // So far the operand is only a head.
    let head = Growing::<mshv_vtl_head>::read(argument, size_of::<mshv_vtl_head>())?;
    if head.selector != 0 {
        return Err(EINVAL);
    }
    let num_l2_vms = machine.features().limits.num_l2_vms;
    Pinned::with(machine, |pinned| reset_pinned(pinned, num_l2_vms))??;
    Ok(0)
}

fn reset_pinned(pinned: &mut Pinned<'_, '_>, num_l2_vms: u8) -> Result {
    for vm in (1..=u64::from(num_l2_vms)).filter_map(VmIndex::new) {
        tdg_vp_wr_tsc_deadline(&mut tdcall::Instruction, vm, NEVER).map_err(|_| EIO)?;
    }
    pinned.private().deadlines = Deadlines::default();
    pinned.private().reset();
    pinned.vp().reset_pages();
    Ok(())
}
