// SPDX-License-Identifier: GPL-2.0
//! The run loop: `MSHV_RETURN_TO_LOWER_VTL`.
//!
//! ```text
//! claim the VP ─► pin ─► snapshot of the run page, check, deadline ─► lower VTL's state loaded
//!                  ▲                                                       │
//!                  │                             ┌─► interrupts disabled; check again: work, VP, kick, cancel
//!    task work, or │ work, halted                │   TDG.VP.ENTER
//!    wait, unpinned│         EnterAgain, Handle  │   interrupts enabled
//!                  └───── VTL2's state back ◄────┴── pure::next ──► VTL2's state back ─► userspace
//! ```
//!
//! For an exit that userspace lets the kernel handle (`offload.rs`), the lower VTL's state stays
//! loaded; a VTL call or return (`switch.rs`) exchanges the part of it that belongs to one VTL
//! alone. The checks are repeated with interrupts disabled: a signal or a cancellation in between
//! would otherwise wait until the lower VTL stops by itself.
//!
//! The thread is pinned to its CPU only while it uses the state of the VP. A change of its affinity
//! makes the scheduler set NEED_RESCHED, which is work of the task: the thread is migrated in
//! `handle_guest_work`, `Claimed::pin` notices, and the call ends with ENXIO.

mod context;
mod deadline;
pub(crate) mod enter;
mod entries;
mod flush;
mod halt;
mod offload;
mod record;
mod switch;

use kernel::prelude::*;

use crate::cpu::guards::{MigrateOff, OnOneCpu};
use crate::glue::error;
use crate::glue::ffi;
use crate::pure::audit::EntryReason;
use crate::pure::controls::{Entry, Refusal};
use crate::pure::exit::RawExit;
use crate::pure::field::VmIndex;
use crate::pure::stall::Stall;
use crate::pure::status::Status;
use crate::pure::vtl_switch;
use crate::vp::assist::Assists;
use crate::vp::claim::{Claimed, Pinned};
use crate::vp::machine::Machine;
use crate::vp::Vp;
use deadline::HaltEnd;
use entries::{run_loaded, Stop};
use switch::Switching;

/// State of a call from one entry to the next.
struct RunCall {
    /// Why the lower VTL will be entered.
    reason: EntryReason,
    /// True if the lower VTL has run.
    has_run: bool,
    stall: Stall,
    /// Set if the kernel carries out VTL calls and returns.
    switching: Option<Switching>,
}

impl RunCall {
    /// The VM with which `vm` alternates, if the kernel switches between them.
    fn other_vtl(&self, vm: VmIndex) -> Option<VmIndex> {
        self.switching.as_ref()?;
        vtl_switch::other(vm)
    }
}

/// Runs the VP of the current CPU until there is something for userspace to do. `assists` belongs
/// to the VTL file.
///
/// # Errors
///
/// EINTR: there is no exit. EBUSY, ENXIO: there is no VP to run, or the thread is no longer on its
/// CPU. EINVAL: invalid contents of the run page. EIO: the TDX module refused, or would have; the
/// status is in `exit_info.rax`. EIO, too, if attestation is required and broken; then there is no
/// exit.
pub(crate) fn return_to_lower_vtl(machine: &Machine, assists: &Assists) -> Result {
    let stay = MigrateOff::new();
    let mut claimed = Claimed::new(machine, &stay)?;
    let mut call = RunCall {
        reason: claimed.take_unrecorded(),
        has_run: false,
        stall: Stall::NONE,
        switching: None,
    };
    if let Some(assist) = assists.of(stay.cpu()) {
        call.switching = Some(Switching::new(assist));
    }
    let result = run(machine, &mut claimed, stay, &mut call);
    if let Some(switching) = &call.switching {
        switching.end(claimed.vp());
    }
    if let Err(error) = result {
        end_without_exit(&mut claimed, &call, error);
    }
    result
}

#[cold]
fn end_without_exit(claimed: &mut Claimed<'_>, call: &RunCall, error: Error) {
    claimed.keep_unrecorded(call.reason);
    // EINVAL before the first entry has changed nothing.
    let is_told = match error {
        EINTR | ENXIO => true,
        EINVAL => call.has_run,
        EIO => claimed.vp().is_refused(),
        _ => false,
    };
    if is_told {
        // Store a not-entered or interrupted status, so that userspace can't mistake an earlier
        // exit for a new one, and learns if the lower VTL has run.
        let exit = RawExit::without_information(Status::interrupted(call.has_run));
        claimed.vp().run_page.store_exit(&exit);
    }
}

fn run(
    machine: &Machine,
    claimed: &mut Claimed<'_>,
    stay: MigrateOff,
    call: &mut RunCall,
) -> Result {
    let mut stay = stay;
    loop {
        let after = turn(machine, &mut claimed.pin(stay)?, call)?;
        match after {
            After::Exit => return Ok(()),
            After::Work => (),
            After::Halt(vm) => halt::wait(claimed, vm)?,
        }
        ffi::handle_guest_work()?;
        claimed.make_room();
        stay = MigrateOff::new();
    }
}

/// What follows after the VP's state has been released.
enum After {
    /// Userspace handles the exit.
    Exit,
    /// The task has work to do; then the next iteration.
    Work,
    /// The VM is halted.
    Halt(VmIndex),
}

/// One iteration, from reading the run page.
fn turn(machine: &Machine, pinned: &mut Pinned<'_>, call: &mut RunCall) -> Result<After> {
    let vp = pinned.vp();
    let mut snapshot = snapshot(pinned);
    if let Ok(Entry {
        rcx,
        deadline: Some(deadline),
        ..
    }) = &snapshot
    {
        // Before anything can fail: userspace considers the deadline armed, whatever the call
        // returns.
        let other = call.other_vtl(rcx.vm());
        deadline::program(pinned, rcx.vm(), other, *deadline)?;
    }
    may_enter(vp)?;
    // Used in place: a copy would cost more than the checks.
    let entry = match &mut snapshot {
        Ok(entry) => entry,
        Err(refusal) => return Err(error::refusal(*refusal)),
    };
    if let Some(switching) = &mut call.switching {
        switching.begin(pinned, entry.rcx.vm())?;
    }
    if ffi::has_guest_work() {
        return Ok(After::Work);
    }
    if let Some(flush) = entry.flush {
        flush::carry_out(vp, flush);
    }
    let stop = if entry.is_halted && offload::prepare(vp, entry.offload, true, &mut call.switching)?
    {
        Stop::Halted
    } else {
        run_loaded(machine, pinned, entry, call)?
    };
    // The VM that ran last.
    let vm = entry.rcx.vm();
    let exit = match stop {
        Stop::Again => return Ok(After::Work),
        Stop::Halted => match deadline::end_halt(pinned, vm, &mut call.switching) {
            HaltEnd::GoesOn => None,
            HaltEnd::Interrupt => return Ok(After::Work),
            HaltEnd::Exit(status) => {
                pinned.private().keep_unrecorded(call.reason);
                Some(status)
            }
        },
        Stop::Exit(status) => Some(status),
    };
    let Some(status) = exit else {
        return Ok(After::Halt(vm));
    };
    deadline::forget_stale(pinned, vm, call.other_vtl(vm), status);
    Ok(After::Exit)
}

/// Fails if the VP is not ready, or if userspace has cancelled the run.
fn may_enter(vp: &Vp) -> Result {
    if !vp.is_ready() {
        Err(vp.why_not_ready())
    } else if vp.run_page.read_cancel() {
        Err(EINTR)
    } else {
        Ok(())
    }
}

/// Reads each field of the run page once, and checks the copy.
#[inline]
fn snapshot(pinned: &mut Pinned<'_>) -> Result<Entry, Refusal> {
    let (vp, features, private) = pinned.parts();
    let image = private.extended.legacy_image();
    vp.run_page.read_fx_registers(image);
    vp.run_page
        .read_controls(image)
        .validate(&features.limits, &private.given_msrs)
}
