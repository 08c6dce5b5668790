// SPDX-License-Identifier: GPL-2.0
//! The eventfds to signal for the host's event flags.

use kernel::prelude::*;
use kernel::sync::{new_spinlock_irq, SpinLockIrq};

use crate::glue::ffi::EventFd;
use crate::pure::hv_message::FLAGS;

/// An eventfd, and who registered it.
type EventFdSlot = Option<(usize, EventFd)>;

/// An eventfd for each flag. Deferred work of the host's interrupt takes the lock, too.
#[pin_data]
pub(crate) struct EventFds {
    #[pin]
    entries: SpinLockIrq<KVec<EventFdSlot>>,
}

impl EventFds {
    /// Starts without any.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        let mut entries = KVec::with_capacity(FLAGS as usize, GFP_KERNEL)?; // CAST: small
        for _ in 0..FLAGS {
            entries.push(None, GFP_KERNEL)?;
        }
        KBox::pin_init(
            pin_init!(Self { entries <- new_spinlock_irq!(entries, "mshv_vtl_tdx::event_fds") }),
            GFP_KERNEL,
        )
    }

    /// Registers an eventfd for a flag, or none, in place of the earlier one.
    ///
    /// # Errors
    ///
    /// EINVAL if there is no such flag.
    pub(crate) fn register(&self, owner: usize, flag: u32, eventfd: Option<EventFd>) -> Result {
        let new = eventfd.map(|eventfd| (owner, eventfd));
        // The earlier one is released after interrupts are enabled again.
        let old = {
            let mut entries = self.entries.lock();
            let entry = entries.get_mut(flag as usize).ok_or(EINVAL)?; // CAST: u32 fits
            core::mem::replace(entry, new)
        };
        drop(old);
        Ok(())
    }

    /// Releases all that `owner` registered.
    pub(crate) fn release(&self, owner: usize) {
        for flag in 0..FLAGS as usize {
            let old = {
                let mut entries = self.entries.lock();
                let is_its = |entry: &mut (usize, EventFd)| entry.0 == owner;
                entries
                    .get_mut(flag)
                    .and_then(|entry| entry.take_if(is_its))
            };
            drop(old);
        }
    }

    /// Signals the eventfds of the flags set in one word. Called from deferred work.
    pub(crate) fn signal(&self, word_index: usize, mut flags: u64) {
        let entries = self.entries.lock();
        while flags != 0 {
            let bit = flags.trailing_zeros() as usize; // CAST: at most 63
            flags &= flags - 1;
            if let Some(Some((_, eventfd))) = entries.get(64 * word_index + bit) {
                eventfd.signal();
            }
        }
    }
}
