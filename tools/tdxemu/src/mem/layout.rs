// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Layout of RAM.
//!
//! The image stays where it is linked. VTL0's memory is where the option puts it: from address 0,
//! from a base, or at the top. L1's kernel goes to the first free place at or above its preferred
//! address. The rest goes to the top of what is left, below 4 GiB if it fits there: the firmware
//! pages that L1 reads (ACPI tables, mailbox, start-up page tables), the emulator's frame pool,
//! L1's initial RAM disk.
//!
//! If VTL0's memory begins at 0, a stock kernel at L1 still needs some memory below 1 MiB: see
//! [`L1_WINDOW`] and [`LOW_BUILT`].

use super::map::{Kind, MemoryMap, Range};
use crate::loader::Kernel;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const FOUR_GIB: u64 = 4 << 30;

/// L1's RAM below 1 MiB, for the code that starts its processors. It contains the loader's pages.
/// Below 512 KiB, because a Linux at VTL0 reads what is above when it searches for firmware's
/// tables.
pub const L1_WINDOW: Range = Range::new(0x7_0000, 0x8_0000);
/// Device memory.
const VGA: Range = Range::new(0xa_0000, 0xc_0000);
/// Linux treats it as a ROM, whatever is there, and also reads it through shared addresses.
const SYSTEM_ROM: Range = Range::new(0xf_0000, 0x10_0000);
/// Memory of VTL0 that L1's kernel reads at boot, so it is added when the TD is built: the BIOS
/// data in page 0, and where tables and ROMs are expected.
pub const LOW_BUILT: [Range; 3] = [
    Range::new(0, PAGE),
    Range::new(0x8_0000, VGA.start),
    Range::new(VGA.end, SYSTEM_ROM.start),
];

/// ACPI tables: root pointer, root table, MADT, CCEL.
pub const FIRMWARE_TABLE_PAGES: u64 = 2;
/// What CCEL points to: the event log of the boot, which has the command line in it.
pub const FIRMWARE_LOG_PAGES: u64 = 2;
const FIRMWARE_ACPI_PAGES: u64 = FIRMWARE_TABLE_PAGES + FIRMWARE_LOG_PAGES;
/// Mailbox, and the page tables processors start with.
pub const FIRMWARE_NVS_PAGES: u64 = 3;
/// What has to be left for L1 when everything has its place.
const L1_BYTES: u64 = 128 * MIB;

/// Where VTL0's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top of RAM.
    Top,
    /// From this address on, a multiple of 2 MiB.
    At(u64),
}

/// A piece of memory that the options request for VTL0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// From its first to its last byte, a multiple of 2 MiB.
    pub len_bytes: u64,
    /// Where.
    pub place: Place,
}

/// How many pieces VTL0's memory has at most.
pub const PIECES: usize = 4;

/// The addresses of RAM, below and above those of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ram {
    /// From 0 on. Firmware keeps its tables right above the usable RAM: they are part of it.
    pub low: Range,
    /// From 4 GiB on, or empty.
    pub high: Range,
}

impl Ram {
    fn of(map: &MemoryMap) -> Option<Self> {
        let low_end = map.ram_end_below(FOUR_GIB)?.next_multiple_of(2 * MIB);
        let end = map.ram_end_below(u64::MAX)?;
        Some(Self {
            low: Range::new(0, low_end),
            high: Range::new(FOUR_GIB, end),
        })
    }

    /// Returns true if there is memory at an address, and no device.
    pub const fn contains(&self, gpa: u64) -> bool {
        (self.low.contains(gpa, 1) && !VGA.contains(gpa, 1)) || self.high.contains(gpa, 1)
    }

    /// Returns true if there is memory somewhere in a range.
    pub fn overlaps(&self, range: &Range) -> bool {
        let mut parts = self.parts().into_iter();
        parts.any(|part| !part.is_empty() && part.overlaps(range))
    }

    /// Returns true if a range is memory from its first to its last byte.
    pub fn is_all(&self, range: &Range) -> bool {
        let mut parts = self.parts().into_iter();
        parts.any(|part| part.contains(range.start, range.len_bytes()))
    }

    fn parts(&self) -> [Range; 3] {
        let below_vga = Range::new(self.low.start, VGA.start);
        let above_vga = Range::new(VGA.end, self.low.end);
        [below_vga, above_vga, self.high]
    }

    /// End of the addresses in the page table of the TD.
    pub const fn end(&self) -> u64 {
        if self.high.is_empty() {
            self.low.end
        } else {
            self.high.end
        }
    }

    /// Frames the pool needs: the page table of the TD (4 bytes a page), nested tables of L1's two
    /// halves and of three L2 VMs (8 bytes a page each), and what each processor needs.
    const fn pool_bytes(&self, cpus: u64) -> u64 {
        let known = self.end() / PAGE * 4;
        let tables = (self.low.len_bytes() + self.high.len_bytes()) / PAGE * (5 * 8);
        (known + tables + cpus * MIB / 2 + 4 * MIB).next_multiple_of(2 * MIB)
    }
}

/// The decisions.
#[derive(Clone, Debug)]
pub struct Layout {
    /// VTL0's memory, piece by piece.
    pub vtl0: MemoryMap,
    /// L1's kernel.
    pub kernel: Range,
    /// Firmware pages, ACPI tables first.
    pub firmware: Range,
    /// Frame pool of the emulator.
    pub pool: Range,
    /// Where L1 finds its initial RAM disk.
    pub initrd: Range,
    /// Memory that is anyone's.
    pub ram: Ram,
    /// The emulator.
    image: Range,
}

impl Layout {
    /// The ACPI tables.
    pub const fn tables(&self) -> Range {
        let start = self.firmware.start;
        Range::new(start, start + FIRMWARE_TABLE_PAGES * PAGE)
    }

    /// The event log of the boot.
    pub const fn log(&self) -> Range {
        let start = self.tables().end;
        Range::new(start, start + FIRMWARE_LOG_PAGES * PAGE)
    }

    /// The mailbox, and the page tables that processors start with.
    pub const fn nvs(&self) -> Range {
        Range::new(self.log().end, self.firmware.end)
    }

    /// Returns true if VTL0's memory begins at 0.
    pub fn is_vtl0_low(&self) -> bool {
        self.vtl0.kind_at(0).is_some()
    }

    /// All memory that guests may reach.
    pub fn guests(&self) -> MemoryMap {
        let mut set = MemoryMap::new();
        set.add(self.ram.low, Kind::Ram);
        set.add(self.ram.high, Kind::Ram);
        set.remove(self.image);
        set.remove(self.pool);
        set
    }

    /// VTL0's memory that waits for acceptance.
    pub fn pending(&self) -> MemoryMap {
        let mut set = self.vtl0.clone();
        LOW_BUILT.into_iter().for_each(|range| set.remove(range));
        set
    }

    /// Memory that the TD is built with.
    pub fn built(&self) -> MemoryMap {
        let mut set = self.guests();
        set.remove(VGA);
        for (range, _) in self.pending().iter() {
            set.remove(range);
        }
        set
    }

    /// L1's memory map: firmware's, with the ACPI tables marked as such, because Linux reads any
    /// other reserved memory through shared addresses. The emulator's memory, and addresses of
    /// devices that a TD does not have, are unusable: a TD that used them as memory would wait for
    /// the host forever.
    pub fn l1_map(&self, firmware: &MemoryMap) -> MemoryMap {
        let mut map = MemoryMap::new();
        let low_end = self.ram.low.end;
        for (range, kind) in firmware.iter() {
            let is_firmware_tables = kind == Kind::Reserved
                && (SYSTEM_ROM.end..low_end).contains(&range.start)
                && range.end >= low_end;
            let kind = match kind {
                _ if is_firmware_tables => Kind::Acpi,
                Kind::Reserved if range.start >= low_end => Kind::Unusable,
                other => other,
            };
            map.add(range, kind);
        }
        if self.is_vtl0_low() {
            // Not listed, so that what is above it is an entry of its own: Linux makes an entry
            // that begins below 1 MiB a busy resource.
            map.remove(SYSTEM_ROM);
            map.add(L1_WINDOW, Kind::Ram);
        }
        map.add(self.image, Kind::Unusable);
        map.add(self.pool, Kind::Unusable);
        for (range, _) in self.vtl0.iter() {
            map.add(range, Kind::Reserved);
        }
        map.add(self.tables(), Kind::Acpi);
        map.add(self.log(), Kind::Acpi);
        map.add(self.nvs(), Kind::Nvs);
        map
    }
}

/// Memory that is already used when the rest is divided.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The emulator.
    pub image: Range,
    /// The initial RAM disk, where the loader put it.
    pub initrd: Range,
    /// How many processors L1 has.
    pub cpus: u64,
}

/// Divides RAM.
///
/// # Errors
///
/// When the parts don't fit, in words for the user.
pub fn plan(
    map: &MemoryMap,
    taken: &Taken,
    wanted: &[Option<Wanted>],
    kernel: &Kernel,
) -> Result<Layout, &'static str> {
    const TOO_SMALL: &str =
        "not enough memory for L1 besides VTL0's: give QEMU more with -m, or less to emu.vtl0";
    let ram = Ram::of(map).ok_or(TOO_SMALL)?;
    let mut free = map.clone();
    free.remove(Range::new(0, MIB));
    free.remove(taken.image);
    let vtl0 = vtl0_memory(&free, map, wanted, taken.image)?;
    for (range, _) in vtl0.iter() {
        free.remove(range);
    }

    let kernel = kernel_place(&free, taken.initrd, kernel)?.ok_or(TOO_SMALL)?;
    free.remove(kernel);
    let mut top = |len_bytes: u64, limit: u64| {
        let range = free.last_fit(len_bytes, PAGE, FOUR_GIB);
        let range = range.or_else(|| free.last_fit(len_bytes, PAGE, limit));
        free.remove(range.unwrap_or_default());
        range.ok_or(TOO_SMALL)
    };
    let firmware = top((FIRMWARE_ACPI_PAGES + FIRMWARE_NVS_PAGES) * PAGE, u64::MAX)?;
    let pool = top(ram.pool_bytes(taken.cpus), u64::MAX)?;
    let initrd = top(taken.initrd.len_bytes(), FOUR_GIB)?;
    let left = free.iter().filter(|(_, kind)| *kind == Kind::Ram);
    if left.map(|(range, _)| range.len_bytes()).sum::<u64>() < L1_BYTES {
        return Err(TOO_SMALL);
    }
    Ok(Layout {
        vtl0,
        kernel,
        firmware,
        pool,
        initrd,
        ram,
        image: taken.image,
    })
}

/// VTL0's memory, all of which has to be RAM. The pieces get their places in their order.
fn vtl0_memory(
    free: &MemoryMap,
    map: &MemoryMap,
    wanted: &[Option<Wanted>],
    image: Range,
) -> Result<MemoryMap, &'static str> {
    const NOT_RAM: &str =
        "there is no such memory for emu.vtl0: give QEMU more with -m, or less to emu.vtl0";
    const OVERLAP: &str = "pieces of emu.vtl0 overlap";
    let mut free = free.clone();
    let mut set = MemoryMap::new();
    for wanted in wanted.iter().flatten() {
        let range = piece(&free, wanted).ok_or(NOT_RAM)?;
        if set.iter().any(|(other, _)| other.overlaps(&range)) {
            return Err(OVERLAP);
        }
        set.add(range, Kind::Reserved);
        free.remove(range);
    }
    for hole in [L1_WINDOW, VGA, SYSTEM_ROM, image] {
        set.remove(hole);
    }
    // Below 1 MiB firmware calls reserved what it has no use for any more.
    let above = |range: Range| Range::new(range.start.max(MIB), range.end);
    let is_ram = |range: Range| range.end <= MIB || map.is_all(above(range), Kind::Ram);
    if set.iter().all(|(range, _)| is_ram(range)) {
        Ok(set)
    } else {
        Err(NOT_RAM)
    }
}

/// Where a piece of VTL0's memory is.
fn piece(free: &MemoryMap, wanted: &Wanted) -> Option<Range> {
    match wanted.place {
        Place::At(base) => {
            let end = base.checked_add(wanted.len_bytes)?;
            Some(Range::new(base, end))
        }
        Place::Top => {
            let below = free.last_fit(wanted.len_bytes, 2 * MIB, FOUR_GIB);
            below.or_else(|| free.last_fit(wanted.len_bytes, 2 * MIB, u64::MAX))
        }
    }
}

/// Where L1's kernel fits, at or above its preferred address; not over the RAM disk, which is moved
/// later.
fn kernel_place(
    free: &MemoryMap,
    initrd: Range,
    kernel: &Kernel,
) -> Result<Option<Range>, &'static str> {
    let mut free = free.clone();
    free.remove(initrd);
    let found = free.first_fit(kernel.init_bytes, kernel.alignment, kernel.preferred_pa);
    let is_moved = found.is_some_and(|range| range.start != kernel.preferred_pa);
    if is_moved && !kernel.is_relocatable {
        return Err(
            "the kernel is not relocatable, and where it has to be is no memory of L1's: \
             give emu.vtl0 another base, such as emu.vtl0=64M@top",
        );
    }
    Ok(found.filter(|range| range.end <= FOUR_GIB || kernel.can_be_above_4g))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
