// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The audit ring of a virtual processor: one record per switch, written by the kernel, mapped
//! read-only.
//!
//! The kernel writes while this side reads. A record is complete if its sequence number is the same
//! before and after reading the rest: see [`Ring::read`]. [`Follower`] reads a ring in order and
//! reports what it missed.

mod record;
mod slots;

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::abi;

pub use record::{EntryReason, ExitKind, RECORD_LEN, RECORD_WORDS, Record};
pub use slots::{Slot, SlotFollower, SlotStep, Slots};

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
    slots: Slots,
}

impl Ring {
    /// Maps the ring of `cpu`, which holds `records` records.
    pub(crate) fn map(fd: impl AsFd, cpu: u32, records: u32) -> Result<Self, Errno> {
        let slots = Slots::map(fd, abi::PAGE_KIND_AUDIT, cpu, records)?;
        Ok(Self { slots })
    }

    /// Number of records in the ring.
    pub fn records(&self) -> u64 {
        self.slots.count()
    }

    /// Number of the newest switch; 0 if there was none.
    pub fn newest(&self) -> u64 {
        self.slots.newest()
    }

    /// Reads the record of a switch; the first switch has number 1. A sequence number of 0 in the
    /// slot means that the kernel is writing to it.
    pub fn read(&self, sequence: u64) -> Found {
        match self.slots.read(sequence) {
            Slot::Words(words) => Found::Record(Record::from_words(words)),
            Slot::NotYet => Found::NotYet,
            Slot::Overwritten => Found::Overwritten,
        }
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
pub struct Follower(SlotFollower);

impl Follower {
    /// Begins with the oldest record that is still there.
    pub fn from_oldest(ring: Ring) -> Self {
        Self(SlotFollower::from(ring.slots, 0))
    }

    /// Begins with the next switch.
    pub fn from_now(ring: Ring) -> Self {
        let next = ring.newest() + 1;
        Self(SlotFollower::from(ring.slots, next))
    }

    /// Returns the next record, or how many were missed; `None` if there is no new one yet.
    pub fn step(&mut self) -> Option<Step> {
        self.0.step().map(|step| match step {
            SlotStep::Slot(words) => Step::Record(Record::from_words(words)),
            SlotStep::Missed(count) => Step::Missed(count),
        })
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
