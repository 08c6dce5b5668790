// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Nested page tables: guest-physical to host-physical, 4 KiB entries, four levels.
//!
//! Only 4 KiB leaves: with a larger nested page TCG treats every guest page as large and flushes
//! its whole TLB at each INVLPG. The tables live in frames that a [`Frames`] provider owns and
//! accesses; this file holds no pointer.

use core::fmt;

/// Access rights of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Writes pass.
    pub is_writable: bool,
    /// Instruction fetches pass.
    pub is_executable: bool,
}

impl Rights {
    /// Everything allowed.
    pub const ALL: Self = Self {
        is_writable: true,
        is_executable: true,
    };
}

/// Memory of the tables.
pub trait Frames {
    /// Returns a zeroed 4 KiB frame, or `None` if none is left.
    fn allocate(&mut self) -> Option<u64>;
    /// Entry `index` (0..512) of the table at `table_pa`.
    fn read_entry(&self, table_pa: u64, index: usize) -> u64;
    /// Writes one entry.
    fn write_entry(&mut self, table_pa: u64, index: usize, entry: u64);
}

/// No frame was left for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no frame left for a nested page table")
    }
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
// Nested walks count as user accesses.
const USER: u64 = 1 << 2;
// Set beforehand: TCG would otherwise remove the write permission to track the dirty bit.
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED;

/// Bits of a guest-physical address that four levels translate.
pub const GPA_BITS: u32 = 48;

/// One nested address space, by the address of its root.
#[derive(Clone, Copy, Debug)]
pub struct Npt {
    root_pa: u64,
}

const fn index(gpa: u64, level: u32) -> usize {
    ((gpa >> (12 + 9 * level)) & 511) as usize // CAST: nine bits
}

const fn leaf(hpa: u64, rights: Rights) -> u64 {
    let mut leaf = (hpa & ADDRESS) | PRESENT | USER | ACCESSED | DIRTY;
    if rights.is_writable {
        leaf |= WRITABLE;
    }
    if !rights.is_executable {
        leaf |= NO_EXECUTE;
    }
    leaf
}

fn copy_table(frames: &mut impl Frames, table_pa: u64) -> Result<u64, OutOfFrames> {
    let copy = frames.allocate().ok_or(OutOfFrames)?;
    for index in 0..512 {
        let entry = frames.read_entry(table_pa, index);
        frames.write_entry(copy, index, entry);
    }
    Ok(copy)
}

impl Npt {
    /// An empty address space.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn new(frames: &mut impl Frames) -> Result<Self, OutOfFrames> {
        Ok(Self {
            root_pa: frames.allocate().ok_or(OutOfFrames)?,
        })
    }

    /// The address space with this root, which [`Self::new`] or [`Self::copy`] made.
    pub const fn at(root_pa: u64) -> Self {
        Self { root_pa }
    }

    /// An address space that shares all tables below its root with this one.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn copy(&self, frames: &mut impl Frames) -> Result<Self, OutOfFrames> {
        Ok(Self {
            root_pa: copy_table(frames, self.root_pa)?,
        })
    }

    /// Maps one 4 KiB page in a copy of `base`, which is not changed: tables on the path that both
    /// share are copied first.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]; then nothing has changed that a guest can see.
    pub fn map_apart(
        &self,
        frames: &mut impl Frames,
        base: &Self,
        gpa: u64,
        hpa: u64,
        rights: Rights,
    ) -> Result<(), OutOfFrames> {
        let (mut table, mut base_table) = (self.root_pa, Some(base.root_pa));
        for level in [3, 2, 1] {
            let next = |table| {
                let entry = frames.read_entry(table, index(gpa, level));
                (entry & PRESENT != 0).then_some(entry & ADDRESS)
            };
            let (own, shared) = (next(table), base_table.and_then(next));
            let below = match own {
                Some(own) if shared != Some(own) => own,
                _ => {
                    let frame = match own {
                        Some(shared) => copy_table(frames, shared)?,
                        None => frames.allocate().ok_or(OutOfFrames)?,
                    };
                    frames.write_entry(table, index(gpa, level), frame | TABLE);
                    frame
                }
            };
            (table, base_table) = (below, shared);
        }
        frames.write_entry(table, index(gpa, 0), leaf(hpa, rights));
        Ok(())
    }

    /// Value for the VMCB.
    pub const fn root_pa(&self) -> u64 {
        self.root_pa
    }

    /// Maps one 4 KiB page, replacing what was there.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]; then nothing changed that a guest can see.
    pub fn map(
        &self,
        frames: &mut impl Frames,
        gpa: u64,
        hpa: u64,
        rights: Rights,
    ) -> Result<(), OutOfFrames> {
        let table = self.leaf_table_or_new(frames, gpa)?;
        frames.write_entry(table, index(gpa, 0), leaf(hpa, rights));
        Ok(())
    }

    /// Maps a range of whole pages to the same host-physical addresses, with all rights. Meant
    /// for all of RAM: a table is looked up once for its 512 pages.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]; then a part of the range is mapped.
    pub fn map_identity(
        &self,
        frames: &mut impl Frames,
        start: u64,
        end: u64,
    ) -> Result<(), OutOfFrames> {
        const TABLE_BYTES: u64 = 512 << 12;
        let mut gpa = start;
        while gpa < end {
            let table = self.leaf_table_or_new(frames, gpa)?;
            let table_end = end.min((gpa | (TABLE_BYTES - 1)) + 1);
            while gpa < table_end {
                frames.write_entry(table, index(gpa, 0), leaf(gpa, Rights::ALL));
                gpa += 4096;
            }
        }
        Ok(())
    }

    fn leaf_table_or_new(&self, frames: &mut impl Frames, gpa: u64) -> Result<u64, OutOfFrames> {
        let mut table = self.root_pa;
        for level in [3, 2, 1] {
            let entry = frames.read_entry(table, index(gpa, level));
            table = if entry & PRESENT != 0 {
                entry & ADDRESS
            } else {
                let frame = frames.allocate().ok_or(OutOfFrames)?;
                frames.write_entry(table, index(gpa, level), frame | TABLE);
                frame
            };
        }
        Ok(table)
    }

    /// Makes this address space use `other`'s tables for the 512 GiB around `gpa`.
    pub fn share_lower_tables(&self, frames: &mut impl Frames, other: &Self, gpa: u64) {
        let entry = frames.read_entry(other.root_pa, index(gpa, 3));
        frames.write_entry(self.root_pa, index(gpa, 3), entry);
    }

    /// Address of the table for the 512 GiB around `gpa`, of three levels, if there is one.
    pub fn lower_table_pa(&self, frames: &impl Frames, gpa: u64) -> Option<u64> {
        let entry = frames.read_entry(self.root_pa, index(gpa, 3));
        (entry & PRESENT != 0).then_some(entry & ADDRESS)
    }

    /// Unmaps one page. Returns true if it was mapped, so that processors inside the guest may
    /// still hold a translation.
    pub fn unmap(&self, frames: &mut impl Frames, gpa: u64) -> bool {
        let Some(table) = self.leaf_table(frames, gpa) else {
            return false;
        };
        let was_present = frames.read_entry(table, index(gpa, 0)) & PRESENT != 0;
        frames.write_entry(table, index(gpa, 0), 0);
        was_present
    }

    /// Rights of a mapped page.
    pub fn rights(&self, frames: &impl Frames, gpa: u64) -> Option<Rights> {
        let table = self.leaf_table(frames, gpa)?;
        let entry = frames.read_entry(table, index(gpa, 0));
        (entry & PRESENT != 0).then_some(Rights {
            is_writable: entry & WRITABLE != 0,
            is_executable: entry & NO_EXECUTE == 0,
        })
    }

    fn leaf_table(&self, frames: &impl Frames, gpa: u64) -> Option<u64> {
        let mut table = self.root_pa;
        for level in [3, 2, 1] {
            let entry = frames.read_entry(table, index(gpa, level));
            if entry & PRESENT == 0 {
                return None;
            }
            table = entry & ADDRESS;
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Pool(Vec<[u64; 512]>, usize);

    impl Pool {
        fn with_capacity(frames: usize) -> Self {
            Self(Vec::new(), frames)
        }
    }

    impl Frames for Pool {
        fn allocate(&mut self) -> Option<u64> {
            if self.0.len() == self.1 {
                return None;
            }
            self.0.push([0; 512]);
            Some((self.0.len() as u64) << 12)
        }
        fn read_entry(&self, table_pa: u64, index: usize) -> u64 {
            self.0[(table_pa >> 12) as usize - 1][index]
        }
        fn write_entry(&mut self, table_pa: u64, index: usize, entry: u64) {
            self.0[(table_pa >> 12) as usize - 1][index] = entry;
        }
    }

    #[test]
    fn private_and_shared_alias_are_two_mappings() {
        let mut pool = Pool::with_capacity(16);
        let npt = Npt::new(&mut pool).unwrap();
        npt.map(&mut pool, 0x5000, 0x5000, Rights::ALL).unwrap();
        assert_eq!(npt.rights(&pool, 0x5000), Some(Rights::ALL));
        assert_eq!(npt.rights(&pool, 0x5000 | (1 << 47)), None);
        let read_only = Rights {
            is_writable: false,
            is_executable: false,
        };
        npt.map(&mut pool, 0x5000 | (1 << 47), 0x5000, read_only)
            .unwrap();
        assert_eq!(npt.rights(&pool, 0x5000 | (1 << 47)), Some(read_only));
        assert!(npt.unmap(&mut pool, 0x5000));
        assert!(!npt.unmap(&mut pool, 0x5000));
        assert_eq!(npt.rights(&pool, 0x5000 | (1 << 47)), Some(read_only));
    }

    #[test]
    fn a_range_maps_its_pages_and_no_other() {
        let mut pool = Pool::with_capacity(16);
        let (whole, single) = (Npt::new(&mut pool).unwrap(), Npt::new(&mut pool).unwrap());
        // Over the end of a table, and over a GiB.
        let (start, end) = (0x3fff_e000, 0x4000_3000);
        whole.map_identity(&mut pool, start, end).unwrap();
        for gpa in (start..end).step_by(4096) {
            single.map(&mut pool, gpa, gpa, Rights::ALL).unwrap();
            let entry = |npt: &Npt| {
                let table = npt.leaf_table(&pool, gpa).unwrap();
                pool.read_entry(table, index(gpa, 0))
            };
            assert_eq!(entry(&whole), entry(&single));
        }
        assert_eq!(whole.rights(&pool, start - 4096), None);
        assert_eq!(whole.rights(&pool, end), None);
        let empty = Npt::new(&mut pool).unwrap();
        empty.map_identity(&mut pool, 0x5000, 0x5000).unwrap();
        assert_eq!(empty.rights(&pool, 0x5000), None);
        let mut small = Pool::with_capacity(4);
        let npt = Npt::new(&mut small).unwrap();
        assert_eq!(npt.map_identity(&mut small, start, end), Err(OutOfFrames));
    }

    #[test]
    fn lower_tables_are_shared_and_other_halves_are_not() {
        let mut pool = Pool::with_capacity(16);
        let (all, private) = (Npt::new(&mut pool).unwrap(), Npt::new(&mut pool).unwrap());
        for gpa in [0x5000, 0x5000 | (1 << 47)] {
            all.map(&mut pool, gpa, 0x5000, Rights::ALL).unwrap();
        }
        private.share_lower_tables(&mut pool, &all, 0x5000);
        assert_eq!(private.rights(&pool, 0x5000), Some(Rights::ALL));
        assert_eq!(private.rights(&pool, 0x5000 | (1 << 47)), None);
        // Later changes are seen by both.
        assert!(all.unmap(&mut pool, 0x5000));
        assert_eq!(private.rights(&pool, 0x5000), None);
    }

    #[test]
    fn a_page_of_a_copy_is_mapped_apart_and_the_rest_stays_shared() {
        let mut pool = Pool::with_capacity(16);
        let base = Npt::new(&mut pool).unwrap();
        let (page, neighbour, far) = (0x5000, 0x6000, 0x40_0000);
        for gpa in [neighbour, far] {
            base.map(&mut pool, gpa, gpa, Rights::ALL).unwrap();
        }
        let copy = base.copy(&mut pool).unwrap();
        copy.map_apart(&mut pool, &base, page, page, Rights::ALL)
            .unwrap();
        assert_eq!(copy.rights(&pool, page), Some(Rights::ALL));
        assert_eq!(base.rights(&pool, page), None);
        assert_eq!(copy.rights(&pool, neighbour), Some(Rights::ALL));
        // Its table is the copy's own now, that of a page far away is not.
        assert!(base.unmap(&mut pool, neighbour) && base.unmap(&mut pool, far));
        assert_eq!(copy.rights(&pool, neighbour), Some(Rights::ALL));
        assert_eq!(copy.rights(&pool, far), None);
        // Another page of the same table, and one that the base has no tables for.
        let tables = pool.0.len();
        copy.map_apart(&mut pool, &base, 0x7000, 0x7000, Rights::ALL)
            .unwrap();
        assert_eq!(pool.0.len(), tables);
        let above = 1 << 40;
        copy.map_apart(&mut pool, &base, above, above, Rights::ALL)
            .unwrap();
        assert_eq!(copy.rights(&pool, above), Some(Rights::ALL));
        assert_eq!(base.rights(&pool, above), None);
        assert_eq!(copy.rights(&pool, 0x7000), Some(Rights::ALL));
    }

    #[test]
    fn running_out_of_frames_is_an_error() {
        let mut pool = Pool::with_capacity(3);
        let npt = Npt::new(&mut pool).unwrap();
        assert_eq!(npt.map(&mut pool, 0, 0, Rights::ALL), Err(OutOfFrames));
        assert_eq!(npt.rights(&pool, 0), None);
    }

    #[test]
    fn leaf_bits_are_those_tcg_wants() {
        let mut pool = Pool::with_capacity(4);
        let npt = Npt::new(&mut pool).unwrap();
        npt.map(&mut pool, 0, 0x7000, Rights::ALL).unwrap();
        assert_eq!(pool.0[3][0], 0x7067);
    }
}
