// SPDX-License-Identifier: GPL-2.0
//! The audit ring of a VP: one 64-byte record for every switch, which `run/record.rs` writes.
//!
//! Only the thread with the claim to the VP writes to the VP's ring, so it needs no lock; userspace
//! maps it read-only. The sequence number of a record is zero while its other words change: a
//! reader that finds the same number before and after has read a complete record, and a number
//! higher than expected tells how many were overwritten. [Documentation/audit.rst]

// Not the kernel crate's barriers: `smp_wmb` there is a call of a C function, and this runs on
// every switch. A reader in userspace pairs these fences with those of its language.
use core::sync::atomic::{fence, Ordering};

use kernel::mm::virt::VmaNew;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::glue::page::SharedPage;
use crate::pure::attest::{Hash, Segment};
use crate::pure::audit::{slot, SwitchRecord, RECORD_WORDS};

const RECORD_BYTES: usize = RECORD_WORDS * 8;
const RECORDS_PER_PAGE: usize = PAGE_SIZE / RECORD_BYTES;

/// The audit ring of one VP.
pub(crate) struct Ring {
    pages: KVec<SharedPage>,
    records: u32,
}

impl Ring {
    /// Creates an empty ring. `records` was checked by `pure::audit::is_ring_size`.
    pub(crate) fn new(records: u32) -> Result<Self> {
        let count = records as usize / RECORDS_PER_PAGE; // CAST: u32 fits
        let mut pages = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            pages.push(SharedPage::new()?, GFP_KERNEL)?;
        }
        Ok(Self { pages, records })
    }

    /// Maps the whole ring, permanently read-only.
    ///
    /// # Errors
    ///
    /// EINVAL for another length, or a writable mapping.
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        if vma.end() - vma.start() != self.pages.len() * PAGE_SIZE {
            return Err(EINVAL);
        }
        vma.try_clear_maywrite()?;
        let area = vma.set_mixedmap();
        for (index, page) in self.pages.iter().enumerate() {
            page.map_at(area, vma.start() + index * PAGE_SIZE)?;
        }
        Ok(())
    }

    /// Appends a record. `switches` must be the counter of the same VP.
    #[inline(always)]
    pub(crate) fn record(&self, switches: &mut Switches, switch: &SwitchRecord<'_>) {
        // The first record has number 1: 0 marks an empty slot.
        switches.count = switches.count.wrapping_add(1);
        self.put(switches.count, &switch.words());
    }

    /// Where the record with a number stands.
    #[inline(always)]
    fn place(&self, sequence: u64) -> Option<(&SharedPage, usize)> {
        let slot = slot(sequence, self.records);
        let page = self.pages.get(slot / RECORDS_PER_PAGE)?; // a slot is below the number of records
        Some((page, slot % RECORDS_PER_PAGE * RECORD_BYTES))
    }

    /// Writes the words of a record that is no switch's, and its number. Nobody else writes.
    #[cold]
    pub(super) fn write(&self, sequence: u64, words: &[u64; RECORD_WORDS - 1]) {
        self.put(sequence, words);
    }

    /// The same, inlined: otherwise a switch has a call more, and its words are copied once more.
    #[inline(always)]
    fn put(&self, sequence: u64, words: &[u64; RECORD_WORDS - 1]) {
        let slot = self
            .place(sequence)
            .and_then(|(page, base)| page.few_at::<RECORD_WORDS>(base));
        let Some(slot) = slot else {
            return;
        };
        slot.write(0, 0);
        // ORDERING: a reader that sees a new word also sees that the old sequence number is gone.
        fence(Ordering::Release);
        for (index, word) in words.iter().enumerate() {
            slot.write(1 + index, *word);
        }
        // ORDERING: a reader that sees the new sequence number also sees the whole record.
        fence(Ordering::Release);
        slot.write(0, sequence);
    }

    /// How many records the ring has.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Returns true if the record with a number is there and whole.
    pub(super) fn has(&self, sequence: u64) -> bool {
        let is_there = |(page, base): (&SharedPage, usize)| page.read_u64(base) == sequence;
        let has = self.place(sequence).is_some_and(is_there);
        // ORDERING: with the fences of `write`: what is read from here on is the record's.
        fence(Ordering::Acquire);
        has
    }

    /// SHA-256 of the records of a segment. They are there, and stay.
    pub(super) fn hash(&self, segment: Segment) -> Hash {
        // CAST: an offset in a page; a record has 64 bytes.
        let bytes = segment.count.saturating_mul(RECORD_BYTES as u32);
        let hash = |(page, base): (&SharedPage, usize)| page.sha256(base as u32, bytes);
        self.place(segment.first).map_or([0; 32], hash)
    }
}

/// Number of records in a ring, and the number up to which it may be written. Belongs to the writer; of
/// a VP's ring that is the thread that has the claim to the VP.
pub(crate) struct Switches {
    count: u64,
    limit: u64,
}

impl Switches {
    /// None yet, and `limit` at first; `u64::MAX` where nobody wants them hashed.
    pub(crate) fn new(limit: u64) -> Self {
        Self { count: 0, limit }
    }

    /// Returns true if what is there has to be hashed before there is more.
    #[inline]
    pub(crate) fn is_at_limit(&self) -> bool {
        self.count == self.limit
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// There may be more, up to this one.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Writes one more record, not of a switch.
    pub(super) fn record(&mut self, ring: &Ring, words: &[u64; RECORD_WORDS - 1]) {
        self.count = self.count.wrapping_add(1);
        ring.write(self.count, words);
    }
}
