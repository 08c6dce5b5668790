// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The structures of a DMA-remapping unit of Intel's, as far as it takes to let every device reach
//! the same memory. [VT-d 9.1, 9.3, 10.4]
//!
//! `host/iommu.rs` carries out what this file decides.

/// Offsets of registers.
pub mod register {
    #![allow(missing_docs)]
    pub const CAPABILITY: u64 = 0x08;
    pub const EXTENDED_CAPABILITY: u64 = 0x10;
    pub const GLOBAL_COMMAND: u64 = 0x18;
    pub const GLOBAL_STATUS: u64 = 0x1c;
    pub const ROOT_TABLE: u64 = 0x20;
    pub const CONTEXT_COMMAND: u64 = 0x28;
    pub const FAULT_STATUS: u64 = 0x34;
}

/// Bits of GLOBAL_COMMAND, and of GLOBAL_STATUS.
pub mod global {
    #![allow(missing_docs)]
    pub const TRANSLATION_ENABLE: u32 = 1 << 31;
    pub const SET_ROOT_TABLE: u32 = 1 << 30;
}

/// Bits of FAULT_STATUS.
pub mod fault_status {
    #![allow(missing_docs)]
    pub const OVERFLOW: u32 = 1;
    pub const PENDING: u32 = 1 << 1;
}

/// CONTEXT_COMMAND that invalidates all; its bit 63 clears when that is done.
pub const INVALIDATE_CONTEXTS: u64 = PENDING | (1 << 61);
/// What invalidates all translations. It demands that accesses under way end first; QEMU's unit does not
/// know of them: a request of a device has its pages mapped from its beginning to its end.
pub const INVALIDATE_TRANSLATIONS: u64 = PENDING | (1 << 60) | (3 << 48);
/// See [`INVALIDATE_CONTEXTS`].
pub const PENDING: u64 = 1 << 63;

/// A unit by its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Offset of the register that invalidates translations.
    pub iotlb: u64,
    /// Offset of the first fault record.
    pub faults: u64,
    /// Number of fault records.
    pub fault_records: u64,
}

impl Unit {
    /// Returns `None` if the unit does not walk tables of three levels, or has a buffer that would
    /// have to be flushed.
    pub fn decode(capability: u64, extended: u64) -> Option<Self> {
        const THREE_LEVELS: u64 = 1 << 9;
        const NEEDS_WRITE_BUFFER_FLUSH: u64 = 1 << 4;
        let is_usable =
            capability & THREE_LEVELS != 0 && capability & NEEDS_WRITE_BUFFER_FLUSH == 0;
        is_usable.then_some(Self {
            iotlb: 16 * ((extended >> 8) & 0x3ff) + 8,
            faults: 16 * ((capability >> 24) & 0x3ff),
            fault_records: ((capability >> 40) & 0xff) + 1,
        })
    }
}

/// Entry of the root table for a bus with this context table.
pub const fn root_entry(context_table_pa: u64) -> [u64; 2] {
    [context_table_pa | 1, 0]
}

/// Entry of the context table for a device that sees what this table of 512 GiB maps.
pub const fn context_entry(table_pa: u64) -> [u64; 2] {
    const THREE_LEVELS: u64 = 1;
    const DOMAIN: u64 = 1 << 8;
    [table_pa | 1, THREE_LEVELS | DOMAIN]
}

/// An access that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bus, device and function.
    pub source: u16,
    /// Address of the page.
    pub page: u64,
    /// True if the device wanted to read.
    pub is_read: bool,
    /// Why.
    pub reason: u8,
}

impl Fault {
    /// What a record says, if it holds a fault.
    pub fn decode(record: [u64; 2]) -> Option<Self> {
        let [low, high] = record;
        // CAST: fields of the record.
        (high >> 63 != 0).then_some(Self {
            source: high as u16,
            page: low & !0xfff,
            is_read: high & (1 << 62) != 0,
            reason: (high >> 32) as u8,
        })
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (bus, device, function) = (self.source >> 8, (self.source >> 3) & 31, self.source & 7);
        let what = if self.is_read { "read" } else { "write" };
        let (page, reason) = (self.page, self.reason);
        write!(
            f,
            "device {bus:02x}:{device:02x}.{function} may not {what} page {page:#x}, \
             which L1 does not share ({reason})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_tell_where_the_registers_are() {
        // Those of QEMU's: 39 and 48 bits, one fault record at 0x220, invalidation at 0xf0.
        let capability = (6 << 8) | (0x22 << 24);
        let extended = 0xf << 8;
        let unit = Unit::decode(capability, extended).unwrap();
        assert_eq!(
            (unit.iotlb, unit.faults, unit.fault_records),
            (0xf8, 0x220, 1)
        );
        assert_eq!(Unit::decode(4 << 8, extended), None);
        assert_eq!(Unit::decode(capability | (1 << 4), extended), None);
    }

    #[test]
    fn every_device_is_led_to_the_same_table() {
        assert_eq!(root_entry(0x5000), [0x5001, 0]);
        // Present, second-level translation; 39 bits, domain 1.
        assert_eq!(context_entry(0x7000), [0x7001, 0x101]);
    }

    #[test]
    fn fault_names_device_page_and_direction() {
        assert_eq!(Fault::decode([0x1234_5fff, 0]), None);
        let read = Fault::decode([0x1234_5fff, (3 << 62) | (6 << 32) | 0x0119]).unwrap();
        assert_eq!(
            (read.source, read.page, read.reason),
            (0x119, 0x1234_5000, 6)
        );
        assert_eq!(
            std::format!("{read}"),
            "device 01:03.1 may not read page 0x12345000, which L1 does not share (6)"
        );
        let write = Fault::decode([0x1000, (1 << 63) | (5 << 32) | 0x18]).unwrap();
        assert!(std::format!("{write}").starts_with("device 00:03.0 may not write page 0x1000,"));
    }
}
