// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ring of slots of 64 bytes that the kernel writes: what all rings of the audit have in common.
//! Part of [`crate::audit`].

use core::cmp::Ordering as CmpOrdering;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{RECORD_LEN, RECORD_WORDS};
use crate::abi;
use crate::sys::{Mapping, Protection};

/// How often to retry a slot that changed while it was being read; after that it has been
/// overwritten.
const TRIES: u32 = 2;

/// Contents of the slot in which a number was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Its complete words, of which the first is the number.
    Words([u64; RECORD_WORDS]),
    /// The number does not exist yet, or is being written.
    NotYet,
    /// A later number has overwritten it.
    Overwritten,
}

/// A mapped ring.
#[derive(Debug)]
pub struct Slots {
    pub(super) mapping: Mapping,
    pub(super) count: u64,
}

impl Slots {
    /// Maps the ring of this kind and `cpu`, which has `count` slots.
    pub(crate) fn map(fd: impl AsFd, kind: u32, cpu: u32, count: u32) -> Result<Self, Errno> {
        // CAST: u32 fits.
        let len = count as usize * RECORD_LEN;
        let offset = abi::page_offset(kind, cpu);
        Ok(Self {
            mapping: Mapping::new(fd, offset, len, Protection::Read)?,
            count: u64::from(count),
        })
    }

    /// Number of slots.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The newest number; 0 if there is none.
    pub fn newest(&self) -> u64 {
        let numbers = (0..self.count).map(|slot| self.word(slot, 0));
        numbers.max().unwrap_or(0)
    }

    /// Reads the slot of a number; the first one is 1. A 0 in the slot means that the kernel is
    /// writing to it.
    pub fn read(&self, number: u64) -> Slot {
        if number == 0 {
            return Slot::NotYet;
        }
        let slot = number % self.count;
        for _ in 0..TRIES {
            let before = self.word(slot, 0);
            match before.cmp(&number) {
                CmpOrdering::Less => return Slot::NotYet,
                CmpOrdering::Greater => return Slot::Overwritten,
                CmpOrdering::Equal => {}
            }
            // ORDERING: the other words are loaded after the number.
            fence(Ordering::Acquire);
            let words: [u64; RECORD_WORDS] = core::array::from_fn(|index| self.word(slot, index));
            // ORDERING: the words are read before the number is read again.
            fence(Ordering::Acquire);
            let after = self.word(slot, 0);
            if before == after {
                return Slot::Words(words);
            }
        }
        Slot::NotYet
    }

    /// The oldest number that is still there.
    fn oldest(&self) -> u64 {
        oldest(self.newest(), self.count)
    }

    /// One word of a slot, read once.
    fn word(&self, slot: u64, index: usize) -> u64 {
        // CAST: below the number of slots.
        let offset = (slot % self.count) as usize * RECORD_LEN + index % RECORD_WORDS * 8;
        // ORDERING: `read` has the fences.
        let word = self.mapping.word::<AtomicU64>(offset);
        word.load(Ordering::Relaxed)
    }
}

/// The oldest number in a ring whose newest is `newest`.
fn oldest(newest: u64, count: u64) -> u64 {
    newest.saturating_sub(count) + 1
}

/// What [`SlotFollower::step`] found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotStep {
    /// The words of a slot.
    Slot([u64; RECORD_WORDS]),
    /// This many were overwritten before they could be read.
    Missed(u64),
}

/// Reads a ring in order and counts what it missed.
#[derive(Debug)]
pub struct SlotFollower {
    pub(super) slots: Slots,
    next: u64,
    /// The last step found an overwritten slot, too.
    was_overrun: bool,
}

impl SlotFollower {
    /// Begins with this number, or with the oldest one that is still there.
    pub fn from(slots: Slots, number: u64) -> Self {
        let next = number.max(slots.oldest());
        Self {
            slots,
            next,
            was_overrun: false,
        }
    }

    /// Returns the next slot, or how many were missed; `None` if there is no new one yet.
    pub fn step(&mut self) -> Option<SlotStep> {
        match self.slots.read(self.next) {
            Slot::Words(words) => {
                self.was_overrun = false;
                self.next += 1;
                Some(SlotStep::Slot(words))
            }
            Slot::NotYet => None,
            Slot::Overwritten => {
                // The oldest one that is still there. If that is lost while it is read, the next time
                // with some room.
                let was_overrun = core::mem::replace(&mut self.was_overrun, true);
                let room = if was_overrun { self.slots.count / 8 } else { 0 };
                let resume = self.slots.oldest() + room;
                let missed = resume.saturating_sub(self.next).max(1);
                self.next += missed;
                Some(SlotStep::Missed(missed))
            }
        }
    }
}
