// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The audit ring of a virtual processor: one record per switch, written by the kernel, mapped
//! read-only.
//!
//! The kernel writes while this side reads. A record is complete if its sequence number is the same
//! before and after reading the rest: see [`Ring::read`]. [`Follower`] reads a ring in order and
//! reports what it missed.

mod record;

use core::cmp::Ordering as CmpOrdering;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::abi;
use crate::sys::{Mapping, Protection};

pub use record::{EntryReason, ExitKind, RECORD_LEN, RECORD_WORDS, Record};

/// How often to retry a record that changed while it was being read; after that it has been
/// overwritten.
const TRIES: u32 = 2;

/// Contents of the slot in which a record was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The complete record.
    Record(Record),
    /// That switch has not happened yet, or its record is being written.
    NotYet,
    /// A later switch has overwritten it.
    Overwritten,
}

/// The mapped audit ring of one virtual processor.
#[derive(Debug)]
pub struct Ring {
    mapping: Mapping,
    records: u64,
}

impl Ring {
    /// Maps the ring of `cpu`, which holds `records` records.
    pub(crate) fn map(fd: impl AsFd, cpu: u32, records: u32) -> Result<Self, Errno> {
        // CAST: u32 fits.
        let len = records as usize * RECORD_LEN;
        let offset = abi::page_offset(abi::PAGE_KIND_AUDIT, cpu);
        Ok(Self {
            mapping: Mapping::new(fd, offset, len, Protection::Read)?,
            records: u64::from(records),
        })
    }

    /// Number of records in the ring.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Number of the newest switch; 0 if there was none.
    pub fn newest(&self) -> u64 {
        (0..self.records)
            .map(|slot| self.word(slot, 0))
            .max()
            .unwrap_or(0)
    }

    /// Reads the record of a switch; the first switch has number 1. A sequence number of 0 in the
    /// slot means that the kernel is writing to it.
    pub fn read(&self, sequence: u64) -> Found {
        if sequence == 0 {
            return Found::NotYet;
        }
        let slot = sequence % self.records;
        for _ in 0..TRIES {
            let before = self.word(slot, 0);
            match before.cmp(&sequence) {
                CmpOrdering::Less => return Found::NotYet,
                CmpOrdering::Greater => return Found::Overwritten,
                CmpOrdering::Equal => {}
            }
            // ORDERING: the other words are loaded after the sequence number.
            fence(Ordering::Acquire);
            let words: [u64; RECORD_WORDS] = core::array::from_fn(|index| self.word(slot, index));
            // ORDERING: the words are read before the sequence number is read again.
            fence(Ordering::Acquire);
            let after = self.word(slot, 0);
            if before == after {
                return Found::Record(Record::from_words(words));
            }
        }
        Found::NotYet
    }

    /// One word of a slot, read once.
    fn word(&self, slot: u64, index: usize) -> u64 {
        // CAST: below the number of records.
        let offset = (slot % self.records) as usize * RECORD_LEN + index % RECORD_WORDS * 8;
        // ORDERING: `read` has the fences.
        self.mapping
            .word::<AtomicU64>(offset)
            .load(Ordering::Relaxed)
    }
}

/// What [`Follower::step`] found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record.
    Record(Record),
    /// This many switches were overwritten before they could be read.
    Missed(u64),
}

/// Reads a ring in order and counts what it missed.
///
/// ```no_run
/// use vtl::audit::{Follower, Step};
///
/// # fn main() -> Result<(), vtl::Error> {
/// let mshv = vtl::Mshv::open()?;
/// let ring = mshv.create_vtl()?.map_audit_ring(0, &mshv.info()?)?;
/// let mut follower = Follower::from_oldest(ring);
/// while let Some(step) = follower.step() {
///     match step {
///         Step::Record(record) => println!("{} {}", record.sequence, record.exit_kind),
///         Step::Missed(count) => println!("{count} switches missed"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Follower {
    ring: Ring,
    next: u64,
    /// The last step found an overwritten record, too.
    was_overrun: bool,
}

impl Follower {
    /// Begins with the oldest record that is still there.
    pub fn from_oldest(ring: Ring) -> Self {
        let next = oldest(ring.newest(), ring.records);
        Self::at(ring, next)
    }

    /// Begins with the next switch.
    pub fn from_now(ring: Ring) -> Self {
        let next = ring.newest() + 1;
        Self::at(ring, next)
    }

    const fn at(ring: Ring, next: u64) -> Self {
        Self {
            ring,
            next,
            was_overrun: false,
        }
    }

    /// Returns the next record, or how many were missed; `None` if there is no new one yet.
    pub fn step(&mut self) -> Option<Step> {
        match self.ring.read(self.next) {
            Found::Record(record) => {
                self.was_overrun = false;
                self.next += 1;
                Some(Step::Record(record))
            }
            Found::NotYet => None,
            Found::Overwritten => {
                // The oldest one that is still there. If that is lost while it is read, the next time
                // with some room.
                let was_overrun = core::mem::replace(&mut self.was_overrun, true);
                let room = if was_overrun {
                    self.ring.records / 8
                } else {
                    0
                };
                let resume = oldest(self.ring.newest(), self.ring.records) + room;
                let missed = resume.saturating_sub(self.next).max(1);
                self.next += missed;
                Some(Step::Missed(missed))
            }
        }
    }
}

/// The oldest switch in a ring whose newest is `newest`.
fn oldest(newest: u64, records: u64) -> u64 {
    newest.saturating_sub(records) + 1
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
