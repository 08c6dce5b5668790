// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From a linear address of the guest to guest-physical memory: segmentation is the caller's, this
//! is paging in its three forms that a guest here can have. [SDM3 4]

use vm_memory::{Bytes as _, GuestAddress, GuestMemory};

/// How the guest translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const LMA: u64 = 1 << 10;

impl Paging {
    /// That of 64-bit code.
    pub const fn long(cr3: u64) -> Self {
        Self {
            cr0: PG,
            cr3,
            cr4: PAE,
            efer: LMA,
        }
    }

    /// The address, if it is mapped. Rights are not checked: the processor has fetched from there.
    pub fn translate<M: GuestMemory>(&self, memory: &M, linear: u64) -> Option<u64> {
        if self.cr0 & PG == 0 {
            return Some(linear & 0xffff_ffff);
        }
        if self.efer & LMA != 0 {
            return walk(memory, self.cr3 & ADDRESS, linear, 4);
        }
        let linear = linear & 0xffff_ffff;
        if self.cr4 & PAE == 0 {
            return walk_32(memory, self.cr3, self.cr4, linear);
        }
        let pointer: u64 = memory
            .read_obj(GuestAddress((self.cr3 & 0xffff_ffe0) + 8 * (linear >> 30)))
            .ok()?;
        (pointer & PRESENT != 0).then_some(())?;
        walk(memory, pointer & ADDRESS, linear, 2)
    }
}

/// Tables of 512 entries, `levels` of them.
fn walk<M: GuestMemory>(memory: &M, table: u64, linear: u64, levels: u32) -> Option<u64> {
    let mut table = table;
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let index = (linear >> shift) & 0x1ff;
        let entry: u64 = memory.read_obj(GuestAddress(table + 8 * index)).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        // No large pages at the upper two of four levels but 1 GiB.
        if level == 0 || (entry & LARGE != 0 && level <= 2) {
            let offset = (1 << shift) - 1;
            return Some((entry & ADDRESS & !offset) | (linear & offset));
        }
        table = entry & ADDRESS;
    }
    None
}

fn walk_32<M: GuestMemory>(memory: &M, cr3: u64, cr4: u64, linear: u64) -> Option<u64> {
    const PSE: u64 = 1 << 4;
    const LARGE_32: u32 = 1 << 7;
    let entry_at = |table: u64, index: u64| -> Option<u32> {
        let entry: u32 = memory.read_obj(GuestAddress(table + 4 * index)).ok()?;
        (entry & 1 != 0).then_some(entry)
    };
    let directory = entry_at(cr3 & 0xffff_f000, linear >> 22)?;
    if directory & LARGE_32 != 0 && cr4 & PSE != 0 {
        return Some(u64::from(directory & 0xffc0_0000) | (linear & 0x3f_ffff));
    }
    let page = entry_at(u64::from(directory & 0xffff_f000), (linear >> 12) & 0x3ff)?;
    Some(u64::from(page & 0xffff_f000) | (linear & 0xfff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::ram;

    const LONG: Paging = Paging::long(0x1000);

    #[test]
    fn long_mode_has_pages_of_three_sizes() {
        let memory = ram(&[(0, 0x10_0000)]);
        let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
        put(0x1000, 0x2003);
        put(0x2000, 0x4000_0083);
        put(0x2008, 0x3003);
        put(0x3000, 0x1_2340_0083);
        put(0x3008, 0x4003);
        put(0x4000, 0x8000_0000_5678_9063);
        assert_eq!(LONG.translate(&memory, 0x1234), Some(0x4000_1234));
        assert_eq!(LONG.translate(&memory, 0x4000_1234), Some(0x1_2340_1234));
        assert_eq!(LONG.translate(&memory, 0x4020_0fff), Some(0x5678_9fff));
        assert_eq!(LONG.translate(&memory, 0x4020_1000), None);
        assert_eq!(LONG.translate(&memory, 1 << 39), None);
    }

    #[test]
    fn tables_outside_of_memory_translate_nothing() {
        let memory = ram(&[(0, 0x10_0000)]);
        for cr3 in [0x10_0000, ADDRESS, u64::MAX] {
            assert_eq!(Paging { cr3, ..LONG }.translate(&memory, 0), None);
            let pae = Paging {
                cr3,
                efer: 0,
                ..LONG
            };
            assert_eq!(pae.translate(&memory, u64::MAX), None);
            let old = Paging {
                cr3,
                efer: 0,
                cr4: 0,
                ..LONG
            };
            assert_eq!(old.translate(&memory, u64::MAX), None);
        }
        memory
            .write_obj(ADDRESS | 1, GuestAddress(0x1000))
            .expect("RAM");
        assert_eq!(LONG.translate(&memory, 0), None);
    }

    #[test]
    fn without_paging_addresses_are_32_bits() {
        let memory = ram(&[(0, 0x1000)]);
        let flat = Paging { cr0: 1, ..LONG };
        assert_eq!(flat.translate(&memory, 0x1_0000_1234), Some(0x1234));
    }

    #[test]
    fn a_page_directory_has_large_pages() {
        let memory = ram(&[(0, 0x10_0000)]);
        let put = |at: u64, entry: u32| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
        put(0x1000, 0x0080_0083);
        put(0x1004, 0x2003);
        put(0x2000, 0x0001_2003);
        let old = Paging {
            efer: 0,
            cr4: 1 << 4,
            ..LONG
        };
        assert_eq!(old.translate(&memory, 0x1234), Some(0x0080_1234));
        assert_eq!(old.translate(&memory, 0x40_0567), Some(0x1_2567));
        assert_eq!(old.translate(&memory, 0x80_0000), None);
    }
}
