// SPDX-License-Identifier: GPL-2.0
//! Entries while the lower VTL's state is loaded: with interrupts disabled for each, and for as many as
//! nothing else asks for this thread.

use kernel::prelude::*;

use super::context::Loaded;
use super::offload;
use super::record::Entering;
use super::switch::Switching;
use super::{may_enter, RunCall};
use crate::cpu::guards::IrqsOff;
use crate::glue::error;
use crate::glue::ffi;
use crate::pure::audit::{EntryReason, ExitKind};
use crate::pure::exit::Exit;
use crate::pure::handled::Handled;
use crate::pure::next::{is_userspaces, next, Next};
use crate::pure::offload::Offload;
use crate::pure::stall::Stall;
use crate::vp::claim::Pinned;
use crate::vp::machine::Machine;
use crate::vp::wake::Inside;
use crate::vp::Vp;

/// Why the lower VTL's state is unloaded.
pub(super) enum Stop {
    /// The task has work to do, or the run page names another VM.
    Again,
    Halted,
    /// An exit, which `run_loaded` stores in the run page.
    Exit,
}

/// Enters, and enters again after each exit that the kernel handles by itself, until VTL2's state
/// has to be restored.
#[inline(always)]
pub(super) fn run_loaded(
    machine: &Machine,
    pinned: &mut Pinned<'_, '_>,
    call: &mut RunCall,
) -> Result<Stop> {
    let mut loaded = Loaded::new(pinned);
    // From here on a kick interrupts this CPU; what was written before the kick is seen below.
    let mut inside = loaded.vp.vp().wake.enter();
    if call.switching.is_some() {
        loaded.take_flush();
    }
    let stop = run_inside(machine, &mut loaded, &mut inside, call);
    drop(inside);
    loaded.unload();
    if let Ok(Stop::Exit) = stop {
        loaded.store_exit();
    }
    stop
}

#[inline(always)]
fn run_inside(
    machine: &Machine,
    loaded: &mut Loaded<'_>,
    inside: &mut Inside<'_>,
    call: &mut RunCall,
) -> Result<Stop> {
    let vp = loaded.vp.vp();
    loop {
        if loaded.private.switches.is_at_limit() {
            return Ok(Stop::Again);
        }
        let noted = &mut loaded.private.quiescent_at;
        let Some(irqs) = IrqsOff::for_entry(&loaded.section, noted) else {
            return Ok(Stop::Again);
        };
        if inside.answer_kick() && call.switching.is_some() {
            loaded.take_flush();
        }
        // Preemption is disabled, so the CPU can't go offline any more; but it may have begun to
        // before.
        may_enter(vp)?;
        // One word of the run page tells if there is anything to do.
        let mut offload = match vp.run_page.read_quiet_offload() {
            Some(offload) => Offload::new(offload, loaded.vm()),
            None => match prepare(loaded, &mut call.switching)? {
                Some(offload) => offload,
                None => return Ok(Stop::Halted),
            },
        };
        loaded.pass_entry_check(&irqs)?;
        if !loaded.take_invalidation()? {
            return Ok(Stop::Again);
        }
        let mut handled = None;
        loaded.load_last(&irqs);
        let (kind, rest) =
            enter_repeatedly(machine, loaded, call, &mut offload, &mut handled, &irqs);
        loaded.save_first(&irqs);
        // The interrupt that stopped the lower VTL is handled here.
        drop(irqs);
        let is_done = match rest {
            Rest::Userspace => switches_vtl(loaded, call),
            _ => go_on(machine, loaded, call, rest, handled)?,
        };
        if is_done {
            call.reason = EntryReason::after(kind);
            continue;
        }
        return Ok(Stop::Exit);
    }
}

/// Returns true if the exit is a VTL call or return, which the kernel has carried out.
#[inline(always)]
fn switches_vtl(loaded: &mut Loaded<'_>, call: &mut RunCall) -> bool {
    match &mut call.switching {
        Some(switching) => switching.switch_vtl_state(loaded),
        None => false,
    }
}

/// Does what is left to do about an exit that is not userspace's. Returns false if userspace has to see
/// it, nevertheless.
///
/// # Errors
///
/// EIO: the TDX module has refused the entry; the status is in the run page.
#[inline(always)]
fn go_on(
    machine: &Machine,
    loaded: &mut Loaded<'_>,
    call: &mut RunCall,
    rest: Rest,
    handled: Option<Handled>,
) -> Result<bool> {
    let vp = loaded.vp.vp();
    if let Some(handled) = handled {
        let deadlines = &mut loaded.private.deadlines;
        let has_vtl1 = call.switching.is_some();
        return Ok(offload::carry_out(
            machine, vp, deadlines, has_vtl1, &handled,
        ));
    }
    if rest == Rest::Fail {
        vp.run_page.store_status(loaded.private.operands.exit.rax);
        call.reason = EntryReason::USERSPACE;
        return Err(EIO);
    }
    Ok(rest == Rest::Nothing)
}

/// What is left to do about the last exit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// To be handled, with interrupts enabled.
    Handle,
    /// Userspace has to see that the lower VTL makes no progress.
    Stalled,
    /// Userspace handles it, unless it is a VTL call or return.
    Userspace,
    /// The TDX module has refused the entry.
    Fail,
}

/// Enters, and enters again at once after each exit that asks nothing of VTL2 but to be handled, as
/// long as nobody asks this thread for something. `offload` is what the run page said before the last
/// entry.
///
/// An interrupt that arrives meanwhile stays pending; TDG.VP.ENTER then returns, and it is handled. An
/// exit that the host took first is no sign of one, which would have a status of its own.
#[inline(always)]
fn enter_repeatedly(
    machine: &Machine,
    loaded: &mut Loaded<'_>,
    call: &mut RunCall,
    offload: &mut Offload,
    left: &mut Option<Handled>,
    irqs: &IrqsOff,
) -> (ExitKind, Rest) {
    let vp = loaded.vp.vp();
    loop {
        let entering = Entering::new(vp, loaded.private.operands.rcx, call.reason);
        let class = loaded.enter(irqs);
        let switches = &mut loaded.private.switches;
        let kind = entering.record(vp, switches, loaded.who, class, &loaded.private.operands);
        if class.has_run() {
            loaded.note_progress();
            call.has_run = true;
        }
        if is_userspaces(class, *offload) {
            return (kind, Rest::Userspace);
        }
        let exit = &loaded.private.operands.exit;
        let next = next(class, exit, *offload, || vp.run_page.read_guest());
        match &next {
            Next::EnterAgain if note_stall(vp, class, &mut call.stall) => {
                return (kind, Rest::Stalled);
            }
            Next::EnterAgain if class.is_of_host() => (),
            Next::EnterAgain => return (kind, Rest::Nothing),
            Next::Handle(handled) => {
                let deadlines = &mut loaded.private.deadlines;
                let has_vtl1 = call.switching.is_some();
                let is_done =
                    offload::carry_out_at_once(machine, vp, deadlines, has_vtl1, *offload, handled);
                if !is_done {
                    *left = Some(*handled);
                    return (kind, Rest::Handle);
                }
            }
            Next::Userspace => return (kind, Rest::Userspace),
            Next::Fail => return (kind, Rest::Fail),
        }
        match quiet_offload(loaded) {
            Some(quiet) => *offload = quiet,
            None => return (kind, Rest::Nothing),
        }
        call.reason = EntryReason::after(kind);
    }
}

/// Returns what the kernel may handle by itself if there is nothing else to do before an entry.
///
/// Other CPUs send an interrupt when they give this task work to do, and so does a kick, also for a VP
/// that must not be entered any more. This CPU sends none, for instance when it has woken a task to report
/// an exit storm.
#[inline(always)]
fn quiet_offload(loaded: &Loaded<'_>) -> Option<Offload> {
    let vp = loaded.vp.vp();
    let is_quiet = !loaded.private.switches.is_at_limit()
        && !ffi::has_guest_work()
        && !vp.run_page.read_cancel()
        && !vp.entry_check.is_due(loaded.vm())
        && loaded.is_asked_for_nothing();
    let offload = is_quiet.then(|| vp.run_page.read_quiet_offload())??;
    Some(Offload::new(offload, loaded.vm()))
}

/// Posts requested interrupts. Returns what the kernel may handle by itself; `None` if the lower VTL
/// must not be entered because it is halted.
#[inline(never)]
fn prepare(loaded: &Loaded<'_>, switching: &mut Option<Switching>) -> Result<Option<Offload>> {
    let vp = loaded.vp.vp();
    let (is_halted, offload) = vp
        .run_page
        .renew(&loaded.private.entry)
        .map_err(error::refusal)?;
    let is_halted = offload::prepare(vp, offload, is_halted, switching)?;
    Ok((!is_halted).then_some(offload))
}

/// Counts an exit that the host may have routed to VTL2. Returns true if it has routed so many at the
/// same instruction that userspace has to see one.
#[inline(always)]
fn note_stall(vp: &Vp, class: Exit, stall: &mut Stall) -> bool {
    let has_stalled = class == Exit::HostRouted && stall.note(vp.run_page.read_rip());
    if has_stalled {
        vp.stats.stalled();
    }
    has_stalled
}
