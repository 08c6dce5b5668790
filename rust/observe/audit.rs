// SPDX-License-Identifier: GPL-2.0
//! Writes down every switch: one 64-byte record in the ring of the VP, and one count by the kind of
//! the exit.
//!
//! `run.rs` has an [`Entering`] around each entry. The ring is the VP's own and is written by the
//! thread that has the claim to the VP, so nothing is locked or shared; userspace maps it read-only.
//! A record is recognised by its sequence number, which is zero while the others of its words
//! change: a reader that finds the same number before and after has a whole record, and a number
//! higher than the expected one says how many were overwritten.  [Documentation/audit.rst]

use core::sync::atomic::{fence, Ordering};

use kernel::mm::virt::VmaNew;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::glue::ffi;
use crate::glue::page::SharedPage;
use crate::observe::event;
use crate::observe::trace;
use crate::pure::audit::{slot, EntryReason, ExitKind, Switch, RECORD_WORDS};
use crate::pure::exit::Exit;
use crate::pure::vp_enter::EntryRcx;
use crate::run::enter::Operands;
use crate::vp::Vp;

const RECORD_BYTES: usize = RECORD_WORDS * 8;
const RECORDS_PER_PAGE: usize = PAGE_SIZE / RECORD_BYTES;

/// The audit ring of one VP.
pub(crate) struct Ring {
    pages: KVec<SharedPage>,
    records: u32,
}

impl Ring {
    /// An empty ring. `records` was checked by `pure::audit::is_ring_size`.
    pub(crate) fn new(records: u32) -> Result<Self> {
        let count = records as usize / RECORDS_PER_PAGE; // CAST: u32 fits
        let mut pages = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            pages.push(SharedPage::new()?, GFP_KERNEL)?;
        }
        Ok(Self { pages, records })
    }

    /// Maps the whole ring, for reading only, now and for ever.
    ///
    /// # Errors
    ///
    /// EINVAL for another length, or a mapping that can be written.
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

    fn write(&self, sequence: u64, words: &[u64; RECORD_WORDS - 1]) {
        let slot = slot(sequence, self.records);
        let Some(page) = self.pages.get(slot / RECORDS_PER_PAGE) else {
            return; // never: a slot is below the number of records
        };
        let base = slot % RECORDS_PER_PAGE * RECORD_BYTES;
        page.write_u64(base, 0);
        // ORDERING: whoever sees a new word sees that the old sequence number is gone.
        fence(Ordering::Release);
        page.write_few(base + 8, words);
        // ORDERING: whoever sees the new sequence number sees all of the record.
        fence(Ordering::Release);
        page.write_u64(base, sequence);
    }
}

/// How many switches a VP has made. Belongs to whoever has the claim to the VP.
#[derive(Default)]
pub(crate) struct Switches {
    count: u64,
}

/// A switch that has begun.
#[must_use]
pub(crate) struct Entering {
    reason: EntryReason,
    entry_tsc: u64,
}

impl Entering {
    /// To be called immediately before the entry.
    pub(crate) fn new(vp: &Vp, entry_rcx: EntryRcx, reason: EntryReason) -> Self {
        let rip = || vp.run_page.read_rip();
        trace::vtl_enter(entry_rcx.vm().get(), reason.number(), rip);
        Self {
            reason,
            entry_tsc: ffi::tsc(),
        }
    }

    /// To be called immediately after the exit, of which `class` was found. Returns its kind.
    pub(crate) fn record(
        self,
        vp: &Vp,
        switches: &mut Switches,
        thread: u32,
        class: Exit,
        operands: &Operands<'_>,
    ) -> ExitKind {
        let Operands {
            exit,
            rcx: entry_rcx,
            ..
        } = operands;
        let kind = ExitKind::new(class, exit);
        let exit_tsc = ffi::tsc();
        let switch = Switch {
            entry_tsc: self.entry_tsc,
            cycles: exit_tsc.wrapping_sub(self.entry_tsc),
            rip: vp.run_page.read_rip(),
            thread,
            vp: vp.cpu,
            entry_rcx: *entry_rcx,
            reason: self.reason,
            exit,
            class,
            kind,
        };
        // The first record has number 1: 0 says that there is none.
        switches.count = switches.count.wrapping_add(1);
        vp.ring.write(switches.count, &switch.words());
        let storm = vp.stats.count(self.reason, kind, switch.cycles, exit_tsc);
        if let Some(ticks) = storm {
            event::exit_storm(vp.cpu, kind, thread, ticks);
        }
        trace::vtl_exit(entry_rcx.vm().get(), exit, switch.rip, switch.cycles);
        kind
    }
}
