// SPDX-License-Identifier: GPL-2.0
//! The synthetic interrupt controller (SynIC): messages and events from the host.
//!
//! Each CPU has two pages that the host writes to: a message slot for each SINT, and event flags.
//! `vp/host_interrupts.rs` handles what arrives. A message for VMBus stays in its slot until it has
//! been read, so that the host has to queue further ones.

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

/// Offset of a word of VMBus's event flags.
const fn flags_at(index: usize) -> usize {
    SINT_VMBUS * FLAG_BYTES + index * size_of::<u64>()
}

/// The pages that the host writes to for a CPU.
pub(crate) struct SynicPages {
    messages: HostPage,
    events: HostPage,
    /// A reader has the message for VMBus and is copying it to userspace.
    is_taken: Atomic<bool>,
}

impl SynicPages {
    /// Frees a slot. Returns true if the host has another message waiting for it.
    fn free_slot(&self, slot: usize) -> bool {
        self.messages.write_u32(slot, NO_MESSAGE);
        // ORDERING: the host must see the slot free before we read the flag, so that either it
        // posts the message by itself or we see that it waits.
        smp_mb(Full);
        self.messages.read_u8(slot + FLAGS_AT) & PENDING != 0
    }

    /// Returns true if there is a message that no reader has taken.
    pub(crate) fn has_vmbus_message(&self) -> bool {
        // ORDERING: taking a message needs `Synic::turn`; a thread that only checks is woken when
        // the message is released.
        !self.is_taken.load(Relaxed) && self.messages.read_u32(VMBUS_SLOT) != NO_MESSAGE
    }

    /// Copies the message for VMBus, and hides it from other readers.
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

    /// Returns true if an event flag is set.
    pub(crate) fn has_vmbus_event(&self) -> bool {
        (0..FLAG_WORDS).any(|index| self.events.read_u64(flags_at(index)) != 0)
    }

    /// Takes the event flags, word by word. Called on the CPU itself.
    pub(crate) fn take_vmbus_events(&self, signal: impl Fn(usize, u64)) {
        for index in 0..FLAG_WORDS {
            let flags = self.events.take_u64(flags_at(index));
            if flags != 0 {
                signal(index, flags);
            }
        }
    }

    /// Takes a message about a lower VTL. Called on the CPU itself.
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

/// Threads that read from the node or poll it.
#[pin_data]
pub(crate) struct Readers {
    #[pin]
    queue: PollCondVar,
    /// Held by a reader from the moment it finds nothing until it is queued, so that no wake-up is
    /// lost. Taken by deferred work of an interrupt, too.
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

    /// Makes them check again. Not for hard interrupt context.
    pub(crate) fn wake(&self) {
        // A reader that checked before this point is queued by the time the lock has been taken.
        drop(self.looking.lock());
        self.queue.notify_all();
    }

    /// Registers a poll() of a file for wake-ups.
    pub(crate) fn register(&self, file: &File, table: &PollTable<'_>) {
        table.register_wait(file, &self.queue);
    }
}

/// A message that a reader has taken. It stays in its slot, so that the host can't overwrite it.
#[must_use]
struct Taken<'a> {
    readers: &'a Readers,
    pages: &'a SynicPages,
    message: [u8; SLOT_BYTES],
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.pages.is_taken.store(false, Relaxed);
        // The message may still be there, or another one.
        self.readers.wake();
    }
}

/// The SynICs of all CPUs.
pub(crate) struct Synic {
    /// Indexed by CPU number.
    pages: KVec<SynicPages>,
    pub(crate) event_fds: Pin<KBox<EventFds>>,
    /// The SINT of VMBus is masked, and readers get end of file.
    is_paused: Atomic<bool>,
    /// Held to change `is_paused`, and to take a message; never during an access to user memory,
    /// which userspace can delay at will.
    turn: Pin<KBox<Mutex<()>>>,
    /// Threads that wait for a message, or for end of file.
    pub(crate) readers: Pin<KBox<Readers>>,
}

impl Synic {
    /// Shares the pages of all CPUs with the host. `None` if another driver uses the SynIC, or the
    /// host refuses it.
    ///
    /// # Errors
    ///
    /// ENOMEM, or the error of a page's conversion.
    pub(crate) fn detect() -> Result<Option<Self>> {
        match c::vtl_synic_find() {
            abi::vtl_synic_VTL_SYNIC_FREE => (),
            abi::vtl_synic_VTL_SYNIC_TAKEN => {
                pr_notice!("no /dev/mshv_sint: the kernel's VMBus driver uses the SynIC\n");
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
                SynicPages {
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

    /// Enables the SynIC of this CPU.
    pub(crate) fn online(&self, alone: &PreemptOff) {
        if let Some(pages) = self.of_cpu(alone.cpu()) {
            let (messages, events) = (pages.messages.phys(), pages.events.phys());
            c::vtl_synic_on(messages, events, self.is_paused());
        }
    }

    /// Disables the SynIC of this CPU.
    pub(crate) fn offline(&self, _alone: &PreemptOff) {
        c::vtl_synic_off();
    }

    /// Returns true if readers find the end of the stream.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Relaxed)
    }

    /// Stops or resumes messages and events of VMBus on all CPUs.
    pub(crate) fn pause(&self, is_paused: bool) {
        let _turn = self.turn.lock();
        // ORDERING: a CPU that comes online meanwhile reads this store, or is online for the call
        // below.
        self.is_paused.store(is_paused, Relaxed);
        c::vtl_synic_mask_all(is_paused);
        self.readers.wake();
    }

    /// The pages of a CPU.
    pub(crate) fn of_cpu(&self, cpu: u32) -> Option<&SynicPages> {
        self.pages.get(cpu as usize) // CAST: u32 fits
    }

    /// Sleeps until there is a message, or the stream is paused.
    ///
    /// # Errors
    ///
    /// ERESTARTSYS if a signal is pending.
    pub(crate) fn wait(&self) -> Result {
        let mut looking = self.readers.looking.lock();
        while !self.is_ready() {
            if self.readers.queue.wait_interruptible(&mut looking) && !self.is_ready() {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// Returns true if a reader does not have to wait.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_paused() || self.pages.iter().any(SynicPages::has_vmbus_message)
    }

    /// Copies a message to userspace and frees its slot; if copying fails, it stays there. Returns
    /// true if there was a message.
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

    /// Takes the first message, and returns it with the number of its CPU.
    fn take_message(&self) -> Option<(Taken<'_>, u32)> {
        let _turn = self.turn.lock();
        let mut with_cpu = self.pages.iter().zip(0_u32..);
        with_cpu.find_map(|(pages, cpu)| Some((pages.take_vmbus_message(&self.readers)?, cpu)))
    }
}
