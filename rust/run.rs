// SPDX-License-Identifier: GPL-2.0
//! The run loop: `MSHV_RETURN_TO_LOWER_VTL`.
//!
//! ```text
//! claim the VP ─► task work ─► snapshot of the run page, check ─► lower VTL's state loaded
//!                  ▲                                                       │
//!                  │                             ┌─► interrupts off: again work, VP, kick, cancel
//!                  │ work, halted                │   TDG.VP.ENTER
//!                  │         EnterAgain, Handle  │   interrupts on
//!                  └───── VTL2's state back ◄────┴── pure::next ──► VTL2's state back ─► userspace
//! ```
//!
//! An exit that userspace lets the kernel deal with (`offload.rs`) leaves the lower VTL's state where
//! it is. Checks come again behind the point where interrupts go off: a signal or a cancellation in
//! between would otherwise wait for the lower VTL to stop by itself.

mod context;
mod deadline;
pub(crate) mod enter;
mod flush;
mod halt;
mod offload;

use kernel::prelude::*;

use crate::cpu::guards::IrqsOff;
use crate::glue::error;
use crate::glue::ffi;
use crate::observe::audit::Entering;
use crate::pure::audit::EntryReason;
use crate::pure::controls::Entry;
use crate::pure::next::{next, Next};
use crate::pure::status::Status;
use crate::vp::claim::Pinned;
use crate::vp::machine::Machine;
use crate::vp::Vp;
use context::Loaded;

/// Runs the VP of the current CPU until userspace has to look.
///
/// # Errors
///
/// EINTR: no exit to look at. EBUSY, ENXIO: no VP to run. EINVAL: wrong content of the run
/// page. EIO: the TDX module refused, or would have; `exit_info.rax` holds the status.
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
    let mut reason = EntryReason::USERSPACE;
    loop {
        ffi::handle_guest_work()?;
        may_enter(pinned.vp())?;
        let entry = snapshot(pinned)?;
        let vm = entry.rcx.vm();
        if let Some(flush) = entry.flush {
            flush::carry_out(pinned.vp(), flush);
        }
        if let Some(deadline) = entry.deadline {
            deadline::program(pinned, vm, deadline)?;
        }
        let stop = if entry.is_halted && offload::prepare(pinned.vp(), entry.offload, true)? {
            Stop::Halted
        } else {
            run_loaded(machine, pinned, &entry, &mut reason)?
        };
        let exit = match stop {
            Stop::WorkPending => continue,
            Stop::Halted => deadline::end_halt(pinned, vm),
            Stop::Exit(status) => Some(status),
        };
        match exit {
            Some(status) => {
                deadline::forget_stale(pinned, vm, status);
                return Ok(());
            }
            None => halt::wait(pinned, vm)?,
        }
    }
}

/// Refuses without a VP to run, and when userspace wants the thread.
fn may_enter(vp: &Vp) -> Result {
    if !vp.is_ready() {
        Err(ENXIO)
    } else if vp.run_page.read_cancel() {
        Err(EINTR)
    } else {
        Ok(())
    }
}

/// Reads each field of the run page once, and checks what it says.
fn snapshot(pinned: &mut Pinned<'_>) -> Result<Entry> {
    let (vp, features, private) = pinned.parts();
    let image = private.extended.legacy_image();
    vp.run_page.read_fx_state(image);
    vp.run_page
        .read_controls(image)
        .validate(&features.limits)
        .map_err(error::refusal)
}

/// Why the lower VTL's state leaves the processor.
enum Stop {
    WorkPending,
    Halted,
    /// With this status; the run page has the rest.
    Exit(Status),
}

/// Enters, and enters again after each exit that the kernel deals with itself, until there is
/// something to do for which VTL2's state has to be back.
fn run_loaded(
    machine: &Machine,
    pinned: &mut Pinned<'_>,
    entry: &Entry,
    reason: &mut EntryReason,
) -> Result<Stop> {
    let mut loaded = Loaded::new(pinned, entry);
    let vp = loaded.vp;
    // The CPU can't leave any more; it may have begun to do so before.
    may_enter(vp)?;
    // From here on a kick interrupts this CPU; what was written before it is seen below.
    let mut inside = vp.wake.enter();
    loop {
        let Some(irqs) = IrqsOff::for_entry(&loaded.section) else {
            return Ok(Stop::WorkPending);
        };
        inside.answer_kick();
        if vp.run_page.read_cancel() {
            return Err(EINTR);
        }
        let (is_halted, offload) = vp.run_page.renew(entry).map_err(error::refusal)?;
        if offload::prepare(vp, offload, is_halted)? {
            return Ok(Stop::Halted);
        }
        vp.entry_check.pass(vp, entry.rcx.vm(), &irqs)?;
        let entering = Entering::new(vp, loaded.operands.rcx, *reason);
        let class = loaded.enter(&irqs);
        let switches = &mut loaded.private.switches;
        let kind = entering.record(vp, switches, loaded.thread, class, &loaded.operands);
        if class.has_run() {
            loaded.note_progress();
        }
        let exit = &loaded.operands.exit;
        // The interrupt that stopped the lower VTL is taken now.
        drop(irqs);
        let is_done = match next(class, exit, offload, || vp.run_page.read_guest()) {
            Next::EnterAgain => true,
            Next::Handle(handled) => offload::carry_out(machine, vp, offload, &handled),
            Next::Userspace => false,
            Next::Fail => {
                vp.run_page.store_status(exit.rax);
                return Err(EIO);
            }
        };
        if !is_done {
            vp.run_page.store_exit(exit);
            return Ok(Stop::Exit(exit.status()));
        }
        *reason = EntryReason::after(kind);
    }
}
