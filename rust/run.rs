// SPDX-License-Identifier: GPL-2.0
//! The run loop: `MSHV_RETURN_TO_LOWER_VTL`.
//!
//! ```text
//! claim the VP ─► task work (interrupts on) ─► interrupts off ─► again: task work, VP, cancel
//!                   ▲                                             ─► snapshot of the run page, check
//!                   │ EnterAgain                                  ─► context::enter
//!                   └──────────────── pure::next ◄── interrupts on ◄──────┘
//! ```
//!
//! An exit that userspace lets the kernel deal with (`offload.rs`) is a turn of the loop like any
//! other. Checks come again behind the point where interrupts go off: a signal or a cancellation in
//! between would otherwise wait for the lower VTL to stop by itself.

mod context;
mod deadline;
mod halt;
mod offload;

use kernel::prelude::*;

use crate::audit::Entering;
use crate::cpu::Machine;
use crate::error;
use crate::ffi;
use crate::pure::audit::{EntryReason, ExitKind};
use crate::pure::controls::Entry;
use crate::pure::exit::RawExit;
use crate::pure::field::VmIndex;
use crate::pure::next::{next, Next};
use crate::pure::status::Status;
use crate::vp::bind::{Armed, Pinned};

/// Runs the VP of the current CPU until userspace has to look.
///
/// # Errors
///
/// EINTR: no exit to look at. EBUSY, ENXIO: no VP to run. EINVAL, EOPNOTSUPP: wrong or unserved
/// content of the run page. EIO: the TDX module refused; `exit_info.rax` holds the status.
pub(crate) fn return_to_lower_vtl(machine: &Machine) -> Result {
    let mut pinned = Pinned::claim(machine)?;
    let result = run(machine, &mut pinned);
    if result == Err(EINTR) {
        // Nobody shall take the exit before last for a new one.
        let not_entered = Status::new(Status::PENDING_INTERRUPT, 0);
        pinned.vp().run_page.store_status(not_entered.0);
    }
    result
}

fn run(machine: &Machine, pinned: &mut Pinned<'_>) -> Result {
    let mut reason = EntryReason::Userspace;
    loop {
        ffi::handle_guest_work()?;
        match try_enter(pinned.arm(), reason)? {
            // Interrupts are on again, so that the one that stopped the lower VTL is taken.
            Attempt::Exited(exit, entry) => {
                if is_userspaces(machine, pinned, &exit, &entry)? {
                    pinned.vp().run_page.store_exit(&exit);
                    deadline::forget_stale(pinned, entry.rcx.vm(), &exit);
                    return Ok(());
                }
                reason = EntryReason::After(ExitKind::of(&exit));
            }
            Attempt::WorkPending => (),
            Attempt::Halted(vm) => halt::wait(pinned, vm)?,
        }
    }
}

/// Whether userspace has to see an exit. If not, it is dealt with.
fn is_userspaces(
    machine: &Machine,
    pinned: &Pinned<'_>,
    exit: &RawExit,
    entry: &Entry,
) -> Result<bool> {
    let vp = pinned.vp();
    match next(exit, entry.offload, || vp.run_page.read_guest()) {
        Next::EnterAgain => Ok(false),
        Next::Handle(handled) => Ok(!offload::carry_out(machine, vp, entry.offload, &handled)),
        Next::Userspace => Ok(true),
        Next::Fail => {
            vp.run_page.store_status(exit.rax);
            Err(EIO)
        }
    }
}

enum Attempt {
    Exited(RawExit, Entry),
    WorkPending,
    Halted(VmIndex),
}

/// One attempt with interrupts off; they come on again with the drop of `armed`.
fn try_enter(mut armed: Armed<'_>, reason: EntryReason) -> Result<Attempt> {
    if armed.irqs.is_guest_work_pending() {
        return Ok(Attempt::WorkPending);
    }
    if !armed.vp.is_ready() {
        return Err(ENXIO);
    }
    // From here on a kick interrupts this CPU; what was written before it is seen below.
    let _inside = armed.vp.wake.enter(&armed.irqs);
    if armed.vp.run_page.read_cancel() {
        return Err(EINTR);
    }
    let run_page = &armed.vp.run_page;
    let image = armed.private.extended.legacy_image();
    run_page.read_fx_state(image);
    let entry = run_page
        .read_controls(image)
        .validate(&armed.features.limits)
        .map_err(error::refusal)?;
    let vm = entry.rcx.vm();
    if let Some(deadline) = entry.deadline {
        deadline::program(&mut armed, vm, deadline)?;
    }
    if offload::prepare(armed.vp, entry.offload, entry.is_halted)? {
        return Ok(match deadline::exit_of_halted(&mut armed, vm) {
            Some(exit) => Attempt::Exited(exit, entry),
            None => Attempt::Halted(vm),
        });
    }
    let entering = Entering::new(armed.vp, entry.rcx, reason);
    let exit = context::enter(&mut armed, &entry);
    entering.record(armed.vp, &mut armed.private.switches, &exit);
    Ok(Attempt::Exited(exit, entry))
}
