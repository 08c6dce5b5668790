// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Nested tables of one processor in which an L2 keeps rights that L1 has revoked: a copy of the
//! shared tables, as far down as they differ.

use super::frame::{FramePool, TableFrames};
use svm::npt::{Frames, Npt, OutOfFrames, Rights};

/// Tables of a processor. One instruction of a guest cannot need as many.
const FRAMES: u64 = 64;

/// Frames of a processor for its own tables, reused each time.
struct OwnFrames {
    pool: &'static FramePool,
    /// Of [`FRAMES`] frames; none before they are needed first.
    start: Option<u64>,
    used: u64,
}

impl Frames for OwnFrames {
    fn allocate(&mut self) -> Option<u64> {
        if self.start.is_none() {
            self.start = self.pool.allocate_many(FRAMES);
        }
        let frame = self.start? + 4096 * self.used;
        if self.used == FRAMES {
            return None;
        }
        self.used += 1;
        for index in 0..512 {
            self.write_entry(frame, index, 0);
        }
        Some(frame)
    }

    fn read_entry(&self, table_pa: u64, index: usize) -> u64 {
        TableFrames(self.pool).read_entry(table_pa, index)
    }

    fn write_entry(&mut self, table_pa: u64, index: usize, entry: u64) {
        TableFrames(self.pool).write_entry(table_pa, index, entry);
    }
}

/// The tables, while there is anything in them.
struct OwnTables {
    npt: Npt,
    /// Root of what they are a copy of.
    base_pa: u64,
    /// How often the processor had flushed when they were begun.
    flushes: u64,
}

/// Old rights of a processor.
pub struct Overlay {
    frames: OwnFrames,
    tables: Option<OwnTables>,
}

impl Overlay {
    /// None yet.
    pub fn new(pool: &'static FramePool) -> Self {
        let frames = OwnFrames {
            pool,
            start: None,
            used: 0,
        };
        Self {
            frames,
            tables: None,
        }
    }

    /// Returns true if an L2 with these tables has rights of its own on this processor.
    pub fn is_in_use(&self) -> bool {
        self.tables.is_some()
    }

    /// The root for the next run of an L2 whose shared tables have this one. `flushes` counts what
    /// ends all old rights of this processor.
    pub fn root_pa(&mut self, base_pa: u64, flushes: u64) -> u64 {
        match &self.tables {
            Some(tables) if tables.base_pa == base_pa && tables.flushes == flushes => {
                tables.npt.root_pa()
            }
            Some(_) => {
                self.tables = None;
                base_pa
            }
            None => base_pa,
        }
    }

    /// Removes all tables.
    pub fn clear(&mut self) {
        self.tables = None;
    }

    /// Lets the L2 use a page with these rights until the processor flushes.
    pub fn map(&mut self, base_pa: u64, flushes: u64, gpa: u64, rights: Rights) {
        self.root_pa(base_pa, flushes);
        if self.try_map(base_pa, flushes, gpa, rights).is_err() {
            // Full: what was in it may be faulted in again.
            self.tables = None;
            let again = self.try_map(base_pa, flushes, gpa, rights);
            assert!(again.is_ok(), "no frames left for old rights of an L2");
        }
    }

    fn try_map(
        &mut self,
        base_pa: u64,
        flushes: u64,
        gpa: u64,
        rights: Rights,
    ) -> Result<(), OutOfFrames> {
        let base = Npt::at(base_pa);
        let npt = match &self.tables {
            Some(tables) => tables.npt,
            None => {
                self.frames.used = 0;
                let npt = base.copy(&mut self.frames)?;
                self.tables = Some(OwnTables {
                    npt,
                    base_pa,
                    flushes,
                });
                npt
            }
        };
        let page = gpa & !0xfff;
        npt.map_apart(&mut self.frames, &base, page, page, rights)
    }
}
