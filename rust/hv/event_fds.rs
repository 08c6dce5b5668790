// SPDX-License-Identifier: GPL-2.0
//! Which eventfd is signalled for which event flag of the host.

// UNSAFETY: FFI with the kernel's eventfds.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;
use kernel::sync::{new_spinlock_irq, SpinLockIrq};

use crate::glue::abi;
use crate::pure::hv_message::FLAGS;

/// An eventfd.
///
/// # Invariants
///
/// The reference that `eventfd_ctx_fdget` gave is held until `drop`.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: An eventfd belongs to no thread, and may be signalled and let go from any.
unsafe impl Send for EventFd {}

impl EventFd {
    /// The eventfd of a file descriptor.
    ///
    /// # Errors
    ///
    /// EBADF: no such file. EINVAL: it is no eventfd.
    pub(crate) fn new(descriptor: i32) -> Result<Self> {
        // SAFETY: No requirement.
        let raw = from_err_ptr(unsafe { abi::eventfd_ctx_fdget(descriptor) })?;
        // INVARIANT: just got.
        NonNull::new(raw).map(Self).ok_or(EINVAL)
    }

    fn signal(&self) {
        // SAFETY: The eventfd is held by the invariant; may be called in any context but an
        // interrupt itself.
        unsafe { abi::vtl_eventfd_signal(self.0.as_ptr()) }
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the invariant; `self` goes away.
        unsafe { abi::eventfd_ctx_put(self.0.as_ptr()) }
    }
}

/// Who registered an eventfd, and the eventfd.
type Entry = Option<(usize, EventFd)>;

/// An eventfd for each flag. The lock is also taken right after an interrupt of the host.
#[pin_data]
pub(crate) struct EventFds {
    #[pin]
    entries: SpinLockIrq<KVec<Entry>>,
}

impl EventFds {
    /// None yet.
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

    /// Registers an eventfd for a flag in place of an earlier one, or none.
    ///
    /// # Errors
    ///
    /// EINVAL: no such flag.
    pub(crate) fn register(&self, owner: usize, flag: u32, eventfd: Option<EventFd>) -> Result {
        let new = eventfd.map(|eventfd| (owner, eventfd));
        // The earlier one is let go when interrupts are on again.
        let old = {
            let mut entries = self.entries.lock();
            let entry = entries.get_mut(flag as usize).ok_or(EINVAL)?; // CAST: u32 fits
            core::mem::replace(entry, new)
        };
        drop(old);
        Ok(())
    }

    /// Lets go of all that `owner` registered.
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

    /// Signals the eventfds of the flags that are set in one word. Right after an interrupt.
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
