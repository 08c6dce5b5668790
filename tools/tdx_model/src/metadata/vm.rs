// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TD-scope fields, read and written by TDG.VM.RD and TDG.VM.WR.

use super::{FieldRow, Key, Request, Table, Target, decode_for_write, locate, readable_from};
use crate::status::Status;
use crate::td::{Td, config_flags, td_ctls};
use crate::ve_reduction::Feature;

#[derive(Clone, Copy)]
enum TdField {
    Uuid,
    NumVcpus,
    NumL2Vms,
    Attributes,
    Xfam,
    MaxVcpus,
    TscFrequency,
    NotifyEnables,
    ConfigFlags,
    TdCtls,
    Mrtd,
    MrConfigId,
    MrOwner,
    MrOwnerConfig,
    Rtmr,
    /// TOPOLOGY_ENUM_CONFIGURED: the host has given numbers to all processors. 2.0 line only.
    TopologyConfigured,
    /// VE_REDUCTION_VALID: TD_CTLS.REDUCE_VE may be set. 2.0 line only.
    VeReductionValid,
    /// FEATURE_PARAVIRT_CTRL. 2.0 line only.
    FeatureParavirt,
    /// A field that is zero in every TD the model can build: GPAW, migration, service TDs.
    Zero,
}

const ALL: u64 = u64::MAX;

const TOPOLOGY_ENUM_CONFIGURED: u64 = 0x9110_0000_0000_0019;
const VE_REDUCTION_VALID: u64 = 0x9110_0000_0000_001a;
const FEATURE_PARAVIRT_CTRL: u64 = 0x9110_0003_0000_0022;

static ROWS: &[FieldRow<TdField>] = &[
    FieldRow::new(0x8010_0003_0000_0020, 4, ALL, 0, TdField::Uuid),
    FieldRow::new(0x9010_0002_0000_0001, 1, ALL, 0, TdField::NumVcpus),
    FieldRow::new(0x9010_0001_0000_0005, 1, 0xffff, 0, TdField::NumL2Vms),
    FieldRow::new(0x1110_0003_0000_0000, 1, ALL, 0, TdField::Attributes),
    FieldRow::new(0x1110_0003_0000_0001, 1, ALL, 0, TdField::Xfam),
    FieldRow::new(0x1110_0002_0000_0002, 1, ALL, 0, TdField::MaxVcpus),
    // GPAW: 0 is 48 bits.
    FieldRow::new(0x1110_0000_0000_0003, 1, 0xff, 0, TdField::Zero),
    FieldRow::new(0x1110_0001_0000_000c, 1, 0xffff, 0, TdField::TscFrequency),
    FieldRow::new(0x9110_0003_0000_0010, 1, 1, 1, TdField::NotifyEnables),
    FieldRow::new(0x1110_0003_0000_0016, 1, ALL, 0, TdField::ConfigFlags),
    // Which bits are writable depends on the TD.
    FieldRow::new(0x1110_0003_0000_0017, 1, ALL, 0, TdField::TdCtls),
    FieldRow::new(
        TOPOLOGY_ENUM_CONFIGURED,
        1,
        0xff,
        0,
        TdField::TopologyConfigured,
    ),
    FieldRow::new(VE_REDUCTION_VALID, 1, 0xff, 0, TdField::VeReductionValid),
    FieldRow::new(
        FEATURE_PARAVIRT_CTRL,
        1,
        Feature::ALL,
        Feature::ALL,
        TdField::FeatureParavirt,
    ),
    FieldRow::new(0x1310_0003_0000_0000, 6, ALL, 0, TdField::Mrtd),
    FieldRow::new(0x1310_0003_0000_0010, 6, ALL, 0, TdField::MrConfigId),
    FieldRow::new(0x1310_0003_0000_0018, 6, ALL, 0, TdField::MrOwner),
    FieldRow::new(0x1310_0003_0000_0020, 6, ALL, 0, TdField::MrOwnerConfig),
    FieldRow::new(0x1310_0003_0000_0040, 24, ALL, 0, TdField::Rtmr),
    // PRE_IMPORT_UUID
    FieldRow::new(0x9810_0003_0000_0040, 4, ALL, 0, TdField::Zero),
    // SERVTD_HASH, SERVTD_NUM, SERVTD_BINDINGS_TABLE
    FieldRow::new(0x9910_0003_0000_0000, 6, ALL, 0, TdField::Zero),
    FieldRow::new(0x9910_0001_0000_0006, 1, ALL, 0, TdField::Zero),
    FieldRow::new(0x9910_0003_0000_0080, 1, ALL, 0, TdField::Zero),
];

/// The TD context.
pub(crate) struct VmTable<'a, 'm>(pub(crate) &'a Td<'m>);

impl VmTable<'_, '_> {
    /// The row of a field that this module has.
    fn locate(&self, key: Key) -> Result<(&'static FieldRow<TdField>, u64), Status> {
        let is_of_second = |field| {
            matches!(
                field,
                TdField::TopologyConfigured | TdField::VeReductionValid | TdField::FeatureParavirt
            )
        };
        locate(ROWS, key)
            .filter(|(row, _)| !is_of_second(row.what) || self.0.config.is_second())
            .ok_or(Status::METADATA_FIELD_ID_INCORRECT)
    }

    fn value(&self, field: TdField, element: u64) -> u64 {
        let Td {
            config,
            measurements,
            ..
        } = self.0;
        match field {
            TdField::Uuid => word(&config.uuid, element),
            TdField::NumVcpus => u64::from(config.num_vcpus),
            TdField::NumL2Vms => u64::from(config.num_l2_vms),
            TdField::Attributes => config.attributes,
            TdField::Xfam => config.xfam,
            TdField::MaxVcpus => u64::from(config.max_vcpus),
            TdField::TscFrequency => u64::from(config.tsc_khz / 25_000),
            TdField::NotifyEnables => self.0.notify_enables,
            TdField::ConfigFlags => config.config_flags,
            TdField::TdCtls => self.0.td_ctls,
            TdField::Mrtd => digest_word(&measurements.mrtd, element),
            TdField::MrConfigId => digest_word(&measurements.mrconfigid, element),
            TdField::MrOwner => digest_word(&measurements.mrowner, element),
            TdField::MrOwnerConfig => digest_word(&measurements.mrownerconfig, element),
            TdField::Rtmr => digest_word(measurements.rtmr.as_flattened(), element),
            TdField::TopologyConfigured | TdField::VeReductionValid => 1,
            TdField::FeatureParavirt => self.0.feature_paravirt,
            TdField::Zero => 0,
        }
    }
}

fn word(words: &[u64], element: u64) -> u64 {
    usize::try_from(element)
        .ok()
        .and_then(|i| words.get(i))
        .copied()
        .unwrap_or(0)
}

fn digest_word(digest: &[u8], element: u64) -> u64 {
    let index = usize::try_from(element).unwrap_or(usize::MAX);
    let chunk = digest
        .chunks_exact(8)
        .nth(index)
        .and_then(|c| c.try_into().ok());
    chunk.map_or(0, u64::from_le_bytes)
}

impl Table for VmTable<'_, '_> {
    fn read(&self, key: Key) -> Result<u64, Status> {
        let (row, element) = self.locate(key)?;
        Ok(self.value(row.what, element) & row.read)
    }

    fn readable_from(&self, key: Key) -> Option<u64> {
        let id = readable_from(ROWS, key)?;
        if self.locate(Key::of(id)).is_ok() {
            return Some(id);
        }
        self.readable_from(Key::of(id).next())
    }
}

/// Writes one TD-scope element and returns its old value, cut to the read mask.
pub(crate) fn write(td: &mut Td<'_>, raw_id: u64, request: Request) -> Result<u64, Status> {
    let key = decode_for_write(raw_id)?;
    let (row, element) = VmTable(td).locate(key)?;
    let old = VmTable(td).value(row.what, element);
    let target = Target {
        old,
        write: match row.what {
            TdField::TdCtls => td.config.td_ctls_write_mask(),
            _ => row.write,
        },
        element: row.element_mask(),
        is_gpa: false,
    };
    let new = target.merge(request)?;
    let is_locked = td.td_ctls & td_ctls::LOCK != 0;
    match row.what {
        TdField::NotifyEnables => td.notify_enables = new,
        TdField::TdCtls | TdField::FeatureParavirt if is_locked => {
            if new != old {
                return Err(Status::METADATA_FIELD_VALUE_NOT_VALID);
            }
        }
        TdField::TdCtls => {
            let is_flexible = td.config.config_flags & config_flags::FLEXIBLE_PENDING_VE != 0;
            if (old ^ new) & td_ctls::PENDING_VE_DISABLE != 0 && !is_flexible {
                return Err(Status::METADATA_FIELD_VALUE_NOT_VALID);
            }
            td.td_ctls = if new & td_ctls::REDUCE_VE == 0 {
                new
            } else {
                new | td_ctls::ENUM_TOPOLOGY | td_ctls::VIRT_CPUID2
            };
        }
        TdField::FeatureParavirt => td.feature_paravirt = new,
        // The other rows have an empty write mask, which merge() has refused.
        _ => return Err(Status::METADATA_FIELD_NOT_WRITABLE),
    }
    Ok(old & row.read)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::testing::with_td;

    const TD_CTLS: u64 = 0x1110_0003_0000_0017;

    #[test]
    fn reduce_ve_is_refused_and_notify_enables_is_cleared() {
        with_td(|td, _, _| {
            let reduce_ve = write(td, TD_CTLS, Request { value: 8, mask: 8 });
            assert_eq!(reduce_ve, Err(Status::METADATA_FIELD_NOT_WRITABLE));
            let request = Request {
                value: 0,
                mask: u64::MAX,
            };
            assert_eq!(write(td, 0x9110_0003_0000_0010, request), Ok(0));
        });
    }

    #[test]
    fn pending_ve_disable_changes_only_when_flexible() {
        with_td(|td, _, _| {
            let request = Request { value: 0, mask: 1 };
            assert_eq!(
                write(td, TD_CTLS, request),
                Err(Status::METADATA_FIELD_VALUE_NOT_VALID)
            );
            td.config.config_flags |= config_flags::FLEXIBLE_PENDING_VE;
            assert_eq!(write(td, TD_CTLS, request), Ok(1));
            assert_eq!(td.td_ctls, 0);
        });
    }

    #[test]
    fn hardware_seal_keys_are_switched_where_the_td_has_sealing() {
        with_td(|td, _, _| {
            let bit = td_ctls::ENABLE_HW_SEAL_KEYS;
            let request = Request {
                value: bit,
                mask: bit,
            };
            let without = write(td, TD_CTLS, request);
            assert_eq!(without, Err(Status::METADATA_FIELD_NOT_WRITABLE));
            td.config.config_flags |= config_flags::SEALING;
            assert_eq!(write(td, TD_CTLS, request), Ok(1));
            let all = Request {
                value: 1,
                mask: u64::MAX,
            };
            assert_eq!(write(td, TD_CTLS, all), Ok(bit | 1));
            assert_eq!(td.td_ctls, 1);
            td.config.feature_level = crate::td::FeatureLevel::Base;
            let early = write(td, TD_CTLS, request);
            assert_eq!(early, Err(Status::METADATA_FIELD_NOT_WRITABLE));
        });
    }

    #[test]
    fn topology_is_there_in_the_2_0_line() {
        with_td(|td, _, _| {
            const BITS: u64 = td_ctls::ENUM_TOPOLOGY | td_ctls::VIRT_CPUID2;
            let request = Request {
                value: BITS,
                mask: BITS,
            };
            let configured = |td: &Td<'_>| read(&VmTable(td), TOPOLOGY_ENUM_CONFIGURED);
            let before = configured(td);
            assert_eq!(before.status, Status::METADATA_FIELD_ID_INCORRECT);
            assert_eq!(read(&VmTable(td), TD_CTLS).next_id, 0x1310_0003_0000_0000);
            let refused = write(td, TD_CTLS, request);
            assert_eq!(refused, Err(Status::METADATA_FIELD_NOT_WRITABLE));
            td.config.feature_level = crate::td::FeatureLevel::Second;
            assert_eq!(
                read(&VmTable(td), TD_CTLS).next_id,
                TOPOLOGY_ENUM_CONFIGURED
            );
            assert_eq!(configured(td).value, 1);
            let paravirt = read(&VmTable(td), VE_REDUCTION_VALID).next_id;
            assert_eq!(paravirt, FEATURE_PARAVIRT_CTRL);
            // Linux asks without a context.
            assert_eq!(read(&VmTable(td), 0x9100_0000_0000_0019).value, 1);
            assert_eq!(write(td, TD_CTLS, request), Ok(1));
            assert_eq!(td.td_ctls, BITS | 1);
        });
    }

    #[test]
    fn locked_controls_keep_their_values() {
        with_td(|td, _, _| {
            td.config.feature_level = crate::td::FeatureLevel::Second;
            let set = |td: &mut Td<'_>, id, value, mask| write(td, id, Request { value, mask });
            assert_eq!(set(td, FEATURE_PARAVIRT_CTRL, 0x10, 0x30), Ok(0));
            // One write may lock and change something else.
            let both = td_ctls::LOCK | td_ctls::VIRT_CPUID2;
            assert_eq!(set(td, TD_CTLS, both, both), Ok(1));
            assert_eq!(td.td_ctls, both | 1);
            for (value, mask) in [
                (0, td_ctls::LOCK),
                (0, td_ctls::VIRT_CPUID2),
                (td_ctls::REDUCE_VE, td_ctls::REDUCE_VE),
            ] {
                let refused = set(td, TD_CTLS, value, mask);
                assert_eq!(refused, Err(Status::METADATA_FIELD_VALUE_NOT_VALID));
            }
            let refused = set(td, FEATURE_PARAVIRT_CTRL, 0, 0x10);
            assert_eq!(refused, Err(Status::METADATA_FIELD_VALUE_NOT_VALID));
            // What changes nothing is no change.
            assert_eq!(set(td, TD_CTLS, both | 1, u64::MAX), Ok(both | 1));
            assert_eq!(set(td, FEATURE_PARAVIRT_CTRL, 0x10, 0x30), Ok(0x10));
            // Bits that the field does not have are refused first.
            let reserved = set(td, TD_CTLS, 1 << 5, 1 << 5);
            assert_eq!(reserved, Err(Status::METADATA_FIELD_NOT_WRITABLE));
            assert_eq!((td.td_ctls, td.feature_paravirt), (both | 1, 0x10));
        });
    }

    #[test]
    fn reduction_brings_topology_and_leaf_2() {
        with_td(|td, _, _| {
            td.config.feature_level = crate::td::FeatureLevel::Second;
            let set = |td: &mut Td<'_>, value, mask| write(td, TD_CTLS, Request { value, mask });
            assert_eq!(read(&VmTable(td), VE_REDUCTION_VALID).value, 1);
            assert_eq!(set(td, 8, 8), Ok(1));
            assert_eq!(td.td_ctls, 0xf);
            // They can't be had without.
            assert_eq!(set(td, 0, 6), Ok(0xf));
            assert_eq!(td.td_ctls, 0xf);
            assert_eq!(set(td, 0, 8), Ok(0xf));
            assert_eq!(td.td_ctls, 7);
        });
    }

    #[test]
    fn rtmr_elements_are_the_little_endian_words_of_the_digest() {
        with_td(|td, _, _| {
            td.measurements.rtmr[3][40] = 0x5a;
            assert_eq!(read(&VmTable(td), 0x1310_0003_0000_0057).value, 0x5a);
            let past = read(&VmTable(td), 0x1310_0003_0000_0058);
            assert_eq!(past.status, Status::METADATA_FIELD_ID_INCORRECT);
            assert_eq!(read(&VmTable(td), 0x9010_0001_0000_0005).value, 2);
        });
    }
}
