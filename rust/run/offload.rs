// SPDX-License-Identifier: GPL-2.0
//! What the kernel does for the lower VTL in place of userspace: posts requested interrupts,
//! handles halts, sends interrupts, and serves its timer.
//!
//! ```text
//! before an entry   proxy_irr ──► virtual-APIC page, RVI      prepare
//!                   halted, and one is deliverable ──► not halted
//! after an exit     HLT, guest idle ──► halted                carry_out
//!                   x2APIC ICR ──► own virtual-APIC page, or proxy_irr of others
//!                   WRMSR IA32_TSC_DEADLINE ──► TSC_DEADLINE  deadline::set_timer
//!                   deadline passed ──► own virtual-APIC page deadline::expire_timer
//! ```

use kernel::prelude::*;

use super::deadline;
use super::switch::Switching;
use crate::cpu::tdcall;
use crate::pure::apic::{Priorities, Vector};
use crate::pure::deadline::Deadlines;
use crate::pure::field::VmIndex;
use crate::pure::handled::{Action, Handled};
use crate::pure::icr::{Ipi, Target};
use crate::pure::offload::{Halt, HaltChange, Offload};
use crate::pure::tdcall::tdg_vp_wr_no_shadow;
use crate::vp::machine::Machine;
use crate::vp::vapic::VirtualApic;
use crate::vp::Vp;

const RFLAGS_IF: u64 = 1 << 9;

/// Posts requested interrupts, right before an entry. Returns true if the lower VTL must not be
/// entered because it is halted.
///
/// # Errors
///
/// EINTR: there are interrupts for userspace.
#[inline]
pub(super) fn prepare(
    vp: &Vp,
    offload: Offload,
    is_halted: bool,
    switching: &mut Option<Switching>,
) -> Result<bool> {
    if !is_halted && !vp.run_page.read_scan_proxy_irr() {
        return Ok(false);
    }
    take_and_wake(vp, offload, is_halted, switching)
}

fn take_and_wake(
    vp: &Vp,
    offload: Offload,
    is_halted: bool,
    switching: &mut Option<Switching>,
) -> Result<bool> {
    if let Some(switching) = switching
        .as_mut()
        .filter(|_| vp.run_page.read_scan_proxy_irr())
    {
        if switching.take_proxied(vp)? {
            // What was requested since then is taken after its kick.
            return Ok(is_halted);
        }
    }
    if vp.run_page.read_scan_proxy_irr() && (!offload.takes_interrupts() || take_for_running(vp)) {
        return Err(EINTR);
    }
    if is_halted {
        let Some(change) = woken(vp, offload) else {
            return Ok(true);
        };
        vp.run_page.store_halt(change);
    }
    Ok(false)
}

/// Returns what ends a halt, if an interrupt is deliverable that does.
fn woken(vp: &Vp, offload: Offload) -> Option<HaltChange> {
    if !offload.takes_interrupts() || !priorities(vp).is_deliverable() {
        return None;
    }
    offload.woken(vp.run_page.read_guest().rflags & RFLAGS_IF != 0)
}

/// Returns true if `vm` is halted no longer once the run page is read: an interrupt was posted, and
/// userspace has changed `offload_flags` since then.
pub(super) fn ends_halt(vp: &Vp, vm: VmIndex) -> bool {
    woken(vp, Offload::new(vp.run_page.read_offload(), vm)).is_some()
}

/// Returns true if some are left for userspace.
fn take_for_running(vp: &Vp) -> bool {
    let (highest, some_stay) = take_proxied(vp);
    vp.run_page.store_rvi(highest);
    some_stay
}

/// Posts requested interrupts to the virtual-APIC page of VM 1. Returns the value for its RVI, and
/// true if some are left for userspace.
pub(super) fn take_proxied(vp: &Vp) -> (u8, bool) {
    let vapic = VirtualApic(&vp.vapic);
    let some_stay = vp
        .run_page
        .take_proxied(|word, bits| vapic.request(word, bits));
    (vapic.highest(), some_stay)
}

fn priorities(vp: &Vp) -> Priorities {
    vp.run_page.read_priorities(VirtualApic(&vp.vapic).tpr())
}

/// As [`carry_out`], with interrupts disabled, if the exit concerns nobody but this VP, which can be
/// entered again at once. Otherwise returns false, and [`carry_out`] has to handle it.
#[inline(always)]
pub(super) fn carry_out_at_once(
    machine: &Machine,
    vp: &Vp,
    deadlines: &mut Deadlines,
    has_vtl1: bool,
    offload: Offload,
    handled: &Handled,
) -> bool {
    let is_done = match handled.action {
        Action::Send(ipi) => {
            ipi.is_to_self() && ends_shadow(handled) && {
                post(vp, ipi.vector());
                true
            }
        }
        Action::Halt(halt) => {
            ends_at_once(vp, offload) && ends_shadow(handled) && {
                store_idle(vp, halt);
                true
            }
        }
        Action::SetTimer(_) | Action::Expire => {
            return carry_out(machine, vp, deadlines, has_vtl1, handled);
        }
    };
    if is_done {
        vp.run_page.store_rip(handled.next_rip);
    }
    is_done
}

/// Returns true if an interrupt that is deliverable already ends a halt.
fn ends_at_once(vp: &Vp, offload: Offload) -> bool {
    !offload.is_halted_otherwise() && priorities(vp).is_deliverable()
}

/// Handles an exit of the lower VTL. Returns false if it has to be left to userspace. Then the
/// registers are unchanged: the instruction has not been executed, and userspace, which executes
/// it, may find its timer set, or the interrupt posted, already. `has_vtl1` is true if the kernel
/// switches between the VTLs.
#[inline(never)]
pub(super) fn carry_out(
    machine: &Machine,
    vp: &Vp,
    deadlines: &mut Deadlines,
    has_vtl1: bool,
    handled: &Handled,
) -> bool {
    let is_done = match handled.action {
        Action::Halt(halt) => ends_shadow(handled) && store_halt(vp, halt),
        Action::Send(ipi) => send(machine, vp, ipi, handled),
        Action::SetTimer(value) => {
            deadline::set_timer(vp, deadlines, has_vtl1, value) && ends_shadow(handled)
        }
        Action::Expire => deadline::expire_timer(vp, deadlines, has_vtl1) && ends_shadow(handled),
    };
    if is_done {
        vp.run_page.store_rip(handled.next_rip);
    }
    is_done
}

/// Blocking by STI and MOV SS covers one instruction, which is the one that exited. Returns false if
/// the TDX module refuses to end it.
fn ends_shadow(handled: &Handled) -> bool {
    !handled.ends_shadow || tdg_vp_wr_no_shadow(&mut tdcall::Instruction, VmIndex::VM1).is_ok()
}

fn store_halt(vp: &Vp, halt: Halt) -> bool {
    store_idle(vp, halt);
    vp.run_page.store_halt(halt.begun());
    true
}

/// Stores what the RDMSR of guest idle reads.
fn store_idle(vp: &Vp, halt: Halt) {
    if halt == Halt::GuestIdle {
        vp.run_page.store_msr_zero();
    }
}

/// Sends an interrupt. Returns false if it has to be left to userspace.
#[inline]
fn send(machine: &Machine, sender: &Vp, ipi: Ipi, handled: &Handled) -> bool {
    let target = ipi.target();
    let has_others = target != Target::Own;
    if has_others && !may_send(machine, sender, target) || !ends_shadow(handled) {
        return false;
    }
    if target.includes(sender.apic_id, true) {
        post(sender, ipi.vector());
    }
    if has_others {
        send_to_others(machine, sender, ipi.vector(), target);
    }
    true
}

/// Returns true if the interrupt has a destination, and the kernel may post it to each one.
#[inline(never)]
fn may_send(machine: &Machine, sender: &Vp, target: Target) -> bool {
    let mut is_anybody = target.includes(sender.apic_id, true);
    for_each_other(machine, sender, target, |vp| {
        is_anybody = true;
        vp.is_ready() && Offload::accepts_ipi(vp.run_page.read_offload())
    }) && is_anybody
}

#[inline(never)]
fn send_to_others(machine: &Machine, sender: &Vp, vector: Vector, target: Target) {
    for_each_other(machine, sender, target, |vp| {
        vp.run_page.post(vector);
        vp.wake.kick();
        true
    });
}

/// Posts an interrupt to the VP that this thread runs.
#[inline(always)]
pub(super) fn post(vp: &Vp, vector: Vector) {
    VirtualApic(&vp.vapic).request_vector(vector);
    vp.run_page.raise_rvi(vector);
}

/// Calls `visit` for each destination VP except the sender, until it returns false. Returns true if
/// it never did.
fn for_each_other<'m>(
    machine: &'m Machine,
    sender: &Vp,
    target: Target,
    mut visit: impl FnMut(&'m Vp) -> bool,
) -> bool {
    let is_other = |vp: &&Vp| !core::ptr::eq(*vp, sender);
    match target {
        Target::Own => return true,
        // Usually APIC ID and CPU number are the same. IDs are unique, so there is no other
        // destination.
        Target::Physical(id) => {
            if let Some(vp) = machine.vp(id).filter(|vp| vp.apic_id == id) {
                return !is_other(&vp) || visit(vp);
            }
        }
        Target::All | Target::Others | Target::Logical(_) => (),
    }
    (0..machine.num_cpus())
        .filter_map(|cpu| machine.vp(cpu))
        .filter(|vp| is_other(vp) && target.includes(vp.apic_id, false))
        .all(visit)
}
