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

use crate::cpu::guards::{OnOneCpu, PreemptOff};
use crate::glue::error;
use crate::glue::ffi;
use crate::pure::audit::EntryReason;
use crate::pure::controls::Before;
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
#[inline(always)]
pub(crate) fn return_to_lower_vtl(machine: &Machine, assists: &Assists) -> Result {
    let stay = PreemptOff::new();
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
    // Most calls are one turn. The others have a copy of it, as fast, so that the first one keeps nothing
    // for the next.
    let result = match claimed.pin(stay) {
        Ok(mut pinned) => match turn(machine, &mut pinned, &mut call) {
            Ok(After::Exit) => {
                drop(pinned);
                Ok(())
            }
            first => further_turns(machine, pinned, &mut call, first),
        },
        Err(error) => {
            end_without_exit(&mut claimed, &call, error);
            Err(error)
        }
    };
    if let Some(switching) = &call.switching {
        switching.end(&claimed);
    }
    result
}

/// What follows a turn that is not the last one.
///
/// # Errors
///
/// As [`return_to_lower_vtl`].
#[inline(never)]
fn further_turns(
    machine: &Machine,
    pinned: Pinned<'_, '_>,
    call: &mut RunCall,
    first: Result<After>,
) -> Result {
    let claimed = pinned.unpin();
    let mut last = first;
    loop {
        let waited = match last {
            Ok(After::Exit) => return Ok(()),
            Ok(after) => wait(claimed, after),
            Err(error) => Err(error),
        };
        let pinned = waited.and_then(|stay| claimed.pin(stay));
        last = match pinned {
            Ok(mut pinned) => turn(machine, &mut pinned, call),
            Err(error) => {
                end_without_exit(claimed, call, error);
                return Err(error);
            }
        };
    }
}

/// What comes between two turns. The scheduler may run other tasks meanwhile, and migrate this one.
///
/// # Errors
///
/// EINTR: a signal is pending.
#[cold]
fn wait(claimed: &mut Claimed<'_>, after: After) -> Result<PreemptOff> {
    if let After::Halt(vm) = after {
        halt::wait(claimed, vm)?;
    }
    ffi::handle_guest_work()?;
    claimed.make_room();
    Ok(PreemptOff::new())
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
#[inline(always)]
fn turn(machine: &Machine, pinned: &mut Pinned<'_, '_>, call: &mut RunCall) -> Result<After> {
    let vp = pinned.vp();
    let is_ready = if pinned.is_entry_wanted_again() {
        // Only not to load the state in vain: it is checked again, with interrupts disabled.
        if vp.run_page.read_cancel() {
            may_enter(vp)?;
        }
        let vm = pinned.private().entry.rcx.vm();
        begin_switching(pinned, call, vm)?;
        Ready::ToEnter
    } else {
        prepare(pinned, call)?
    };
    let stop = match is_ready {
        Ready::ToEnter => run_loaded(machine, pinned, call)?,
        Ready::Halted => Stop::Halted,
        Ready::NotYet => Stop::Again,
    };
    match stop {
        Stop::Exit => {
            if deadline::has_ended(&pinned.private().operands.exit) {
                forget_stale(pinned, call);
            }
            Ok(After::Exit)
        }
        Stop::Again => Ok(After::Work),
        Stop::Halted => Ok(end_halt(pinned, call)),
    }
}

/// What [`prepare`] has found.
enum Ready {
    ToEnter,
    Halted,
    /// The task has work to do first.
    NotYet,
}

/// Reads the run page as a whole, and does what has to be done before an entry.
#[inline(never)]
fn prepare(pinned: &mut Pinned<'_, '_>, call: &mut RunCall) -> Result<Ready> {
    let vp = pinned.vp();
    let read = pinned.read_entry();
    if let Ok((
        wanted,
        Before {
            deadline: Some(deadline),
            ..
        },
    )) = &read
    {
        // Before anything can fail: userspace considers the deadline armed, whatever the call
        // returns.
        let other = call.other_vtl(wanted.vm());
        deadline::program(pinned, wanted.vm(), other, *deadline)?;
    }
    may_enter(vp)?;
    let (wanted, before) = read.map_err(error::refusal)?;
    begin_switching(pinned, call, wanted.vm())?;
    pinned.accept(&wanted);
    if ffi::has_guest_work() {
        return Ok(Ready::NotYet);
    }
    if let Some(flush) = before.flush {
        flush::carry_out(vp, flush);
    }
    let is_halted =
        before.is_halted && offload::prepare(vp, before.offload, true, &mut call.switching)?;
    Ok(match is_halted {
        true => Ready::Halted,
        false => Ready::ToEnter,
    })
}

/// As [`Switching::begin`], if the kernel switches.
#[inline(always)]
fn begin_switching(pinned: &mut Pinned<'_, '_>, call: &mut RunCall, vm: VmIndex) -> Result {
    match &mut call.switching {
        Some(switching) => switching.begin(pinned, vm),
        None => Ok(()),
    }
}

/// The deadline of a VM that is halted may end the halt.
#[cold]
fn end_halt(pinned: &mut Pinned<'_, '_>, call: &mut RunCall) -> After {
    let vm = pinned.private().entry.rcx.vm();
    match deadline::end_halt(pinned, vm, &mut call.switching) {
        HaltEnd::GoesOn => After::Halt(vm),
        HaltEnd::Interrupt => After::Work,
        HaltEnd::Exit => {
            pinned.private().keep_unrecorded(call.reason);
            forget_stale(pinned, call);
            After::Exit
        }
    }
}

/// Userspace sees that a deadline has passed, of the VM that ran last.
#[cold]
fn forget_stale(pinned: &mut Pinned<'_, '_>, call: &RunCall) {
    let vm = pinned.private().entry.rcx.vm();
    deadline::forget_stale(pinned, vm, call.other_vtl(vm));
}

/// Fails if the VP is not ready, or if userspace has cancelled the run.
#[inline(always)]
fn may_enter(vp: &Vp) -> Result {
    if !vp.is_ready() {
        Err(vp.why_not_ready())
    } else if vp.run_page.read_cancel() {
        Err(EINTR)
    } else {
        Ok(())
    }
}
