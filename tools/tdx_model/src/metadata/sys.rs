// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of the TDX module itself, read by TDG.SYS.RD.

use super::{FieldRow, Key, Table, locate, readable_from};
use crate::status::Status;

/// TDX_FEATURES0 bits the model has.
mod features {
    /// TDG.VP.RD and WR, TDG.VM.RD and WR.
    pub(super) const GUEST_METADATA: u64 = 1 << 3;
    /// CPUID virtualization controlled by the guest.
    pub(super) const CPUID_BY_GUEST: u64 = 1 << 5;
    /// TD partitioning.
    pub(super) const PARTITIONING: u64 = 1 << 7;
    /// CONFIG_FLAGS.NO_RBP_MOD.
    pub(super) const NO_RBP_MOD: u64 = 1 << 18;
    /// RCX values 2 and 3 of TDG.VP.ENTER.
    pub(super) const L2_TLB_INVALIDATION: u64 = 1 << 19;
}

const FEATURES0: u64 = features::GUEST_METADATA
    | features::CPUID_BY_GUEST
    | features::PARTITIONING
    | features::NO_RBP_MOD
    | features::L2_TLB_INVALIDATION;

const ALL: u64 = u64::MAX;

/// Values are constants of the modelled module, version 1.5.
static ROWS: &[FieldRow<u64>] = &[
    // VENDOR_ID
    FieldRow::new(0x0800_0002_0000_0000, 1, ALL, 0, 0x8086),
    // MINOR_VERSION
    FieldRow::new(0x0800_0001_0000_0003, 1, ALL, 0, 5),
    // MAJOR_VERSION
    FieldRow::new(0x0800_0001_0000_0004, 1, ALL, 0, 1),
    // SYS_ATTRIBUTES
    FieldRow::new(0x0a00_0002_0000_0000, 1, ALL, 0, 0),
    // NUM_TDX_FEATURES
    FieldRow::new(0x0a00_0000_0000_0001, 1, ALL, 0, 1),
    // TDX_FEATURES0
    FieldRow::new(0x0a00_0003_0000_0008, 1, ALL, 0, FEATURES0),
    // MIG_ATTRIBUTES
    FieldRow::new(0xa000_0003_0000_0000, 1, ALL, 0, 0),
    // MIN and MAX_EXPORT_VERSION, MIN and MAX_IMPORT_VERSION
    FieldRow::new(0x2000_0001_0000_0001, 4, ALL, 0, 0),
    // GUEST_L2_GPA_ATTR_MASK
    FieldRow::new(0xa200_0001_0000_0000, 1, ALL, 0, 0x807f),
];

/// The system context.
pub(crate) struct SysTable;

impl Table for SysTable {
    fn read(&self, key: Key) -> Result<u64, Status> {
        let (row, _) = locate(ROWS, key).ok_or(Status::METADATA_FIELD_ID_INCORRECT)?;
        Ok(row.what & row.read)
    }

    fn readable_from(&self, key: Key) -> Option<u64> {
        readable_from(ROWS, key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn iteration_visits_each_field_once_in_order() {
        let mut id = u64::MAX;
        let mut seen = 0;
        loop {
            let out = read(&SysTable, id);
            assert!(!out.status.is_error());
            if out.next_id == u64::MAX {
                break;
            }
            id = out.next_id;
            seen += 1;
        }
        assert_eq!(seen, 12);
        assert_eq!(id, 0xa200_0001_0000_0000);
        assert_eq!(read(&SysTable, u64::MAX).next_id, 0x0800_0002_0000_0000);
    }

    #[test]
    fn partitioning_is_announced() {
        assert_eq!(read(&SysTable, 0x0a00_0003_0000_0008).value >> 7 & 1, 1);
        let unknown = read(&SysTable, 0x0b00_0003_0000_0008);
        assert_eq!(unknown.status, Status::METADATA_FIELD_ID_INCORRECT);
        assert_eq!((unknown.value, unknown.next_id), (0, u64::MAX));
    }
}
