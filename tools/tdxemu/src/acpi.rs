// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! ACPI: finding the processors, and telling L1 how to wake them.
//!
//! Firmware's root table is copied with three changes: the MADT is replaced by one that lists L1's
//! processors by L1's numbers, with a Multiprocessor Wakeup entry (type 16), because INIT and
//! start-up IPIs do not exist in a TD [ACPI 6.4 5.2.12]; there is one table more, which says
//! where the event log of the boot is [GHCI CCEL]; and the tables of DMA-remapping units and of
//! high-precision timers are left out, which are the host's.

use crate::mem::map::Range;

/// Multiprocessor Wakeup mailbox, as offsets from its page.
pub mod mailbox {
    /// Command: 1 wakes.
    pub const COMMAND: u64 = 0;
    /// APIC id of the processor that shall wake.
    pub const APIC_ID: u64 = 4;
    /// Where it shall start.
    pub const VECTOR: u64 = 8;
    /// The command that wakes.
    pub const WAKE: u16 = 1;
}

const HEADER_BYTES: usize = 36;
const RSDP_BYTES: usize = 20;
const CHECKSUM: usize = 9;
const RSDP_CHECKSUM: usize = 8;
const MADT_ENTRIES: usize = 44;
const WAKEUP_ENTRY_BYTES: usize = 16;
const CCEL_BYTES: usize = 56;
/// A trust domain.
const CC_TYPE_TDX: u8 = 2;

/// Access to the physical memory that holds the tables.
pub trait Physical {
    /// Copies out of memory.
    fn read(&self, address: u64, bytes: &mut [u8]);
}

fn read_u32(memory: &impl Physical, address: u64) -> u32 {
    let mut bytes = [0; 4];
    memory.read(address, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn table_len(memory: &impl Physical, table: u64) -> usize {
    read_u32(memory, table + 4) as usize
}

/// Where firmware's tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    rsdp: u64,
    rsdt: u64,
    madt: u64,
    /// Index of the MADT's address in the root table.
    madt_slot: usize,
    /// The same of the tables that L1 does not get.
    hosts_slots: [Option<usize>; 2],
    /// Registers of the first of these.
    pub dma_unit_pa: Option<u64>,
}

/// Follows the root pointer to the MADT.
///
/// # Errors
///
/// When a table is missing.
pub fn find(memory: &impl Physical, rsdp: u64) -> Result<Tables, &'static str> {
    let mut signature = [0; 8];
    memory.read(rsdp, &mut signature);
    if &signature != b"RSD PTR " {
        return Err("no ACPI root pointer");
    }
    let rsdt = u64::from(read_u32(memory, rsdp + 16));
    let slots = table_len(memory, rsdt).saturating_sub(HEADER_BYTES) / 4;
    let find = |wanted: &[u8; 4]| {
        (0..slots).find_map(|slot| {
            let table = u64::from(read_u32(memory, rsdt + (HEADER_BYTES + 4 * slot) as u64));
            let mut name = [0; 4];
            memory.read(table, &mut name);
            (&name == wanted).then_some((slot, table))
        })
    };
    let (madt_slot, madt) = find(b"APIC").ok_or("no MADT among the ACPI tables")?;
    let dmar = find(b"DMAR");
    Ok(Tables {
        rsdp,
        rsdt,
        madt,
        madt_slot,
        hosts_slots: [dmar, find(b"HPET")].map(|found| found.map(|(slot, _)| slot)),
        dma_unit_pa: dmar.and_then(|(_, table)| dma_unit(memory, table)),
    })
}

/// Registers of the first unit that a table of DMA-remapping units lists. [VT-d 8.1, 8.3]
fn dma_unit(memory: &impl Physical, dmar: u64) -> Option<u64> {
    const FIRST: u64 = 48;
    const UNIT: u32 = 0;
    let end = dmar + table_len(memory, dmar) as u64;
    let mut at = dmar + FIRST;
    while at < end {
        let head = read_u32(memory, at); // type, length
        if head & 0xffff == UNIT {
            let mut base = [0; 8];
            memory.read(at + 8, &mut base);
            return Some(u64::from_le_bytes(base));
        }
        at += u64::from(head >> 16).max(4);
    }
    None
}

/// An entry of the MADT: where it is, its length, and its first bytes.
struct Entry {
    address: u64,
    len_bytes: usize,
    start: [u8; 16],
}

/// What an entry lists.
enum Lists {
    /// A processor that is enabled, by its APIC ID.
    Processor(u32),
    /// One that is not.
    NoProcessor,
    SomethingElse,
}

impl Entry {
    fn lists(&self) -> Lists {
        let [kind, _, _, id, flags, ..] = self.start;
        let (is_enabled, id) = match kind {
            0 => (flags & 1 != 0, u32::from(id)),
            9 => {
                let [_, _, _, _, id @ .., _, _, _, _, _, _, _] = self.start;
                let [a, b, c, d, flags] = id;
                (flags & 1 != 0, u32::from_le_bytes([a, b, c, d]))
            }
            _ => return Lists::SomethingElse,
        };
        if is_enabled {
            Lists::Processor(id)
        } else {
            Lists::NoProcessor
        }
    }
}

/// The entries of the MADT.
fn entries(memory: &impl Physical, tables: &Tables) -> impl Iterator<Item = Entry> {
    let end = tables.madt + table_len(memory, tables.madt) as u64;
    let mut address = tables.madt + MADT_ENTRIES as u64;
    core::iter::from_fn(move || {
        let mut start = [0; 16];
        memory.read(address, &mut start);
        let entry = Entry {
            address,
            len_bytes: usize::from(start[1].max(2)),
            start,
        };
        address += entry.len_bytes as u64;
        (address <= end).then_some(entry)
    })
}

/// APIC IDs of the enabled processors, in table order.
pub fn processors(memory: &impl Physical, tables: &Tables) -> impl Iterator<Item = u32> {
    entries(memory, tables).filter_map(|entry| match entry.lists() {
        Lists::Processor(id) => Some(id),
        Lists::NoProcessor | Lists::SomethingElse => None,
    })
}

/// What the tables for L1 name.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Multiprocessor Wakeup mailbox.
    pub mailbox_pa: u64,
    /// Event log of the boot.
    pub log: Range,
}

/// Writes the tables for L1 into `area`, which will be at `area_pa`. `number` maps an APIC ID
/// to the number of one of L1's processors. Returns the address of the root pointer.
///
/// # Errors
///
/// The tables do not fit.
pub fn build(
    memory: &impl Physical,
    tables: &Tables,
    number: impl Fn(u32) -> Option<u8>,
    places: &Places,
    area: &mut [u8],
    area_pa: u64,
) -> Result<u64, &'static str> {
    const TOO_BIG: &str = "firmware's ACPI tables are larger than expected";
    let old_rsdt_len = table_len(memory, tables.rsdt);
    let slots = old_rsdt_len.saturating_sub(HEADER_BYTES) / 4;
    let kept = (0..slots).filter(|slot| !tables.hosts_slots.contains(&Some(*slot)));
    let rsdt_len = HEADER_BYTES + 4 * kept.clone().count() + 4;
    let madt_len = table_len(memory, tables.madt);
    let rsdt_at = 64;
    let ccel_at = (rsdt_at + rsdt_len).next_multiple_of(16);
    let madt_at = (ccel_at + CCEL_BYTES).next_multiple_of(16);
    let end = madt_at + madt_len + WAKEUP_ENTRY_BYTES;
    if end > area.len() || old_rsdt_len < HEADER_BYTES || madt_len < MADT_ENTRIES {
        return Err(TOO_BIG);
    }
    // CAST: the tables lie below 4 GiB, as ACPI 1.0 root tables require.
    let pa = |at: usize| area_pa as u32 + at as u32;

    let rsdp = &mut area[..RSDP_BYTES];
    memory.read(tables.rsdp, rsdp);
    rsdp[15] = 0; // revision 0: no XSDT
    rsdp[16..20].copy_from_slice(&pa(rsdt_at).to_le_bytes());
    fix_checksum(rsdp, RSDP_CHECKSUM);

    let rsdt = &mut area[rsdt_at..rsdt_at + rsdt_len];
    memory.read(tables.rsdt, &mut rsdt[..HEADER_BYTES]);
    let addresses = kept.map(|slot| match slot {
        _ if slot == tables.madt_slot => pa(madt_at),
        _ => read_u32(memory, tables.rsdt + (HEADER_BYTES + 4 * slot) as u64),
    });
    let copied = rsdt[HEADER_BYTES..].chunks_exact_mut(4);
    for (entry, address) in copied.zip(addresses.chain([pa(ccel_at)])) {
        entry.copy_from_slice(&address.to_le_bytes());
    }
    rsdt[4..8].copy_from_slice(&(rsdt_len as u32).to_le_bytes()); // CAST: fits the area
    fix_checksum(rsdt, CHECKSUM);
    write_ccel(&places.log, &mut area[ccel_at..ccel_at + CCEL_BYTES]);

    let madt = &mut area[madt_at..end];
    write_madt(memory, tables, number, places.mailbox_pa, madt);
    Ok(area_pa)
}

fn write_ccel(log: &Range, ccel: &mut [u8]) {
    ccel[..4].copy_from_slice(b"CCEL");
    ccel[4..8].copy_from_slice(&(CCEL_BYTES as u32).to_le_bytes()); // CAST: 56
    ccel[8] = 1; // revision
    ccel[10..24].copy_from_slice(b"TDXEMUTDXEMU\0\0"); // who made it
    ccel[36] = CC_TYPE_TDX;
    ccel[40..48].copy_from_slice(&log.len_bytes().to_le_bytes());
    ccel[48..56].copy_from_slice(&log.start.to_le_bytes());
    fix_checksum(ccel, CHECKSUM);
}

/// Writes the MADT for L1. `madt` has room for firmware's and one more entry.
fn write_madt(
    memory: &impl Physical,
    tables: &Tables,
    number: impl Fn(u32) -> Option<u8>,
    mailbox_pa: u64,
    madt: &mut [u8],
) {
    memory.read(tables.madt, &mut madt[..MADT_ENTRIES]);
    let mut len = MADT_ENTRIES;
    let mut add = |from: &dyn Fn(&mut [u8]), len_bytes: usize| {
        from(&mut madt[len..len + len_bytes]);
        len += len_bytes;
    };
    for entry in entries(memory, tables) {
        match entry.lists() {
            Lists::SomethingElse => add(&|to| memory.read(entry.address, to), entry.len_bytes),
            Lists::Processor(id) => {
                if let Some(number) = number(id) {
                    // Processor UID and APIC ID are the number; enabled.
                    let local_apic = [0, 8, number, number, 1, 0, 0, 0];
                    add(&|to| to.copy_from_slice(&local_apic), local_apic.len());
                }
            }
            Lists::NoProcessor => {}
        }
    }
    let mut wakeup = [0; WAKEUP_ENTRY_BYTES];
    (wakeup[0], wakeup[1]) = (16, WAKEUP_ENTRY_BYTES as u8);
    wakeup[8..16].copy_from_slice(&mailbox_pa.to_le_bytes());
    add(&|to| to.copy_from_slice(&wakeup), wakeup.len());
    let len_field = (len as u32).to_le_bytes(); // CAST: fits the area
    madt[4..8].copy_from_slice(&len_field);
    fix_checksum(&mut madt[..len], CHECKSUM);
}

fn fix_checksum(table: &mut [u8], at: usize) {
    table[at] = 0;
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[at] = sum.wrapping_neg();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ToyFirmware(Vec<u8>);

    impl Physical for ToyFirmware {
        fn read(&self, address: u64, bytes: &mut [u8]) {
            for (offset, byte) in bytes.iter_mut().enumerate() {
                *byte = self.0.get(address as usize + offset).copied().unwrap_or(0);
            }
        }
    }

    const PLACES: Places = Places {
        mailbox_pa: 0,
        log: Range::new(0x7000, 0x9000),
    };

    const IOAPIC: [u8; 12] = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];

    /// All processors but the first, numbered as L1 sees them.
    fn number(apic_id: u32) -> Option<u8> {
        match apic_id {
            3 => Some(0),
            0x107 => Some(1),
            _ => None,
        }
    }

    fn firmware() -> ToyFirmware {
        let mut bytes = vec![0; 0x400];
        bytes[0x10..0x18].copy_from_slice(b"RSD PTR ");
        bytes[0x20..0x24].copy_from_slice(&0x40u32.to_le_bytes());
        bytes[0x40..0x44].copy_from_slice(b"RSDT");
        bytes[0x44..0x48].copy_from_slice(&44u32.to_le_bytes());
        bytes[0x64..0x68].copy_from_slice(&0x200u32.to_le_bytes());
        bytes[0x68..0x6c].copy_from_slice(&0x100u32.to_le_bytes());
        bytes[0x100..0x104].copy_from_slice(b"APIC");
        bytes[0x104..0x108].copy_from_slice(&(44u32 + 56).to_le_bytes());
        // Two processors, one that is not enabled, an IOAPIC, a processor with a large APIC ID.
        bytes[0x12c..0x134].copy_from_slice(&[0, 8, 0, 0, 1, 0, 0, 0]);
        bytes[0x134..0x13c].copy_from_slice(&[0, 8, 1, 3, 1, 0, 0, 0]);
        bytes[0x13c..0x144].copy_from_slice(&[0, 8, 2, 5, 0, 0, 0, 0]);
        bytes[0x144..0x150].copy_from_slice(&IOAPIC);
        bytes[0x150..0x160].copy_from_slice(&[9, 16, 0, 0, 7, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        ToyFirmware(bytes)
    }

    #[test]
    fn processors_come_in_table_order() {
        let firmware = firmware();
        let tables = find(&firmware, 0x10).unwrap();
        let ids: Vec<u32> = processors(&firmware, &tables).collect();
        assert_eq!(ids, [0, 3, 0x107]);
    }

    #[test]
    fn copies_have_the_wakeup_entry_and_sound_checksums() {
        let firmware = firmware();
        let tables = find(&firmware, 0x10).unwrap();
        let mut area = vec![0; 4096];
        let places = Places {
            mailbox_pa: 0x1234_5000,
            ..PLACES
        };
        let rsdp = build(&firmware, &tables, number, &places, &mut area, 0x8000).unwrap();
        assert_eq!(rsdp, 0x8000);
        let sum = |table: &[u8]| table.iter().fold(0u8, |s, b| s.wrapping_add(*b));
        assert_eq!(sum(&area[..20]), 0);
        assert_eq!(sum(&area[64..112]), 0);
        let copy = ToyFirmware([vec![0; 0x8000], area.clone()].concat());
        let again = find(&copy, rsdp).unwrap();
        assert_eq!(again.madt, 0x8000 + 176);
        let madt = &area[176..176 + 88];
        assert_eq!((sum(madt), madt[4..8].to_vec()), (0, vec![88, 0, 0, 0]));
        assert_eq!(madt[72..74], [16, 16]);
        assert_eq!(madt[80..88], 0x1234_5000u64.to_le_bytes());
    }

    #[test]
    fn one_table_more_says_where_the_log_of_the_boot_is() {
        let firmware = firmware();
        let tables = find(&firmware, 0x10).unwrap();
        let mut area = vec![0; 4096];
        build(&firmware, &tables, number, &PLACES, &mut area, 0x8000).unwrap();
        assert_eq!(area[68..72], 48u32.to_le_bytes());
        assert_eq!(area[108..112], 0x8070u32.to_le_bytes());
        let ccel = &area[112..168];
        assert_eq!(&ccel[..4], b"CCEL");
        assert_eq!((ccel[4], ccel[36]), (56, 2));
        assert_eq!(ccel[40..48], 0x2000u64.to_le_bytes());
        assert_eq!(ccel[48..56], 0x7000u64.to_le_bytes());
        assert_eq!(
            ccel.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
            0
        );
    }

    #[test]
    fn the_copy_lists_l1s_processors_by_their_numbers_and_no_other() {
        let firmware = firmware();
        let tables = find(&firmware, 0x10).unwrap();
        let mut area = vec![0; 4096];
        build(&firmware, &tables, number, &PLACES, &mut area, 0x8000).unwrap();
        let madt = &area[176..];
        assert_eq!(madt[44..52], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(madt[52..64], IOAPIC);
        assert_eq!(madt[64..72], [0, 8, 1, 1, 1, 0, 0, 0]);
        assert_eq!(madt[72..74], [16, 16]);
    }

    #[test]
    fn dma_remapping_units_are_the_hosts() {
        let mut firmware = firmware();
        // Three tables; the first one is of remapping units: a reserved region, then a unit.
        firmware.0[0x44..0x48].copy_from_slice(&48u32.to_le_bytes());
        firmware.0[0x64..0x70].copy_from_slice(&[0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0]);
        firmware.0[0x300..0x304].copy_from_slice(b"DMAR");
        firmware.0[0x304..0x308].copy_from_slice(&(48u32 + 24 + 16).to_le_bytes());
        firmware.0[0x330..0x334].copy_from_slice(&[1, 0, 24, 0]);
        firmware.0[0x348..0x34c].copy_from_slice(&[0, 0, 16, 0]);
        firmware.0[0x350..0x358].copy_from_slice(&0xfed9_0000u64.to_le_bytes());
        let tables = find(&firmware, 0x10).unwrap();
        assert_eq!(tables.dma_unit_pa, Some(0xfed9_0000));
        let mut area = vec![0; 4096];
        build(&firmware, &tables, number, &PLACES, &mut area, 0x8000).unwrap();
        // The other two are still there: 0x200 and the MADT, and then the new one.
        let copy = ToyFirmware([vec![0; 0x8000], area.clone()].concat());
        assert_eq!(area[68..72], 48u32.to_le_bytes());
        assert_eq!(read_u32(&copy, 0x8000 + 64 + 36), 0x200);
        let again = find(&copy, 0x8000).unwrap();
        assert_eq!((again.madt_slot, again.hosts_slots), (1, [None; 2]));
        assert_eq!(read_u32(&copy, 0x8000 + 64 + 44), 0x8070);
    }

    #[test]
    fn high_precision_timers_are_the_hosts() {
        let mut firmware = firmware();
        firmware.0[0x200..0x204].copy_from_slice(b"HPET");
        let tables = find(&firmware, 0x10).unwrap();
        assert_eq!(tables.dma_unit_pa, None);
        let mut area = vec![0; 4096];
        build(&firmware, &tables, number, &PLACES, &mut area, 0x8000).unwrap();
        // The MADT and the new one.
        assert_eq!(area[68..72], 44u32.to_le_bytes());
        let again = find(&ToyFirmware([vec![0; 0x8000], area].concat()), 0x8000).unwrap();
        assert_eq!((again.madt_slot, again.hosts_slots), (0, [None; 2]));
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let firmware = firmware();
        let tables = find(&firmware, 0x10).unwrap();
        assert!(build(&firmware, &tables, number, &PLACES, &mut [0; 128], 0x8000).is_err());
    }
}
