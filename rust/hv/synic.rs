// SPDX-License-Identifier: GPL-2.0
//! The synthetic interrupt controller (SynIC): messages and events from the host.
//!
//! Each CPU has two pages that the host writes: a slot for a message of each source, and event
//! flags. `vp/host_interrupts.rs` takes what comes. A message for VMBus stays in its slot until it has been
//! read, so the host has to keep the others.

use kernel::fs::File;
use kernel::iov::IovIterDest;
use kernel::new_poll_condvar;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::barrier::{smp_mb, Full};
use kernel::sync::poll::{PollCondVar, PollTable};
use kernel::sync::{new_mutex, new_spinlock_irq, Mutex, SpinLockIrq};

use super::c;
use super::event_fds::EventFds;
use super::page::HostPage;
use crate::cpu::guards::{OnOneCpu, PreemptOff};
use crate::glue::abi;
use crate::pure::hv_message::{
    self, FLAGS_AT, FLAG_BYTES, NO_MESSAGE, PENDING, PROXY_BYTES, SINT_INTERCEPTION, SINT_VMBUS,
    SLOT_BYTES,
};

const INTERCEPTION_SLOT: usize = SINT_INTERCEPTION * SLOT_BYTES;
const VMBUS_SLOT: usize = SINT_VMBUS * SLOT_BYTES;
const FLAG_WORDS: usize = FLAG_BYTES / size_of::<u64>();

/// Where a word of the event flags of VMBus is.
const fn flags_at(index: usize) -> usize {
    SINT_VMBUS * FLAG_BYTES + index * size_of::<u64>()
}

/// What the host writes for a CPU.
pub(crate) struct Pages {
    messages: HostPage,
    events: HostPage,
    /// A reader has the message for VMBus and is on its way to userspace with it.
    is_taken: Atomic<bool>,
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

    /// Returns true if there is something to read that no reader has.
    pub(crate) fn has_vmbus_message(&self) -> bool {
        // ORDERING: who takes it holds `Synic::turn`; who only looks is woken when it is given back.
        !self.is_taken.load(Relaxed) && self.messages.read_u32(VMBUS_SLOT) != NO_MESSAGE
    }

    /// Copies the message for VMBus, and keeps it from other readers.
    fn take_vmbus_message<'a>(&'a self, readers: &'a Readers) -> Option<Taken<'a>> {
        if !self.has_vmbus_message() {
            return None;
        }
        let mut message = [0; SLOT_BYTES];
        self.messages.read_at(VMBUS_SLOT, &mut message);
        hv_message::settle(&mut message).then(|| {
            self.is_taken.store(true, Relaxed);
            Taken {
                readers,
                pages: self,
                message,
            }
        })
    }

    /// Whether there is somebody to signal.
    pub(crate) fn has_vmbus_event(&self) -> bool {
        (0..FLAG_WORDS).any(|index| self.events.read_u64(flags_at(index)) != 0)
    }

    /// Takes the event flags, word by word. On the CPU itself.
    pub(crate) fn take_vmbus_events(&self, signal: impl Fn(usize, u64)) {
        for index in 0..FLAG_WORDS {
            let flags = self.events.take_u64(flags_at(index));
            if flags != 0 {
                signal(index, flags);
            }
        }
    }

    /// Takes a message about a lower VTL. On the CPU itself.
    pub(crate) fn take_interception(&self) -> Option<[u8; PROXY_BYTES]> {
        if self.messages.read_u32(INTERCEPTION_SLOT) == NO_MESSAGE {
            return None;
        }
        let mut message = [0; PROXY_BYTES];
        self.messages.read_at(INTERCEPTION_SLOT, &mut message);
        if self.free_slot(INTERCEPTION_SLOT) {
            c::vtl_synic_eom();
        }
        Some(message)
    }
}

/// Readers and pollers of the node.
#[pin_data]
pub(crate) struct Readers {
    #[pin]
    queue: PollCondVar,
    /// Held by a reader from the moment when it finds nothing until it is in the queue, so that no wake-up
    /// comes in between. Whoever wakes may be the second half of an interrupt.
    #[pin]
    looking: SpinLockIrq<()>,
}

impl Readers {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            queue <- new_poll_condvar!("mshv_vtl_tdx::readers"),
            looking <- new_spinlock_irq!((), "mshv_vtl_tdx::looking"),
        })
    }

    /// Has them look again. Not in an interrupt itself.
    pub(crate) fn wake(&self) {
        // A reader that has looked already is in the queue when this has been held.
        drop(self.looking.lock());
        self.queue.notify_all();
    }

    /// Has `poll` of a file woken, too.
    pub(crate) fn register(&self, file: &File, table: &PollTable<'_>) {
        table.register_wait(file, &self.queue);
    }
}

/// A message that a reader has. It stays in its slot, so that the host can't put another there.
#[must_use]
struct Taken<'a> {
    readers: &'a Readers,
    pages: &'a Pages,
    message: [u8; SLOT_BYTES],
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.pages.is_taken.store(false, Relaxed);
        // It may be there still, or another one.
        self.readers.wake();
    }
}

/// The controllers of all CPUs.
pub(crate) struct Synic {
    /// Indexed by CPU number.
    pages: KVec<Pages>,
    pub(crate) event_fds: Pin<KBox<EventFds>>,
    /// The source of VMBus is masked, and readers find the end of the stream.
    is_paused: Atomic<bool>,
    /// Held by who changes that, and by who takes a message; never while userspace's memory is touched,
    /// which can take as long as userspace likes.
    turn: Pin<KBox<Mutex<()>>>,
    /// Those who wait for a message, or for the end of the stream.
    pub(crate) readers: Pin<KBox<Readers>>,
}

impl Synic {
    /// Shares the pages of all CPUs with the host. `None` if another driver has the controllers, or
    /// the host refuses them.
    ///
    /// # Errors
    ///
    /// ENOMEM, and what the conversion of a page says.
    pub(crate) fn detect() -> Result<Option<Self>> {
        match c::vtl_synic_find() {
            abi::vtl_synic_VTL_SYNIC_FREE => (),
            abi::vtl_synic_VTL_SYNIC_TAKEN => {
                pr_notice!("no /dev/mshv_sint: the kernel's VMBus driver has the SynIC\n");
                return Ok(None);
            }
            _ => {
                pr_notice!("no /dev/mshv_sint: the host refuses its SynIC\n");
                return Ok(None);
            }
        }
        let num_cpus = kernel::cpu::nr_cpu_ids() as usize; // CAST: u32 fits
        let mut pages = KVec::with_capacity(num_cpus, GFP_KERNEL)?;
        for _ in 0..num_cpus {
            let (messages, events) = (HostPage::new()?, HostPage::new()?);
            let is_taken = Atomic::new(false);
            pages.push(
                Pages {
                    messages,
                    events,
                    is_taken,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(Some(Self {
            pages,
            event_fds: EventFds::new()?,
            is_paused: Atomic::new(true),
            turn: KBox::pin_init(new_mutex!((), "mshv_vtl_tdx::synic"), GFP_KERNEL)?,
            readers: KBox::pin_init(Readers::new(), GFP_KERNEL)?,
        }))
    }

    /// Turns the controller of this CPU on.
    pub(crate) fn online(&self, alone: &PreemptOff) {
        if let Some(pages) = self.of_cpu(alone.cpu()) {
            let (messages, events) = (pages.messages.phys(), pages.events.phys());
            c::vtl_synic_on(messages, events, self.is_paused());
        }
    }

    /// Turns the controller of this CPU off.
    pub(crate) fn offline(&self, _alone: &PreemptOff) {
        c::vtl_synic_off();
    }

    /// Whether readers find the end of the stream.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Relaxed)
    }

    /// Stops or resumes messages and events of VMBus on all CPUs.
    pub(crate) fn pause(&self, is_paused: bool) {
        let _turn = self.turn.lock();
        // ORDERING: a CPU that comes meanwhile reads this, or is online for the call below.
        self.is_paused.store(is_paused, Relaxed);
        c::vtl_synic_mask_all(is_paused);
        self.readers.wake();
    }

    /// The pages of a CPU.
    pub(crate) fn of_cpu(&self, cpu: u32) -> Option<&Pages> {
        self.pages.get(cpu as usize) // CAST: u32 fits
    }

    /// Sleeps until there is something to read, or the stream is paused.
    ///
    /// # Errors
    ///
    /// ERESTARTSYS for a signal.
    pub(crate) fn wait(&self) -> Result {
        let mut looking = self.readers.looking.lock();
        while !self.is_ready() {
            if self.readers.queue.wait_interruptible(&mut looking) && !self.is_ready() {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// Returns true if a reader need not wait.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_paused() || self.pages.iter().any(Pages::has_vmbus_message)
    }

    /// Moves a message to userspace. It stays where it is if that fails. Returns whether there was
    /// one.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub(crate) fn read_message(&self, to: &mut IovIterDest<'_>) -> Result<bool> {
        let Some((taken, cpu)) = self.take_message() else {
            return Ok(false);
        };
        if to.copy_to_iter(&taken.message) != SLOT_BYTES {
            return Err(EFAULT);
        }
        if taken.pages.free_slot(VMBUS_SLOT) {
            c::vtl_synic_eom_on(cpu);
        }
        Ok(true)
    }

    /// Takes the first message that there is, and tells whose.
    fn take_message(&self) -> Option<(Taken<'_>, u32)> {
        let _turn = self.turn.lock();
        let mut with_cpu = self.pages.iter().zip(0_u32..);
        with_cpu.find_map(|(pages, cpu)| Some((pages.take_vmbus_message(&self.readers)?, cpu)))
    }
}
