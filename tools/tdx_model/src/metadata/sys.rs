// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of the TDX module itself, read by TDG.SYS.RD.

use super::{FieldRow, Key, Table, locate, readable_from};
use crate::status::Status;
use crate::td::FeatureLevel;

/// TDX_FEATURES0 bits the model has.
mod features {
    /// TDG.VP.RD and WR, TDG.VM.RD and WR.
    pub(super) const GUEST_METADATA: u64 = 1 << 3;
    /// CPUID virtualization controlled by the guest.
    pub(super) const CPUID_BY_GUEST: u64 = 1 << 5;
    /// TD partitioning.
    pub(super) const PARTITIONING: u64 = 1 << 7;
    /// An access to a pending page tells the host so (extended exit qualification, type 6).
    pub(super) const PENDING_EPT_VIOLATION_V2: u64 = 1 << 16;
    /// CONFIG_FLAGS.NO_RBP_MOD.
    pub(super) const NO_RBP_MOD: u64 = 1 << 18;
    /// TD_CTLS.ENUM_TOPOLOGY.
    pub(super) const TOPOLOGY_ENUM: u64 = 1 << 20;
    /// TD_CTLS.VIRT_CPUID2.
    pub(super) const CPUID2_VIRT: u64 = 1 << 29;
    /// TD_CTLS.REDUCE_VE, FEATURE_PARAVIRT_CTRL and version 1 of TDG.VP.VEINFO.GET.
    pub(super) const VE_REDUCTION: u64 = 1 << 30;
    /// TDG.MEM.PAGE.RELEASE.
    pub(super) const PAGE_RELEASE: u64 = 1 << 38;
    /// TDG.MR.KEY.GET, keys of 256 bits.
    pub(super) const SEALKEY_256: u64 = 1 << 57;
    /// RCX values 2 and 3 of TDG.VP.ENTER.
    pub(super) const L2_TLB_INVALIDATION: u64 = 1 << 19;
}

const FEATURES0: u64 = features::GUEST_METADATA
    | features::CPUID_BY_GUEST
    | features::PARTITIONING
    | features::PENDING_EPT_VIOLATION_V2
    | features::NO_RBP_MOD
    | features::L2_TLB_INVALIDATION;

const ALL: u64 = u64::MAX;

const FEATURES0_KEY: Key = Key {
    class: 0xa,
    code: 8,
};

const MINOR_VERSION_KEY: Key = Key { class: 8, code: 3 };
const MAJOR_VERSION_KEY: Key = Key { class: 8, code: 4 };

/// TDX_FEATURES0 bits that a level adds.
fn features_of(level: FeatureLevel) -> u64 {
    let later = features::PAGE_RELEASE | features::SEALKEY_256;
    match level {
        FeatureLevel::Base => 0,
        FeatureLevel::Later => later,
        FeatureLevel::Second => {
            later | features::TOPOLOGY_ENUM | features::CPUID2_VIRT | features::VE_REDUCTION
        }
    }
}

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

/// The system context of a module of this level.
pub(crate) struct SysTable(pub(crate) FeatureLevel);

impl Table for SysTable {
    fn read(&self, key: Key) -> Result<u64, Status> {
        let (row, _) = locate(ROWS, key).ok_or(Status::METADATA_FIELD_ID_INCORRECT)?;
        let value = match key {
            FEATURES0_KEY => row.what | features_of(self.0),
            MINOR_VERSION_KEY if self.0 >= FeatureLevel::Second => 0,
            MAJOR_VERSION_KEY if self.0 >= FeatureLevel::Second => 2,
            _ => row.what,
        };
        Ok(value & row.read)
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
            let out = read(&SysTable(FeatureLevel::Base), id);
            assert!(!out.status.is_error());
            if out.next_id == u64::MAX {
                break;
            }
            id = out.next_id;
            seen += 1;
        }
        assert_eq!(seen, 12);
        assert_eq!(id, 0xa200_0001_0000_0000);
        assert_eq!(
            read(&SysTable(FeatureLevel::Base), u64::MAX).next_id,
            0x0800_0002_0000_0000
        );
    }

    #[test]
    fn partitioning_is_announced() {
        let of = |level| read(&SysTable(level), 0x0a00_0003_0000_0008).value;
        assert_eq!(of(FeatureLevel::Base), 0xd_00a8);
        assert_eq!(of(FeatureLevel::Later), 0x0200_0040_000d_00a8);
        assert_eq!(of(FeatureLevel::Second), 0x0200_0040_601d_00a8);
        let version = |level| {
            [0x0800_0001_0000_0004, 0x0800_0001_0000_0003]
                .map(|id| read(&SysTable(level), id).value)
        };
        assert_eq!(version(FeatureLevel::Base), [1, 5]);
        assert_eq!(version(FeatureLevel::Later), [1, 5]);
        assert_eq!(version(FeatureLevel::Second), [2, 0]);
        let unknown = read(&SysTable(FeatureLevel::Base), 0x0b00_0003_0000_0008);
        assert_eq!(unknown.status, Status::METADATA_FIELD_ID_INCORRECT);
        assert_eq!((unknown.value, unknown.next_id), (0, u64::MAX));
    }
}
