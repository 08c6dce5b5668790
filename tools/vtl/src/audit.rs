// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The audit ring of a virtual processor: one record per switch, written by
//! the kernel, mapped here for reading only.
//!
//! The kernel writes while this side reads. A record is whole when its
//! sequence number is the same before and after: [`Ring::read`]. [`Follower`]
//! goes through a ring in order and says what it missed.

// UNSAFETY: loads from a page that the kernel writes.
#![expect(unsafe_code)]

use core::cmp::Ordering as CmpOrdering;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::abi;
use crate::reason;
use crate::status::Status;
use crate::sys::Mapping;

/// 8-byte words of a record.
pub const RECORD_WORDS: usize = 8;
/// Bytes of a record.
pub const RECORD_LEN: usize = RECORD_WORDS * 8;
/// How often a record that changed while it was read is looked at again; then
/// it is another one.
const TRIES: u32 = 2;

/// Kind of an exit, as audit and statistics tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitKind(pub u8);

impl ExitKind {
    /// A name, or `None` for a kind that this crate does not know.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            reason @ 0..=95 => reason::name(u16::from(reason)),
            96 => Some("HOST_ROUTED"),
            97 => Some("INTERRUPTED"),
            98 => Some("NOT_ENTERED"),
            99 => Some("REFUSED"),
            100 => Some("OTHER"),
            _ => None,
        }
    }
}

impl core::fmt::Display for ExitKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("KIND_{}", self.0)),
        }
    }
}

/// Why a lower VTL was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryReason {
    /// Userspace called.
    Userspace,
    /// The kernel itself dealt with an exit of this kind.
    After(ExitKind),
}

/// One switch to a lower VTL and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the switch on its virtual processor, from 1.
    pub sequence: u64,
    /// TSC before the entry.
    pub entry_tsc: u64,
    /// TSC ticks from there to behind the exit.
    pub cycles: u64,
    /// Completion status and raw exit reason.
    pub status: Status,
    /// Exit qualification.
    pub qualification: u64,
    /// Instruction pointer of the lower VTL after the exit.
    pub rip: u64,
    /// Thread that ran the virtual processor.
    pub thread: u32,
    /// CPU of the virtual processor.
    pub vp: u16,
    /// VM that was entered.
    pub vm: u8,
    /// Why.
    pub entry_reason: EntryReason,
    /// Kind of the exit.
    pub exit_kind: ExitKind,
    /// Bit 0: it may have run; bit 1: an event was cut off; bit 2: the entry
    /// was to invalidate translations.
    pub flags: u8,
}

impl Record {
    /// The record in these words. What is reserved in them is not looked at.
    pub fn from_words(words: [u64; RECORD_WORDS]) -> Self {
        let [
            sequence,
            entry_tsc,
            cycles,
            rax,
            qualification,
            rip,
            who,
            what,
        ] = words;
        let [exit_kind, flags, ..] = what.to_le_bytes();
        let [thread0, thread1, thread2, thread3, vp0, vp1, vm, reason] = who.to_le_bytes();
        Self {
            sequence,
            entry_tsc,
            cycles,
            status: Status::from_raw(rax),
            qualification,
            rip,
            thread: u32::from_le_bytes([thread0, thread1, thread2, thread3]),
            vp: u16::from_le_bytes([vp0, vp1]),
            vm,
            entry_reason: match reason {
                0 => EntryReason::Userspace,
                kind => EntryReason::After(ExitKind(kind - 1)),
            },
            exit_kind: ExitKind(exit_kind),
            flags,
        }
    }

    /// The words as the kernel wrote them.
    pub fn to_words(&self) -> [u64; RECORD_WORDS] {
        let reason = match self.entry_reason {
            EntryReason::Userspace => 0,
            EntryReason::After(kind) => u64::from(kind.0) + 1,
        };
        [
            self.sequence,
            self.entry_tsc,
            self.cycles,
            self.status.raw(),
            self.qualification,
            self.rip,
            u64::from(self.thread)
                | (u64::from(self.vp) << 32)
                | (u64::from(self.vm) << 48)
                | (reason << 56),
            u64::from(self.exit_kind.0) | (u64::from(self.flags) << 8),
        ]
    }
}

/// What stands where a record was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The record, whole.
    Record(Record),
    /// That switch has not happened, or is being written.
    NotYet,
    /// A later switch has taken its place.
    Overwritten,
}

/// The mapped audit ring of one virtual processor.
#[derive(Debug)]
pub struct Ring {
    mapping: Mapping,
    records: u64,
}

impl Ring {
    /// Maps the ring of `cpu`, which has `records` records.
    pub(crate) fn map(fd: impl AsFd, cpu: u32, records: u32) -> Result<Self, Errno> {
        // CAST: u32 fits.
        let len = records as usize * RECORD_LEN;
        let offset = abi::page_offset(abi::PAGE_KIND_AUDIT, cpu);
        Ok(Self {
            mapping: Mapping::read_only(fd, offset, len)?,
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

    /// Looks for the record of a switch. The first one has the number 1; where
    /// 0 stands, the kernel is writing.
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
            // ORDERING: and before it is looked at again.
            fence(Ordering::Acquire);
            let after = self.word(slot, 0);
            if before == after {
                return Found::Record(Record::from_words(words));
            }
        }
        Found::NotYet
    }

    /// One word of a slot, loaded once.
    fn word(&self, slot: u64, index: usize) -> u64 {
        // CAST: below the number of records.
        let offset = (slot % self.records) as usize * RECORD_LEN + index % RECORD_WORDS * 8;
        debug_assert!(offset < self.mapping.len());
        // SAFETY: the slot is below `records` and the word within the record,
        // and `map` made the mapping that long.
        let pointer = unsafe { self.mapping.start().as_ptr().add(offset) };
        // SAFETY:
        // 1. the mapping lives as long as `self`; it is page aligned, and
        //    `offset` is a multiple of 8;
        // 2. the kernel stores whole words, and a relaxed load of 8 bytes is a
        //    plain one, which memory for reading only allows.
        unsafe { AtomicU64::from_ptr(pointer.cast()) }.load(Ordering::Relaxed)
    }
}

/// What comes next in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record.
    Record(Record),
    /// So many switches were overwritten before they were read.
    Missed(u64),
}

/// Reads a ring in order.
#[derive(Debug)]
pub struct Follower {
    ring: Ring,
    next: u64,
}

impl Follower {
    /// Begins with the oldest record that is still there.
    pub fn from_oldest(ring: Ring) -> Self {
        let next = oldest(ring.newest(), ring.records);
        Self { ring, next }
    }

    /// Begins with the next switch.
    pub fn from_now(ring: Ring) -> Self {
        let next = ring.newest() + 1;
        Self { ring, next }
    }

    /// The next record, or how many were missed; `None` if there is none yet.
    pub fn step(&mut self) -> Option<Step> {
        match self.ring.read(self.next) {
            Found::Record(record) => {
                self.next += 1;
                Some(Step::Record(record))
            }
            Found::NotYet => None,
            Found::Overwritten => {
                // Some room, so that the oldest one is not lost while it is read.
                let room = self.ring.records / 8;
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
#[path = "audit_tests.rs"]
mod tests;
