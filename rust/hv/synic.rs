// SPDX-License-Identifier: GPL-2.0
//! The synthetic interrupt controller (SynIC): messages and events from the host.
//!
//! Each CPU has two pages that the host writes: a slot for a message of each source, and event
//! flags. An interrupt does what is bounded, whatever the host has written: it takes one message
//! about interrupts for VTL0, signals eventfds, and wakes readers. A message for VMBus stays in its
//! slot until it has been read, so the host has to keep the others.

// UNSAFETY: FFI with a callback.
#![allow(unsafe_code)]

use kernel::iov::IovIterDest;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::barrier::{smp_mb, Full};
use kernel::sync::{Arc, Mutex};

use super::c;
use super::event_fds::EventFds;
use super::page::HostPage;
use crate::abi;
use crate::cpu::Machine;
use crate::irq::PreemptOff;
use crate::pure::hv_message::{
    self, FLAGS_AT, FLAG_BYTES, NO_MESSAGE, PAYLOAD_BYTES, PENDING, PROXY_BYTES, SINT_INTERCEPTION,
    SINT_VMBUS, SIZE_AT, SLOT_BYTES,
};

const INTERCEPTION_SLOT: usize = SINT_INTERCEPTION * SLOT_BYTES;
const VMBUS_SLOT: usize = SINT_VMBUS * SLOT_BYTES;
const VMBUS_FLAGS: usize = SINT_VMBUS * FLAG_BYTES;

/// What the host writes for a CPU.
struct Pages {
    messages: HostPage,
    events: HostPage,
}

impl Pages {
    /// Frees a slot. Returns whether the host waits to hear of it.
    fn free_slot(&self, slot: usize) -> bool {
        self.messages.write_u32(slot, NO_MESSAGE);
        // ORDERING: the host sees the slot free before we look whether it waits, so that one of us
        // notices the other.
        smp_mb(Full);
        self.messages.read_u8(slot + FLAGS_AT) & PENDING != 0
    }

    fn has_vmbus_message(&self) -> bool {
        self.messages.read_u32(VMBUS_SLOT) != NO_MESSAGE
    }
}

/// The controllers of all CPUs.
pub(crate) struct Synic {
    /// Indexed by CPU number.
    pages: KVec<Pages>,
    pub(super) event_fds: Pin<KBox<EventFds>>,
    /// Non-zero: the source of VMBus is masked, and readers find the end of the stream.
    is_paused: Atomic<u32>,
    /// Held by who changes that, and by who takes a message.
    turn: Pin<KBox<Mutex<()>>>,
}

impl Synic {
    /// Shares the pages of all CPUs with the host. `None` if another driver has the controllers.
    ///
    /// # Errors
    ///
    /// ENOMEM, and what the conversion of a page says.
    pub(super) fn detect() -> Result<Option<Self>> {
        if c::vtl_synic_is_taken() {
            pr_notice!("no /dev/mshv_sint: the kernel's VMBus driver has the SynIC\n");
            return Ok(None);
        }
        let num_cpus = kernel::cpu::nr_cpu_ids() as usize; // CAST: u32 fits
        let mut pages = KVec::with_capacity(num_cpus, GFP_KERNEL)?;
        for _ in 0..num_cpus {
            let (messages, events) = (HostPage::new()?, HostPage::new()?);
            pages.push(Pages { messages, events }, GFP_KERNEL)?;
        }
        Ok(Some(Self {
            pages,
            event_fds: EventFds::new()?,
            is_paused: Atomic::new(1),
            turn: KBox::pin_init(new_mutex!((), "mshv_vtl_tdx::synic"), GFP_KERNEL)?,
        }))
    }

    /// Turns the controller of this CPU, whose number is `cpu`, on.
    pub(crate) fn online(&self, cpu: u32, _on_its_cpu: &PreemptOff) {
        if let Some(pages) = self.pages.get(cpu as usize) {
            let (messages, events) = (pages.messages.phys(), pages.events.phys());
            c::vtl_synic_on(messages, events, self.is_paused());
        }
    }

    /// Turns the controller of this CPU off.
    pub(crate) fn offline(&self, _on_its_cpu: &PreemptOff) {
        c::vtl_synic_off();
    }

    /// Whether readers find the end of the stream.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Relaxed) != 0
    }

    /// Stops or resumes messages and events of VMBus on all CPUs.
    pub(super) fn pause(&self, is_paused: bool) {
        let _turn = self.turn.lock();
        // ORDERING: a CPU that comes meanwhile reads this, or is online for the call below.
        self.is_paused.store(u32::from(is_paused), Relaxed);
        c::vtl_synic_mask_all(is_paused);
        c::vtl_synic_wake();
    }

    /// Whether a reader need not wait.
    fn is_ready(&self) -> bool {
        self.is_paused() || self.pages.iter().any(Pages::has_vmbus_message)
    }

    /// Moves a message to userspace. It stays where it is if that fails. Returns whether there was
    /// one.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub(super) fn read_message(&self, to: &mut IovIterDest<'_>) -> Result<bool> {
        let _turn = self.turn.lock();
        let mut with_cpu = self.pages.iter().zip(0_u32..);
        let Some((pages, cpu)) = with_cpu.find(|(pages, _)| pages.has_vmbus_message()) else {
            return Ok(false);
        };
        let mut message = [0; SLOT_BYTES];
        pages.messages.read_at(VMBUS_SLOT, &mut message);
        message[SIZE_AT] = message[SIZE_AT].min(PAYLOAD_BYTES as u8); // CAST: 240
        if to.copy_to_iter(&message) != SLOT_BYTES {
            return Err(EFAULT);
        }
        if pages.free_slot(VMBUS_SLOT) {
            c::vtl_synic_eom_on(cpu);
        }
        Ok(true)
    }
}

/// The host's interrupt on this CPU, with interrupts off.
fn interrupt(machine: &Machine) {
    let cpu = kernel::cpu::CpuId::current().as_u32();
    let Some(synic) = machine.host().and_then(|host| host.synic()) else {
        return;
    };
    let Some(pages) = synic.pages.get(cpu as usize) else {
        return;
    };
    take_proxied(machine, cpu, pages);
    for index in 0..FLAG_BYTES / size_of::<u64>() {
        let flags = pages
            .events
            .take_u64(VMBUS_FLAGS + index * size_of::<u64>());
        if flags != 0 {
            synic.event_fds.signal(index, flags);
        }
    }
    if pages.has_vmbus_message() {
        c::vtl_synic_wake();
    }
}

/// Takes one message about interrupts for VTL0, if there is one: the next comes with an interrupt of
/// its own. Other messages of this source have nobody to read them.
fn take_proxied(machine: &Machine, cpu: u32, pages: &Pages) {
    if pages.messages.read_u32(INTERCEPTION_SLOT) == NO_MESSAGE {
        return;
    }
    let mut message = [0; PROXY_BYTES];
    pages.messages.read_at(INTERCEPTION_SLOT, &mut message);
    if pages.free_slot(INTERCEPTION_SLOT) {
        c::vtl_synic_eom();
    }
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
                abi::vtl_synic_start(Some(on_interrupt), Some(on_question), argument.cast());
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

extern "C" fn on_question(machine: *const c_void) -> bool {
    // SAFETY: As above; readers and pollers have a file open, which keeps the module.
    let machine = unsafe { &*machine.cast::<Machine>() };
    let synic = machine.host().and_then(|host| host.synic());
    synic.is_some_and(Synic::is_ready)
}
