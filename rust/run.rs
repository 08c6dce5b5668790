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
//! Checks come again behind the point where interrupts go off: a signal or a cancellation in
//! between would otherwise wait for the lower VTL to stop by itself.

mod context;
mod halt;

use kernel::prelude::*;

use crate::audit::Entering;
use crate::cpu::Machine;
use crate::error;
use crate::ffi;
use crate::pure::audit::{EntryReason, ExitKind};
use crate::pure::exit::RawExit;
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
    let result = run(&mut pinned);
    if result == Err(EINTR) {
        // Nobody shall take the exit before last for a new one.
        let not_entered = Status::new(Status::PENDING_INTERRUPT, 0);
        pinned.vp().run_page.store_status(not_entered.0);
    }
    result
}

fn run(pinned: &mut Pinned<'_>) -> Result {
    let mut reason = EntryReason::Userspace;
    loop {
        ffi::handle_guest_work()?;
        let exit = match try_enter(pinned.arm(), reason)? {
            Attempt::Exited(exit) => exit,
            Attempt::WorkPending => continue,
            Attempt::Halted => {
                halt::wait(pinned)?;
                continue;
            }
        };
        // Interrupts are on again here, so that the one that stopped the lower VTL is taken.
        let run_page = &pinned.vp().run_page;
        match next(&exit) {
            Next::EnterAgain => reason = EntryReason::After(ExitKind::of(&exit)),
            Next::Userspace => {
                run_page.store_exit(&exit);
                return Ok(());
            }
            Next::Fail => {
                run_page.store_status(exit.rax);
                return Err(EIO);
            }
        }
    }
}

enum Attempt {
    Exited(RawExit),
    WorkPending,
    Halted,
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
    if armed.vp.run_page.has_attention() {
        return Err(EINTR);
    }
    let run_page = &armed.vp.run_page;
    let image = armed.private.extended.legacy_image();
    run_page.read_fx_state(image);
    let entry = run_page
        .read_controls(image)
        .validate(&armed.features.limits)
        .map_err(error::refusal)?;
    if entry.is_halted {
        return Ok(Attempt::Halted);
    }
    let entering = Entering::new(armed.vp, entry.rcx, reason);
    let exit = context::enter(&mut armed, &entry);
    entering.record(armed.vp, &mut armed.private.switches, &exit);
    Ok(Attempt::Exited(exit))
}
