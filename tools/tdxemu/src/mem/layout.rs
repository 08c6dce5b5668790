// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Who gets which part of RAM.
//!
//! From the top of RAM below 3 GiB downwards: VTL0's memory, the firmware pages L1 reads (ACPI
//! tables, mailbox, start-up page tables), the emulator's frame pool, L1's initial RAM disk. The
//! image itself is at 2 MiB, L1's kernel goes to 16 MiB.

use super::map::{Kind, MemoryMap, Range};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Nothing of ours lies above this address.
const LIMIT: u64 = 3 << 30;

/// ACPI tables: root pointer, root table, MADT.
pub const FIRMWARE_ACPI_PAGES: u64 = 2;
/// Mailbox, and the page tables processors start with.
pub const FIRMWARE_NVS_PAGES: u64 = 3;

/// The decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// VTL0's memory.
    pub vtl0: Range,
    /// Firmware pages, ACPI tables first.
    pub firmware: Range,
    /// Frame pool of the emulator.
    pub pool: Range,
    /// Where L1 finds its initial RAM disk.
    pub initrd: Range,
    /// End of the RAM that the TD's page table covers.
    pub ram_end: u64,
}

/// Frames the pool needs: the page table of the TD (4 bytes a page), nested tables of L1's two
/// halves and of three L2 VMs (8 bytes a page each), and what each processor needs.
const fn pool_bytes(ram_end: u64, cpus: u64) -> u64 {
    let pages = ram_end / PAGE;
    let tables = pages * (4 + 5 * 8);
    (tables + cpus * MIB / 2 + 4 * MIB).next_multiple_of(2 * MIB)
}

/// Divides RAM.
///
/// # Errors
///
/// When RAM is too small for the parts, in words for the user.
pub fn plan(
    map: &MemoryMap,
    initrd_bytes: u64,
    vtl0_bytes: u64,
    cpus: u64,
    kernel_end: u64,
) -> Result<Layout, &'static str> {
    const TOO_SMALL: &str =
        "not enough memory below 3 GiB: give QEMU more with -m, or less to vtl0";
    let usable_end = map.ram_end_below(LIMIT).ok_or(TOO_SMALL)?;
    // Firmware keeps its tables right above the usable RAM; the TD's page table covers them.
    let ram_end = usable_end.next_multiple_of(2 * MIB);
    let below = |end: u64, len_bytes: u64, align: u64| -> Result<Range, &'static str> {
        let start = end.checked_sub(len_bytes).ok_or(TOO_SMALL)? & !(align - 1);
        Ok(Range::new(start, start + len_bytes))
    };
    let vtl0 = below(usable_end & !(2 * MIB - 1), vtl0_bytes, 2 * MIB)?;
    let firmware_bytes = (FIRMWARE_ACPI_PAGES + FIRMWARE_NVS_PAGES) * PAGE;
    let firmware = below(vtl0.start, firmware_bytes, PAGE)?;
    let pool = below(firmware.start, pool_bytes(ram_end, cpus), PAGE)?;
    let initrd = below(pool.start, initrd_bytes, PAGE)?;
    if initrd.start < kernel_end || !map.is_all(Range::new(initrd.start, vtl0.end), Kind::Ram) {
        return Err(TOO_SMALL);
    }
    Ok(Layout {
        vtl0,
        firmware,
        pool,
        initrd,
        ram_end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_gib() -> MemoryMap {
        let mut map = MemoryMap::new();
        map.add(Range::new(0, 0x9fc00), Kind::Ram);
        map.add(Range::new(0x10_0000, 0x3ffd_f000), Kind::Ram);
        map.add(Range::new(0x3ffd_f000, 0x4000_0000), Kind::Reserved);
        map
    }

    #[test]
    fn parts_lie_side_by_side_and_vtl0_is_aligned() {
        let layout = plan(&one_gib(), 5_000_000, 64 * MIB, 2, 64 * MIB).unwrap();
        assert_eq!(layout.vtl0.start % (2 * MIB), 0);
        assert_eq!(layout.vtl0.len_bytes(), 64 * MIB);
        assert!(layout.firmware.end <= layout.vtl0.start);
        assert!(layout.pool.end <= layout.firmware.start);
        assert!(layout.initrd.end <= layout.pool.start);
        assert_eq!(layout.ram_end, 0x4000_0000);
    }

    #[test]
    fn a_machine_that_is_too_small_is_refused() {
        assert!(plan(&one_gib(), 0, 2048 * MIB, 1, 64 * MIB).is_err());
        assert!(plan(&one_gib(), 900 * MIB, 64 * MIB, 1, 200 * MIB).is_err());
    }
}
