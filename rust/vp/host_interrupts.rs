// SPDX-License-Identifier: GPL-2.0
//! The interrupts by which the host says that it has written something.
//!
//! An interrupt does what is bounded, whatever the host has written: it takes one message about
//! interrupts for VTL0, and wakes that VP's thread. The rest takes locks that an interrupt must not
//! wait for, so it comes right after it: signalling eventfds, waking readers.

// UNSAFETY: FFI with callbacks.
#![allow(unsafe_code)]

use kernel::prelude::*;
use kernel::sync::Arc;

use super::machine::Machine;
use crate::glue::abi;
use crate::hv::c;
use crate::hv::synic::{Pages, Synic};
use crate::pure::hv_message;

/// The host's interrupt on this CPU, with interrupts off.
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

/// The second half of an interrupt, still on its CPU. Flags and messages that come meanwhile are
/// taken now, or by the interrupt that comes with them.
fn deferred(machine: &Machine) {
    let cpu = kernel::cpu::CpuId::current().as_u32();
    let Some((synic, pages)) = controller(machine, cpu) else {
        return;
    };
    pages.take_vmbus_events(|index, flags| synic.event_fds.signal(index, flags));
    if pages.has_vmbus_message() {
        c::vtl_synic_wake();
    }
}

/// The controllers, and the pages of one.
fn controller(machine: &Machine, cpu: u32) -> Option<(&Synic, &Pages)> {
    let synic = machine.host()?.synic()?;
    Some((synic, synic.of_cpu(cpu)?))
}

/// Takes one message about interrupts for VTL0, if there is one: the next comes with an interrupt of
/// its own. Other messages of this source have nobody to read them.
fn take_proxied(machine: &Machine, cpu: u32, pages: &Pages) {
    let Some(message) = pages.take_interception() else {
        return;
    };
    if let (Some(vectors), Some(vp)) = (hv_message::proxied(&message), machine.vp(cpu)) {
        vp.proxy(&vectors);
    }
}

/// The host's interrupts reach this driver.
pub(crate) struct Interrupts {
    is_on: bool,
    _machine: Arc<Machine>,
}

impl Interrupts {
    /// Takes them, if there are controllers to take them from. Before a CPU turns its own on.
    pub(crate) fn start(machine: Arc<Machine>) -> Self {
        let is_on = machine.host().and_then(|host| host.synic()).is_some();
        if is_on {
            let argument: *const Machine = &*machine;
            // SAFETY: The callbacks want a machine; `self` keeps it until `drop` has stopped them.
            unsafe {
                abi::vtl_synic_start(
                    Some(on_interrupt),
                    Some(on_deferred),
                    Some(on_question),
                    argument.cast(),
                );
            }
        }
        Self {
            is_on,
            _machine: machine,
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if self.is_on {
            // SAFETY: Every CPU has turned its controller off; in a task that may sleep.
            unsafe { abi::vtl_synic_stop() }
        }
    }
}

extern "C" fn on_interrupt(machine: *const c_void) {
    // SAFETY: `Interrupts::start` gave a machine that lives as long as this is called.
    interrupt(unsafe { &*machine.cast::<Machine>() });
}

extern "C" fn on_deferred(machine: *const c_void) {
    // SAFETY: As above.
    deferred(unsafe { &*machine.cast::<Machine>() });
}

extern "C" fn on_question(machine: *const c_void) -> bool {
    // SAFETY: As above; readers and pollers have a file open, which keeps the module.
    let machine = unsafe { &*machine.cast::<Machine>() };
    let synic = machine.host().and_then(|host| host.synic());
    synic.is_some_and(Synic::is_ready)
}
