// SPDX-License-Identifier: GPL-2.0
//! The TSC deadlines of the lower VTLs. `pure::deadline` has their rules.

use kernel::prelude::*;

use crate::cpu::tdcall;
use crate::glue::ffi;
use crate::pure::deadline::NEVER;
use crate::pure::exit::RawExit;
use crate::pure::field::{FieldId, VmIndex};
use crate::pure::status::Status;
use crate::pure::tdcall::{tdg_vp_rd, tdg_vp_wr_tsc_deadline};
use crate::vp::claim::Pinned;

/// Status of an exit because the deadline has passed: basic reason 52, preemption timer.
const DEADLINE_PASSED: Status = Status::new(Status::SUCCESS, 52);

/// Gives the TDX module the deadline that userspace has set for `vm`, and for `other` as well.
///
/// # Errors
///
/// EIO; the status is in the run page.
pub(super) fn program(
    pinned: &mut Pinned<'_>,
    vm: VmIndex,
    other: Option<VmIndex>,
    deadline: u64,
) -> Result {
    let run_page = &pinned.vp().run_page;
    for vm in [Some(vm), other].into_iter().flatten() {
        let field = write(vm, deadline).map_err(|status| {
            run_page.store_status(status.0);
            EIO
        })?;
        pinned.private().deadlines.set(vm, field);
    }
    run_page.consume_deadline();
    Ok(())
}

/// Returns the value that the field has now. A deadline too far away for the TDX module never
/// passes.
fn write(vm: VmIndex, deadline: u64) -> Result<u64, Status> {
    let wr = |value| {
        tdg_vp_wr_tsc_deadline(&mut tdcall::Instruction, vm, value)?;
        Ok(value)
    };
    wr(deadline).or_else(|status: Status| match status.name() {
        Status::OPERAND_INVALID => wr(NEVER),
        _ => Err(status),
    })
}

/// Ends a halt whose deadline has passed: stores the exit that the lower VTL would have caused.
/// Returns its status.
pub(super) fn end_halt(pinned: &mut Pinned<'_>, vm: VmIndex) -> Option<Status> {
    let run_page = &pinned.vp().run_page;
    let deadlines = &mut pinned.private().deadlines;
    if !deadlines.is_due(vm, ffi::tsc()) {
        return None;
    }
    let field = tdg_vp_rd(&mut tdcall::Instruction, FieldId::tsc_deadline(vm)).ok();
    if field != deadlines.get(vm) {
        // Userspace has written the field itself by MSHV_TDCALL.
        deadlines.set(vm, NEVER);
        return None;
    }
    run_page.store_exit(&RawExit::without_information(DEADLINE_PASSED));
    Some(DEADLINE_PASSED)
}

/// To be called for an exit that userspace sees: drops a deadline that would end each further run
/// immediately.
pub(super) fn forget_stale(pinned: &mut Pinned<'_>, vm: VmIndex, status: Status) {
    let deadlines = &mut pinned.private().deadlines;
    if status != DEADLINE_PASSED || !deadlines.is_stale(vm, ffi::tsc()) {
        return;
    }
    let field = tdg_vp_rd(&mut tdcall::Instruction, FieldId::tsc_deadline(vm)).ok();
    // If it fails, the deadline stays and userspace gets its exit again.
    if field != deadlines.get(vm) || write(vm, NEVER).is_ok() {
        deadlines.set(vm, NEVER);
    }
}
