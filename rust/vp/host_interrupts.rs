// SPDX-License-Identifier: GPL-2.0
//! Handles the interrupts by which the host announces messages and events.
//!
//! The interrupt handler does a bounded amount of work, whatever the host has written: it takes one
//! message about interrupts for VTL0, and wakes that VP's thread. Signalling eventfds and waking
//! readers need locks that a hard interrupt must not take, so deferred work does that right after
//! it.

use super::machine::Machine;
use crate::glue::ffi::Callback;
use crate::hv::c;
use crate::hv::synic::{Synic, SynicPages};
use crate::pure::hv_message;

/// Runs in the host's interrupt on this CPU, with interrupts disabled.
pub(super) struct OnInterrupt;

impl Callback for OnInterrupt {
    type About = Machine;
    type Output = ();

    fn call(machine: &Machine) {
        interrupt(machine);
    }
}

fn interrupt(machine: &Machine) {
    let cpu = kernel::cpu::CpuId::current().as_u32();
    let Some((_, pages)) = controller(machine, cpu) else {
        return;
    };
    take_proxied(machine, cpu, pages);
    if pages.has_vmbus_event() || pages.has_vmbus_message() {
        c::vtl_synic_defer();
    }
}

/// Deferred work of the interrupt, on the same CPU. Flags and messages that arrive meanwhile are
/// handled now, or by the interrupt that they cause.
pub(super) struct OnDeferred;

impl Callback for OnDeferred {
    type About = Machine;
    type Output = ();

    fn call(machine: &Machine) {
        deferred(machine);
    }
}

fn deferred(machine: &Machine) {
    let cpu = kernel::cpu::CpuId::current().as_u32();
    let Some((synic, pages)) = controller(machine, cpu) else {
        return;
    };
    pages.take_vmbus_events(|index, flags| synic.event_fds.signal(index, flags));
    if pages.has_vmbus_message() {
        synic.readers.wake();
    }
}

/// The SynIC, and the pages of one CPU.
fn controller(machine: &Machine, cpu: u32) -> Option<(&Synic, &SynicPages)> {
    let synic = machine.host()?.synic()?;
    Some((synic, synic.of_cpu(cpu)?))
}

/// Takes one message about interrupts for VTL0, if there is one: the next one causes an interrupt
/// of its own. Other messages of this SINT have no reader and are dropped.
fn take_proxied(machine: &Machine, cpu: u32, pages: &SynicPages) {
    let Some(message) = pages.take_interception() else {
        return;
    };
    if let (Some(vectors), Some(vp)) = (hv_message::proxied(&message), machine.vp(cpu)) {
        vp.proxy(&vectors);
    }
}
