// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page tables of four levels, made in memory of this process and copied to VTL1's.

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PAGE: u64 = 4096;

/// What VTL1 may do with a page. None is both writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Self::Read => PRESENT | NO_EXECUTE,
            Self::Write => PRESENT | WRITABLE | NO_EXECUTE,
            Self::Execute => PRESENT,
        }
    }
}

/// Tables that will be at `base`, one page each; the first is the top level.
pub(crate) struct Tables {
    base: u64,
    most: usize,
    tables: Vec<[u64; 512]>,
}

impl Tables {
    /// Makes an empty top level, with room for `most` tables from `base` on.
    pub(crate) fn new(base: u64, most: usize) -> Self {
        Self {
            base,
            most,
            tables: vec![[0; 512]],
        }
    }

    /// Guest-physical address of the top level.
    pub(crate) fn root(&self) -> u64 {
        self.base
    }

    /// Contents, from the base on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = self.tables.iter().flatten();
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Maps 4 KiB; `None` without room for a table, or if something is mapped there.
    pub(crate) fn map_page(&mut self, address: u64, gpa: u64, access: Access) -> Option<()> {
        let table = self.table(address, 12)?;
        self.set(table, address >> 12, gpa | access.bits())
    }

    /// Maps 2 MiB likewise.
    pub(crate) fn map_large(&mut self, address: u64, gpa: u64, access: Access) -> Option<()> {
        let table = self.table(address, 21)?;
        self.set(table, address >> 21, gpa | access.bits() | LARGE)
    }

    /// Returns the table whose entries are for `1 << shift` bytes each, and makes those above it.
    fn table(&mut self, address: u64, shift: u32) -> Option<usize> {
        let mut table = 0;
        for level in [39, 30, 21].into_iter().filter(|&level| level > shift) {
            let index = index(address >> level);
            let entry = self.tables[table][index];
            table = match entry {
                0 => {
                    let next = self.tables.len();
                    if next == self.most {
                        return None;
                    }
                    self.tables.push([0; 512]);
                    // CAST: widening.
                    let gpa = self.base + PAGE * next as u64;
                    self.tables[table][index] = gpa | PRESENT | WRITABLE;
                    next
                }
                _ if entry & LARGE != 0 => return None,
                // CAST: a table of this list.
                _ => (((entry & FRAME) - self.base) / PAGE) as usize,
            };
        }
        Some(table)
    }

    fn set(&mut self, table: usize, number: u64, entry: u64) -> Option<()> {
        let place = &mut self.tables[table][index(number)];
        if *place != 0 {
            return None;
        }
        *place = entry;
        Some(())
    }
}

fn index(number: u64) -> usize {
    // CAST: nine bits.
    (number & 511) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x40_0000;

    /// Walks the tables as the processor does; returns the last entry and the rest of the address.
    fn walk(tables: &Tables, address: u64) -> Option<(u64, u64)> {
        let bytes = tables.bytes();
        let mut table = tables.root();
        for level in [39, 30, 21, 12] {
            let at = (table - BASE) as usize + 8 * index(address >> level);
            let entry = u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?);
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 12 || entry & LARGE != 0 {
                return Some((entry, address & ((1 << level) - 1)));
            }
            table = entry & FRAME;
        }
        None
    }

    #[test]
    fn what_is_mapped_is_found_with_its_access() {
        let mut tables = Tables::new(BASE, 10);
        let high = 0xffff_ffff_8000_0000;
        assert_eq!(tables.map_page(high, 0x60_1000, Access::Execute), Some(()));
        assert_eq!(
            tables.map_page(high + PAGE, 0x60_2000, Access::Read),
            Some(())
        );
        assert_eq!(tables.map_large(0, 0, Access::Write), Some(()));
        assert_eq!(walk(&tables, high + 5), Some((0x60_1000 | PRESENT, 5)));
        let read = 0x60_2000 | PRESENT | NO_EXECUTE;
        assert_eq!(walk(&tables, high + PAGE), Some((read, 0)));
        let write = PRESENT | WRITABLE | NO_EXECUTE | LARGE;
        assert_eq!(walk(&tables, 0x1f_ffff), Some((write, 0x1f_ffff)));
        assert_eq!(walk(&tables, high + 2 * PAGE), None);
        assert_eq!(walk(&tables, 0x20_0000), None);
    }

    #[test]
    fn nothing_is_mapped_twice_or_without_room() {
        let mut tables = Tables::new(BASE, 4);
        assert_eq!(tables.map_page(0, 0, Access::Read), Some(()));
        assert_eq!(tables.map_page(0, PAGE, Access::Read), None);
        assert_eq!(tables.map_large(0, 0, Access::Read), None);
        assert_eq!(tables.map_page(1 << 39, 0, Access::Read), None);
        let mut tables = Tables::new(BASE, 4);
        assert_eq!(tables.map_large(0, 0, Access::Read), Some(()));
        assert_eq!(tables.map_page(PAGE, 0, Access::Read), None);
    }
}
