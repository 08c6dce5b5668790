// SPDX-License-Identifier: GPL-2.0
//! The TSC deadlines of the lower VTLs: those that userspace arms for itself, and those of the timer of
//! VM 1's APIC, if the kernel serves it. `pure::deadline` has their rules.

use kernel::prelude::*;

use super::offload::post;
use crate::cpu::tdcall;
use crate::glue::ffi;
use crate::pure::deadline::{Deadlines, Expiry, NEVER};
use crate::pure::exit::RawExit;
use crate::pure::field::{FieldId, VmIndex};
use crate::pure::offload::Offload;
use crate::pure::status::Status;
use crate::pure::tdcall::{tdg_vp_rd, tdg_vp_wr_tsc_deadline};
use crate::vp::claim::Pinned;
use crate::vp::Vp;

/// Status of an exit because the deadline has passed: basic reason 52, preemption timer.
const DEADLINE_PASSED: Status = Status::new(Status::SUCCESS, 52);

/// Sets the deadline that userspace requests in the TDX module, for `vm` and for `other` if given.
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

/// Carries out the guest's write of IA32_TSC_DEADLINE. Returns false, with nothing changed, if the timer
/// is userspace's or the TDX module refuses.
pub(super) fn set_timer(vp: &Vp, deadlines: &mut Deadlines, value: u64) -> bool {
    let Some(wanted) = vp.run_page.read_timer().write(value, ffi::tsc()) else {
        return false;
    };
    if !rearm(deadlines, wanted.field) {
        return false;
    }
    vp.run_page.store_timer_deadline(wanted.deadline);
    if let Some(vector) = wanted.expired {
        post(vp, vector);
    }
    true
}

/// Posts the interrupt of an expired timer and disarms it. Does nothing if the exit came before the
/// deadline: the next entry waits for the rest, or exits again, which is the case for at most the
/// granularity of the TDX module's timer. Returns false, with nothing changed, if the timer is
/// userspace's or the deadline is not the timer's.
pub(super) fn expire_timer(vp: &Vp, deadlines: &mut Deadlines) -> bool {
    let armed = deadlines.get(VmIndex::VM1);
    let vector = match vp.run_page.read_timer().expired(armed, ffi::tsc()) {
        Expiry::Userspaces => return false,
        Expiry::Early => return true,
        Expiry::Interrupt(vector) => vector,
    };
    if !rearm(deadlines, NEVER) {
        return false;
    }
    vp.run_page.store_timer_deadline(0);
    post(vp, vector);
    true
}

/// Writes the field of VM 1, unless no deadline is armed and none is wanted.
fn rearm(deadlines: &mut Deadlines, field: u64) -> bool {
    let vm = VmIndex::VM1;
    if field == NEVER && deadlines.get(vm).is_none() {
        return true;
    }
    let Ok(field) = write(vm, field) else {
        return false;
    };
    deadlines.set(vm, field);
    true
}

/// The effect of a deadline on a halted VM.
pub(super) enum HaltEnd {
    /// The deadline has not passed.
    GoesOn,
    /// The interrupt of the timer is posted, which may end the halt.
    Interrupt,
    /// The halt ends with this status: the run page has the exit that the lower VTL would have caused.
    Exit(Status),
}

/// Checks the deadline of a halted VM.
pub(super) fn end_halt(pinned: &mut Pinned<'_>, vm: VmIndex) -> HaltEnd {
    let vp = pinned.vp();
    let deadlines = &mut pinned.private().deadlines;
    if !deadlines.is_due(vm, ffi::tsc()) {
        return HaltEnd::GoesOn;
    }
    let field = tdg_vp_rd(&mut tdcall::Instruction, FieldId::tsc_deadline(vm)).ok();
    if field != deadlines.get(vm) {
        // Userspace has written the field itself by MSHV_TDCALL.
        deadlines.set(vm, NEVER);
        return HaltEnd::GoesOn;
    }
    let offload = Offload::new(vp.run_page.read_offload(), vm);
    if offload.takes_interrupts() && expire_timer(vp, deadlines) {
        return HaltEnd::Interrupt;
    }
    vp.run_page
        .store_exit(&RawExit::without_information(DEADLINE_PASSED));
    HaltEnd::Exit(DEADLINE_PASSED)
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

/// Likewise for the VTL that did not run. The timer of VM 1's APIC stays armed: its interrupt is posted
/// when VM 1 runs again.
pub(super) fn forget_stale_of_other(pinned: &mut Pinned<'_>, vm: VmIndex, status: Status) {
    let armed = pinned.private().deadlines.get(vm);
    let timer = pinned.vp().run_page.read_timer();
    if vm != VmIndex::VM1 || timer.expired(armed, ffi::tsc()) == Expiry::Userspaces {
        forget_stale(pinned, vm, status);
    }
}
