// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The ACPI tables of the machine, as one block of bytes for guest memory.
//!
//! The machine is hardware-reduced [ACPI 4.1]: no PIT, no PIC, no power-management timer, no SCI.
//! Four tables describe the rest: FADT (sleep and reset register), MADT (virtual processors, I/O
//! APIC), DSDT (`dsdt`), XSDT.

mod aml;
mod dsdt;

use crate::memory::Range;
use crate::platform::{IO_APIC_BASE, Ports};
use crate::virtio::Slot;

/// Contents of the tables.
#[derive(Clone, Debug)]
pub struct Tables<'a> {
    /// x2APIC IDs, the boot processor's first.
    pub apic_ids: &'a [u32],
    /// The virtio devices.
    pub virtio: &'a [Slot],
    /// Memory of the secure kernel at VTL1, if there is one.
    pub vtl1: Option<Range>,
}

const HEADER_LEN: usize = 36;
/// Tables begin at multiples of this.
const ALIGN: usize = 16;
const RSDP_LEN: usize = 36;

impl Tables<'_> {
    /// The tables as they must be at the guest-physical address `base`, which is that of the root
    /// pointer.
    pub fn at(&self, base: u64) -> Vec<u8> {
        let mut block = vec![0; RSDP_LEN.next_multiple_of(ALIGN)];
        let mut place = |table: Vec<u8>| {
            block.resize(block.len().next_multiple_of(ALIGN), 0);
            // CAST: widening.
            let at = base + block.len() as u64;
            block.extend(table);
            at
        };
        let dsdt = place(table(b"DSDT", 2, &dsdt::terms(self.virtio, self.vtl1)));
        let fadt = place(fadt(dsdt));
        let madt = place(madt(self.apic_ids));
        let entries: Vec<u8> = [fadt, madt]
            .iter()
            .flat_map(|at| at.to_le_bytes())
            .collect();
        let xsdt = place(table(b"XSDT", 1, &entries));
        block[..RSDP_LEN].copy_from_slice(&rsdp(xsdt));
        block
    }
}

/// A table: header, contents, checksum.
fn table(signature: &[u8; 4], revision: u8, contents: &[u8]) -> Vec<u8> {
    const CHECKSUM: usize = 9;
    let mut bytes = Vec::with_capacity(HEADER_LEN + contents.len());
    bytes.extend(signature);
    // CAST: the tables have a few hundred bytes.
    bytes.extend(((HEADER_LEN + contents.len()) as u32).to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(b"VTLCTL");
    bytes.extend(b"VTL0    ");
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(b"VTL0");
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(contents);
    bytes[CHECKSUM] = checksum(&bytes);
    bytes
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

fn rsdp(xsdt: u64) -> [u8; RSDP_LEN] {
    const FIRST_LEN: usize = 20;
    const CHECKSUM: usize = 8;
    const EXTENDED_CHECKSUM: usize = 32;
    let mut bytes = [0; RSDP_LEN];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[9..15].copy_from_slice(b"VTLCTL");
    bytes[15] = 2;
    // CAST: 36.
    bytes[20..24].copy_from_slice(&(RSDP_LEN as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&xsdt.to_le_bytes());
    bytes[CHECKSUM] = checksum(&bytes[..FIRST_LEN]);
    bytes[EXTENDED_CHECKSUM] = checksum(&bytes);
    bytes
}

/// FADT [ACPI 5.2.9], of which a hardware-reduced machine uses little.
fn fadt(dsdt: u64) -> Vec<u8> {
    const LEN: usize = 276;
    const NO_VGA: u16 = 1 << 2;
    const WBINVD: u32 = 1 << 0;
    const NO_POWER_BUTTON: u32 = 1 << 4;
    const NO_SLEEP_BUTTON: u32 = 1 << 5;
    const RESET_REGISTER: u32 = 1 << 10;
    /// Interrupts go to x2APIC IDs, not to sets of processors.
    const PHYSICAL_DESTINATION: u32 = 1 << 19;
    const HARDWARE_REDUCED: u32 = 1 << 20;
    let flags = WBINVD
        | NO_POWER_BUTTON
        | NO_SLEEP_BUTTON
        | RESET_REGISTER
        | PHYSICAL_DESTINATION
        | HARDWARE_REDUCED;
    let mut bytes = vec![0; LEN - HEADER_LEN];
    let mut put = |offset: usize, value: &[u8]| {
        bytes[offset - HEADER_LEN..][..value.len()].copy_from_slice(value);
    };
    put(109, &NO_VGA.to_le_bytes());
    put(112, &flags.to_le_bytes());
    put(116, &port_address(Ports::RESET));
    put(128, &[Ports::RESET_VALUE]);
    put(131, &[4]);
    put(140, &dsdt.to_le_bytes());
    put(244, &port_address(Ports::SLEEP_CONTROL));
    put(256, &port_address(Ports::SLEEP_STATUS));
    table(b"FACP", 6, &bytes)
}

/// Generic address of an eight-bit port [ACPI 5.2.3.2].
fn port_address(port: u16) -> [u8; 12] {
    const SYSTEM_IO: u8 = 1;
    const BYTE_ACCESS: u8 = 1;
    let [low, high] = port.to_le_bytes();
    [SYSTEM_IO, 8, 0, BYTE_ACCESS, low, high, 0, 0, 0, 0, 0, 0]
}

/// MADT [ACPI 5.2.12]: no PC/AT interrupt controllers, one I/O APIC from GSI 0 on.
fn madt(apic_ids: &[u32]) -> Vec<u8> {
    const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
    const IO_APIC_ID: u8 = 0;
    const ENABLED: u32 = 1;
    const LAST_SHORT_ID: u32 = 254;
    let mut bytes = Vec::new();
    bytes.extend(LOCAL_APIC_ADDRESS.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    for (uid, id) in (0_u32..).zip(apic_ids) {
        if *id <= LAST_SHORT_ID && uid <= LAST_SHORT_ID {
            // CAST: both fit, line above.
            bytes.extend([0, 8, uid as u8, *id as u8]);
            bytes.extend(ENABLED.to_le_bytes());
        } else {
            bytes.extend([9, 16, 0, 0]);
            for word in [*id, ENABLED, uid] {
                bytes.extend(word.to_le_bytes());
            }
        }
    }
    bytes.extend([1, 12, IO_APIC_ID, 0]);
    bytes.extend(IO_APIC_BASE.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    table(b"APIC", 5, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x6_0000;

    fn block() -> Vec<u8> {
        let virtio = [Slot::nth(0), Slot::nth(1)];
        Tables {
            apic_ids: &[0, 1, 300],
            virtio: &virtio,
            vtl1: Some(Range::new(0x7e0_0000, 0x800_0000)),
        }
        .at(BASE)
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
    }

    /// The table at an address, cut to its length.
    fn table_at(block: &[u8], address: u64) -> Vec<u8> {
        let rest = &block[(address - BASE) as usize..];
        let len = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        rest[..len].to_vec()
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn every_table_is_reached_from_the_root_and_sums_to_zero() {
        let block = block();
        assert_eq!((sum(&block[..20]), sum(&block[..36])), (0, 0));
        let xsdt = table_at(&block, u64_at(&block, 24));
        let mut found = vec![xsdt.clone()];
        for entry in (HEADER_LEN..xsdt.len()).step_by(8) {
            found.push(table_at(&block, u64_at(&xsdt, entry)));
        }
        found.push(table_at(&block, u64_at(&found[1], 140)));
        let names: Vec<_> = found.iter().map(|table| table[..4].to_vec()).collect();
        assert_eq!(names, [*b"XSDT", *b"FACP", *b"APIC", *b"DSDT"]);
        for table in found {
            assert_eq!(sum(&table), 0, "{:?}", &table[..4]);
        }
    }

    #[test]
    fn the_fadt_has_the_length_and_the_registers_of_a_reduced_machine() {
        let fadt = fadt(0x1234);
        assert_eq!(fadt.len(), 276);
        assert_ne!(fadt[114] & (1 << 4), 0, "hardware reduced, bit 20");
        assert_eq!(fadt[116..118], [1, 8]);
        assert_eq!(u64_at(&fadt, 120), u64::from(Ports::RESET));
        assert_eq!(u64_at(&fadt, 248), u64::from(Ports::SLEEP_CONTROL));
        assert_eq!(u64_at(&fadt, 260), u64::from(Ports::SLEEP_STATUS));
    }

    #[test]
    fn processors_with_long_ids_have_entries_of_their_own() {
        let madt = madt(&[0, 1, 300]);
        let entries = &madt[HEADER_LEN + 8..];
        assert_eq!(entries[..8], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(entries[8..16], [0, 8, 1, 1, 1, 0, 0, 0]);
        assert_eq!(entries[16..24], [9, 16, 0, 0, 44, 1, 0, 0]);
        assert_eq!(entries[32..36], [1, 12, 0, 0]);
        assert_eq!(entries.len(), 8 + 8 + 16 + 12);
    }
}
