// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The nested address spaces of the TD: L1's, with a private and a shared half, and one per L2.
//!
//! They follow the TD's page table in `tdx_model`, page by page: `machine.rs` calls in here when
//! the model changes a mapping.

use super::frame::{FramePool, TableFrames};
use super::map::Range;
use svm::npt::{Npt, OutOfFrames, Rights};
use tdx_model::gpa::{Gpa, Level, SHARED_BIT, VmIndex};
use tdx_model::machine::L1Mapping;

const PAGE: u64 = 4096;

/// All nested tables of the TD.
pub struct AddressSpaces {
    pool: &'static FramePool,
    l1: Npt,
    l2: [Npt; 3],
    /// The private halves of `l2`, for a processor whose L2_CTLS keeps the host's tables out.
    l2_private: [Npt; 3],
}

impl AddressSpaces {
    /// Empty address spaces.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn new(pool: &'static FramePool) -> Result<Self, OutOfFrames> {
        let frames = &mut TableFrames(pool);
        let l1 = Npt::new(frames)?;
        Ok(Self {
            pool,
            l1,
            l2: [Npt::new(frames)?, Npt::new(frames)?, Npt::new(frames)?],
            l2_private: [Npt::new(frames)?, Npt::new(frames)?, Npt::new(frames)?],
        })
    }

    /// Root of L1's tables.
    pub fn l1_root_pa(&self) -> u64 {
        self.l1.root_pa()
    }

    /// The table, of three levels, of the pages that L1 shares. `None` before there is one.
    pub fn shared_table_pa(&self) -> Option<u64> {
        self.l1.lower_table_pa(&TableFrames(self.pool), SHARED_BIT)
    }

    /// Roots of an L2's tables: without and with the shared pages that the host maps for it.
    pub fn l2_root_pas(&self, vm: VmIndex) -> [u64; 2] {
        let private = &self.l2_private[usize::from(vm.number() - 1)];
        [private.root_pa(), self.l2_npt(vm).root_pa()]
    }

    fn l2_npt(&self, vm: VmIndex) -> &Npt {
        &self.l2[usize::from(vm.number() - 1)]
    }

    /// Maps a page for L1 by one alias, or by none. Returns true if that removed a translation that
    /// processors inside L1 may still hold. RAM has one host address for both aliases.
    pub fn set_l1(&mut self, gpa: Gpa, mapping: L1Mapping) -> Result<bool, OutOfFrames> {
        let private = gpa.without_shared().0;
        let shared = private | SHARED_BIT;
        let frames = &mut TableFrames(self.pool);
        let (wanted, other) = match mapping {
            L1Mapping::Private => (Some(private), shared),
            L1Mapping::Shared => (Some(shared), private),
            L1Mapping::Absent => (None, private),
        };
        let mut was_removed = self.l1.unmap(frames, other);
        match wanted {
            Some(address) => self.l1.map(frames, address, private, Rights::ALL)?,
            None => was_removed |= self.l1.unmap(frames, shared),
        }
        if mapping != L1Mapping::Shared {
            // What the host mapped for an L2 was the shared page that no longer is.
            for npt in &self.l2 {
                was_removed |= npt.unmap(frames, shared);
            }
        }
        Ok(was_removed)
    }

    /// Gives L1 memory of the TD's build, by its private alias. Nothing else maps it yet.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn add_l1(&mut self, range: Range) -> Result<(), OutOfFrames> {
        let frames = &mut TableFrames(self.pool);
        self.l1.map_identity(frames, range.start, range.end)
    }

    /// Maps firmware's legacy area into both halves.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn map_legacy(&mut self, gpa: u64) -> Result<(), OutOfFrames> {
        let frames = &mut TableFrames(self.pool);
        self.l1.map(frames, gpa, gpa, Rights::ALL)?;
        self.l1.map(frames, gpa | SHARED_BIT, gpa, Rights::ALL)
    }

    /// Maps a page for an L2 with these rights, or unmaps it.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn set_l2(
        &mut self,
        vm: VmIndex,
        gpa: Gpa,
        level: Level,
        rights: Option<Rights>,
    ) -> Result<(), OutOfFrames> {
        let npt = *self.l2_npt(vm);
        let frames = &mut TableFrames(self.pool);
        let start = gpa.align_down(level).0;
        for page in (start..start + level.len_bytes()).step_by(PAGE as usize) {
            match rights {
                Some(rights) => npt.map(frames, page, page & !SHARED_BIT, rights)?,
                None => {
                    npt.unmap(frames, page);
                }
            }
        }
        if !gpa.is_shared() {
            let private = &self.l2_private[usize::from(vm.number() - 1)];
            private.share_lower_tables(frames, &npt, start);
        }
        Ok(())
    }

    /// Rights of an L2 at an address now.
    pub fn l2_rights(&self, vm: VmIndex, gpa: u64) -> Option<Rights> {
        self.l2_npt(vm).rights(&TableFrames(self.pool), gpa)
    }
}
