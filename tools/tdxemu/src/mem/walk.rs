// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Walking a guest's own page tables, to fetch the bytes of an instruction that left the guest.
//!
//! The processor has translated the address a moment ago, so permissions are not checked again.

/// Paging state of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const PSE: u64 = 1 << 4;
const LA57: u64 = 1 << 12;
const LMA: u64 = 1 << 10;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Translates a linear address. `read` returns the 8 bytes at a guest-physical address, or `None`
/// if there is no memory.
pub fn translate(paging: Paging, gla: u64, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    if paging.cr0 & PG == 0 {
        return Some(gla & 0xffff_ffff);
    }
    if paging.cr4 & PAE == 0 {
        return translate_32_bit(paging, gla, read);
    }
    let levels = match (paging.efer & LMA != 0, paging.cr4 & LA57 != 0) {
        (true, true) => 5,
        (true, false) => 4,
        (false, _) => 3,
    };
    let mut table = if levels == 3 {
        paging.cr3 & 0xffff_ffe0
    } else {
        paging.cr3 & ADDRESS
    };
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let mask = if level == 2 && levels == 3 { 3 } else { 511 };
        let entry = read(table + 8 * ((gla >> shift) & mask))?;
        if entry & PRESENT == 0 {
            return None;
        }
        let can_be_large = level == 1 || (level == 2 && levels > 3);
        let is_leaf = level == 0 || (can_be_large && entry & LARGE != 0);
        if is_leaf {
            let offset_mask = (1u64 << shift) - 1;
            return Some((entry & ADDRESS & !offset_mask) | (gla & offset_mask));
        }
        table = entry & ADDRESS;
    }
    None
}

fn translate_32_bit(paging: Paging, gla: u64, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    let read_u32 = |address: u64| {
        let word = read(address & !7)?;
        Some(if address & 4 == 0 {
            word & 0xffff_ffff
        } else {
            word >> 32
        })
    };
    let directory = read_u32((paging.cr3 & 0xffff_f000) + 4 * ((gla >> 22) & 1023))?;
    if directory & PRESENT == 0 {
        return None;
    }
    if directory & LARGE != 0 && paging.cr4 & PSE != 0 {
        let high = (directory >> 13) & 0xff;
        return Some((high << 32) | (directory & 0xffc0_0000) | (gla & 0x3f_ffff));
    }
    let entry = read_u32((directory & 0xffff_f000) + 4 * ((gla >> 12) & 1023))?;
    (entry & PRESENT != 0).then_some((entry & 0xffff_f000) | (gla & 0xfff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn walk(paging: Paging, gla: u64, entries: &[(u64, u64)]) -> Option<u64> {
        let memory: HashMap<u64, u64> = entries.iter().copied().collect();
        translate(paging, gla, |address| {
            Some(*memory.get(&address).unwrap_or(&0))
        })
    }

    const LONG: Paging = Paging {
        cr0: PG,
        cr3: 0x1000,
        cr4: PAE,
        efer: LMA,
    };

    #[test]
    fn four_levels_end_in_a_small_page() {
        let entries = [
            (0x1000, 0x2001),
            (0x2008, 0x3001),
            (0x3010, 0x4001),
            (0x4018, 0x7001),
        ];
        let gla = (1 << 30) | (2 << 21) | (3 << 12) | 0x123;
        assert_eq!(walk(LONG, gla, &entries), Some(0x7123));
    }

    #[test]
    fn large_pages_end_early() {
        let entries = [(0x1000, 0x2001), (0x2000, 0x3001), (0x3008, 0x0060_0081)];
        assert_eq!(walk(LONG, 0x20_0456, &entries), Some(0x60_0456));
        let gigabyte = [(0x1000, 0x2001), (0x2008, 0x8000_0081)];
        assert_eq!(walk(LONG, 0x4000_0456, &gigabyte), Some(0x8000_0456));
    }

    #[test]
    fn pae_outside_long_mode_has_three_levels() {
        let paging = Paging {
            efer: 0,
            cr3: 0x1020,
            ..LONG
        };
        let entries = [(0x1038, 0x2001), (0x2000, 0x0020_0081)];
        assert_eq!(walk(paging, 0xc000_0010, &entries), Some(0x20_0010));
    }

    #[test]
    fn no_paging_is_the_identity_and_absence_is_none() {
        assert_eq!(walk(Paging { cr0: 0, ..LONG }, 0xfff0, &[]), Some(0xfff0));
        assert_eq!(walk(LONG, 0xfff0, &[]), None);
    }

    #[test]
    fn two_level_tables_use_both_halves_of_a_word() {
        let paging = Paging {
            cr4: 0,
            efer: 0,
            ..LONG
        };
        let entries = [(0x1000, 0x2001 << 32), (0x2000, 0x5001)];
        assert_eq!(walk(paging, 0x40_0004, &entries), Some(0x5004));
    }
}
