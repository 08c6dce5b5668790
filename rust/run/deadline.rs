// SPDX-License-Identifier: GPL-2.0
//! The TSC deadlines of the lower VTLs: those that userspace arms for itself, and that of the timer
//! of VM 1's APIC, if the kernel serves it. `pure::deadline` has their rules.

use kernel::prelude::*;

use super::offload::post;
use super::switch::Switching;
use crate::cpu::tdcall;
use crate::glue::ffi;
use crate::pure::apic::Vector;
use crate::pure::deadline::{Deadlines, Passed, NEVER};
use crate::pure::exit::{classify, Exit, RawExit};
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
    pinned: &mut Pinned<'_, '_>,
    vm: VmIndex,
    other: Option<VmIndex>,
    deadline: u64,
) -> Result {
    let vp = pinned.vp();
    let deadlines = &mut pinned.private().deadlines;
    deadlines.arm(vm, other, deadline, vp.run_page.read_timer());
    for vm in [Some(vm), other].into_iter().flatten() {
        renew(deadlines, vm).map_err(|status| {
            vp.run_page.store_status(status.0);
            EIO
        })?;
    }
    vp.run_page.consume_deadline();
    Ok(())
}

/// Makes a timer that is armed in VM 1 alone end runs of VM 2 as well. To be called when a run
/// begins in which the kernel switches.
pub(super) fn share_timer(deadlines: &mut Deadlines) {
    if deadlines.share_timer() {
        update(deadlines);
    }
}

/// Writes the field of a VM.
fn renew(deadlines: &mut Deadlines, vm: VmIndex) -> Result<(), Status> {
    let wanted = deadlines.wanted(vm).unwrap_or(NEVER);
    deadlines.note_written(vm, write(vm, wanted)?);
    Ok(())
}

/// Writes the fields that have to change. Returns false if the TDX module refuses that of VM 1. If
/// it refuses that of VM 2, a deadline that has gone may end a run of VM 2, which userspace sees.
fn update(deadlines: &mut Deadlines) -> bool {
    let [is_updated, _] = [VmIndex::VM1, VmIndex::VM2]
        .map(|vm| deadlines.wanted(vm) == deadlines.field(vm) || renew(deadlines, vm).is_ok());
    is_updated
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

/// Returns true if the field of a VM still has what the kernel has written. Otherwise userspace has
/// written it itself by MSHV_TDCALL, and the kernel forgets its own.
fn is_ours(deadlines: &mut Deadlines, vm: VmIndex) -> bool {
    let field = tdg_vp_rd(&mut tdcall::Instruction, FieldId::tsc_deadline(vm)).ok();
    let is_ours = field == deadlines.field(vm);
    if !is_ours {
        deadlines.forget(vm);
    }
    is_ours
}

/// Carries out the guest's write of IA32_TSC_DEADLINE; `is_in_vtl1` is true if the kernel switches
/// between the VTLs. Returns false, with nothing changed that the guest could see, if the timer is
/// userspace's or the TDX module refuses.
pub(super) fn set_timer(vp: &Vp, deadlines: &mut Deadlines, is_in_vtl1: bool, value: u64) -> bool {
    let Some(wanted) = vp.run_page.read_timer().write(value, ffi::tsc()) else {
        return false;
    };
    if deadlines.has_own(VmIndex::VM1) {
        is_ours(deadlines, VmIndex::VM1);
    }
    deadlines.set_timer(wanted.armed, is_in_vtl1);
    if !update(deadlines) {
        // Userspace executes the instruction, and arms the deadline.
        return false;
    }
    vp.run_page.store_timer_deadline(wanted.deadline);
    if let Some(vector) = wanted.expired {
        post(vp, vector);
    }
    true
}

/// A deadline has ended a run of VM 1: posts the interrupt of an expired timer and disarms it.
/// Returns false, with nothing changed that the guest could see, if userspace has to see it.
pub(super) fn expire_timer(vp: &Vp, deadlines: &mut Deadlines, is_in_vtl1: bool) -> bool {
    expire(vp, deadlines, VmIndex::VM1, is_in_vtl1, |vector| {
        post(vp, vector)
    })
}

/// A deadline has ended a run of `vm`: likewise, with `post` for the interrupt.
pub(super) fn expire(
    vp: &Vp,
    deadlines: &mut Deadlines,
    vm: VmIndex,
    is_in_vtl1: bool,
    post: impl FnOnce(Vector),
) -> bool {
    let vector = match deadlines.passed(vm, vp.run_page.read_timer(), ffi::tsc()) {
        Passed::Timer(vector) => vector,
        Passed::NotYet => return is_ours(deadlines, vm),
        Passed::Userspaces => return false,
    };
    deadlines.set_timer(None, is_in_vtl1);
    if !update(deadlines) {
        return false;
    }
    vp.run_page.store_timer_deadline(0);
    post(vector);
    true
}

/// Returns true if the timer's deadline has ended a run of `vm` before its time.
pub(super) fn is_early(vp: &Vp, deadlines: &mut Deadlines, vm: VmIndex) -> bool {
    let passed = deadlines.passed(vm, vp.run_page.read_timer(), ffi::tsc());
    passed == Passed::NotYet && is_ours(deadlines, vm)
}

/// Returns true if an exit says that a deadline has passed, and nothing else.
pub(super) fn is_passed(exit: &RawExit) -> bool {
    classify(exit) == Exit::ForL1
        && exit.status() == DEADLINE_PASSED
        && !exit.has_event_to_redeliver()
}

/// Returns true if an exit that userspace sees is due to a deadline, which [`forget_stale`] may have to
/// drop.
#[inline(always)]
pub(super) fn has_ended(exit: &RawExit) -> bool {
    exit.status() == DEADLINE_PASSED
}

/// The effect of a deadline on a halted VM.
pub(super) enum HaltEnd {
    /// The deadline has not passed.
    GoesOn,
    /// The interrupt of the timer is posted, which may end the halt.
    Interrupt,
    /// The run page has the exit that the lower VTL would have caused.
    Exit,
}

/// Checks the deadline of a halted VM.
pub(super) fn end_halt(
    pinned: &mut Pinned<'_, '_>,
    vm: VmIndex,
    switching: &mut Option<Switching>,
) -> HaltEnd {
    let vp = pinned.vp();
    let deadlines = &mut pinned.private().deadlines;
    if !deadlines.is_due(vm, ffi::tsc()) || !is_ours(deadlines, vm) {
        return HaltEnd::GoesOn;
    }
    let offload = Offload::new(vp.run_page.read_offload(), vm);
    let has_vtl1 = switching.is_some();
    let is_posted = match switching {
        Some(switching) if vm == VmIndex::VM2 => switching.take_timer(vp, deadlines),
        _ => offload.takes_interrupts() && expire_timer(vp, deadlines, has_vtl1),
    };
    if is_posted {
        return HaltEnd::Interrupt;
    }
    vp.run_page
        .store_exit(&RawExit::without_information(DEADLINE_PASSED));
    HaltEnd::Exit
}

/// To be called if a deadline has ended a run or a halt, and userspace sees it: drops a deadline that
/// would end each further run immediately, in `vm` and, if the kernel switches, in `other`.
#[cold]
pub(super) fn forget_stale(pinned: &mut Pinned<'_, '_>, vm: VmIndex, other: Option<VmIndex>) {
    let timer = pinned.vp().run_page.read_timer();
    let deadlines = &mut pinned.private().deadlines;
    let tsc = ffi::tsc();
    if !deadlines.is_stale(vm, tsc) || !is_ours(deadlines, vm) {
        return;
    }
    deadlines.drop_stale(vm, other, timer, tsc);
    for vm in [Some(vm), other].into_iter().flatten() {
        // If it fails, the field stays and userspace gets its exit again.
        if deadlines.wanted(vm) != deadlines.field(vm) && renew(deadlines, vm).is_err() {
            return;
        }
    }
}
