// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rules for L1's access to single L2 VMCS fields, beyond the masks of `fields.rs`
//! [ABI L2 VMCS special handling].

use super::{Request, Target};
use crate::fields::{Field, FieldDef, Kind};
use crate::gpa::Gpa;
use crate::msr::{DEBUGCTL_TR, DEBUGCTL_TR_BTS};
use crate::status::Status;
use crate::td::{TdConfig, attributes, xfam};
use crate::vmcs::{CR0_BASE_SHADOW, CR4_BASE_SHADOW, Vmcs, cr0_base_mask, cr4_base_mask};

/// RDPMC exiting, which is fixed without PERFMON.
const PRIMARY_RDPMC: u64 = 1 << 11;
/// Enable user wait and pause, which needs WAITPKG.
const SECONDARY_USER_WAIT: u64 = 1 << 26;
/// Enable PCONFIG, which needs MKTME; no modelled TD offers it.
const SECONDARY_PCONFIG: u64 = 1 << 27;
/// Supervisor shadow-stack control of the EPTP.
const EPTP_SSS: u64 = 1 << 7;

/// Primary controls that L1 can change in this TD.
pub(crate) const fn primary_write_mask(config: &TdConfig) -> u64 {
    if config.has_attributes(attributes::PERFMON) {
        0x48d9_9a04
    } else {
        0x48d9_9a04 & !PRIMARY_RDPMC
    }
}

/// Secondary controls that L1 can change in this TD.
pub(crate) const fn secondary_write_mask(config: &TdConfig) -> u64 {
    let mask = 0x0c51_3e0c & !SECONDARY_PCONFIG;
    if config.cpu.has_waitpkg {
        mask
    } else {
        mask & !SECONDARY_USER_WAIT
    }
}

/// The value of a field as L1 sees it, before the read mask.
pub(crate) fn read(config: &TdConfig, vmcs: &Vmcs, field: Field) -> u64 {
    let value = vmcs.get(field);
    match field {
        Field::GuestCr0 => (value & !cr0_base_mask()) | CR0_BASE_SHADOW,
        Field::GuestCr4 => {
            let base = cr4_base_mask(config);
            (value & !base) | (CR4_BASE_SHADOW & base)
        }
        _ => value,
    }
}

/// Writes a field on behalf of L1 and returns its old value, cut to the read mask.
pub(crate) fn write(
    config: &TdConfig,
    vmcs: &mut Vmcs,
    row: &FieldDef,
    request: Request,
) -> Result<u64, Status> {
    let old = read(config, vmcs, row.field);
    let target = Target {
        old,
        write: row.write,
        element: row.field.width_mask(),
        is_gpa: row.kind == Kind::Gpa,
    };
    let new = target.merge(request)?;
    if row.kind == Kind::Gpa && Gpa::private(new).is_none() {
        return Err(Status::METADATA_FIELD_VALUE_NOT_VALID);
    }
    if !is_acceptable(config, row.field, old, new) {
        return Err(Status::METADATA_FIELD_VALUE_NOT_VALID);
    }
    vmcs.set(row.field, new);
    match row.field {
        Field::Cr0Mask | Field::Cr0Shadow => vmcs.recompute_cr0(),
        Field::Cr4Mask | Field::Cr4Shadow => vmcs.recompute_cr4(config),
        _ => {}
    }
    Ok(old & row.read)
}

fn is_acceptable(config: &TdConfig, field: Field, old: u64, new: u64) -> bool {
    let keeps_fixed = |may_change: u64| (old ^ new) & !may_change == 0;
    match field {
        Field::PrimaryControls => keeps_fixed(primary_write_mask(config)),
        Field::SecondaryControls => keeps_fixed(secondary_write_mask(config)),
        Field::GuestCr0 => new & cr0_base_mask() == CR0_BASE_SHADOW,
        Field::GuestCr4 => {
            let base = cr4_base_mask(config);
            new & base == CR4_BASE_SHADOW & base
        }
        Field::GuestDebugctl => {
            config.has_attributes(attributes::DEBUG) || new & DEBUGCTL_TR_BTS != DEBUGCTL_TR
        }
        Field::Eptp => new & EPTP_SSS == 0 || config.has_xfam(xfam::CET_S),
        // The module converts these with the TD's TSC offset, a large negative number for every
        // TD that was not started at power-on; the result never fits the 32 bits it has to.
        Field::PleGap | Field::PleWindow => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::definition_of;
    use crate::testing::with_td;

    fn write_field(
        config: &TdConfig,
        vmcs: &mut Vmcs,
        f: Field,
        v: u64,
        m: u64,
    ) -> Result<u64, Status> {
        let row = definition_of(f.encoding()).expect("table row");
        write(config, vmcs, row, Request { value: v, mask: m })
    }

    const REFUSED: Result<u64, Status> = Err(Status::METADATA_FIELD_VALUE_NOT_VALID);

    #[test]
    fn cr0_needs_ne_set_and_cache_bits_clear() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            let mut set = |value| write_field(&td.config, &mut v, Field::GuestCr0, value, u64::MAX);
            assert_eq!(set(0x8005_0033), Ok(0x21));
            assert_eq!(set(0x8005_0013), REFUSED);
            assert_eq!(set(0xc005_0033), REFUSED);
            assert_eq!(set(0x31), Ok(0x8005_0033));
        });
    }

    #[test]
    fn cr4_needs_mce_and_vmxe_and_granted_bits_only() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            let mut set = |value| write_field(&td.config, &mut v, Field::GuestCr4, value, u64::MAX);
            assert_eq!(set(0x2060), Ok(0x2040));
            assert_eq!(set(0x2060 | 1 << 23), REFUSED);
            assert_eq!(set(0x60), REFUSED);
        });
    }

    #[test]
    fn cr3_and_pdptes_must_be_private_addresses() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            for field in [Field::GuestCr3, Field::Pdpte2] {
                let mut set = |value| write_field(&td.config, &mut v, field, value, u64::MAX);
                assert_eq!(set(1 << 63 | 0x1000), REFUSED);
                assert_eq!(set(1 << 47 | 0x1000), REFUSED);
                assert!(set(0x1001).is_ok());
            }
        });
    }

    #[test]
    fn masks_and_shadows_read_back_as_written() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            let set = |v: &mut Vmcs, f, value| write_field(&td.config, v, f, value, u64::MAX);
            assert_eq!(set(&mut v, Field::Cr4Mask, 0x2000), Ok(u64::MAX));
            assert_eq!(set(&mut v, Field::Cr4Shadow, 0), Ok(0));
            assert_eq!(v.get(Field::Cr4Mask), 0x2000);
            // MCE still is the module's, VMXE is now L1's and hidden.
            assert_eq!(v.visible_cr4(), 0x40);
        });
    }

    #[test]
    fn controls_of_absent_features_are_refused() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            let set = |v: &mut Vmcs, f, m| write_field(&td.config, v, f, !v.get(f) & m, m);
            assert_eq!(set(&mut v, Field::PrimaryControls, 1 << 11), REFUSED);
            assert_eq!(set(&mut v, Field::SecondaryControls, 1 << 27), REFUSED);
            assert!(set(&mut v, Field::SecondaryControls, 1 << 9).is_ok());
            assert!(set(&mut v, Field::PrimaryControls, 1 << 2).is_ok());
            let fixed = set(&mut v, Field::PrimaryControls, 1 << 21);
            assert_eq!(fixed, Err(Status::METADATA_FIELD_NOT_WRITABLE));
            assert_eq!(set(&mut v, Field::PleGap, 0xff), REFUSED);
        });
    }

    #[test]
    fn machine_check_stays_in_the_exception_bitmap() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            let all = write_field(&td.config, &mut v, Field::ExceptionBitmap, 0, 0xfffb_ffff);
            assert_eq!(all, Ok(0x4_0000));
            assert_eq!(v.get(Field::ExceptionBitmap), 0x4_0000);
        });
    }

    #[test]
    fn debugctl_trace_without_a_store_is_refused() {
        with_td(|td, _, _| {
            let mut v = Vmcs::new();
            let mut set =
                |value| write_field(&td.config, &mut v, Field::GuestDebugctl, value, 0xffc7);
            assert_eq!(set(0x40), REFUSED);
            assert_eq!(set(0xc0), Ok(0));
        });
    }
}
