// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual VMX capability MSRs L1 reads to learn what its L2 VMs can do.
//!
//! Derived from the initial values and write masks of `fields.rs`, as the module derives them
//! [ABI virtual VMX MSRs].

use crate::fields::{self, Field};
use crate::metadata::vmcs_rules::{primary_write_mask, secondary_write_mask};
use crate::td::{TdConfig, xfam};
use crate::vmcs::{CR0_BASE_SHADOW, CR0_VARIABLE, CR4_BASE_SHADOW, CR4_VARIABLE};

/// Low half: bits that must be 1. High half: bits that may be 1.
const fn allowed(initial: u64, write: u64) -> u64 {
    (initial & !write) | ((initial | write) << 32)
}

/// IA32_VMX_BASIC: information for INS/OUTS, TRUE controls, error code optional.
const BASIC: u64 = 7 << 54;
/// IA32_VMX_MISC: unrestricted guest, HLT and shutdown states, PT, 4 CR3 targets, VMWRITE to any
/// field, zero-length injection.
const MISC: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 14 | 4 << 16 | 1 << 29 | 1 << 30;
/// IA32_VMX_EPT_VPID_CAP: execute-only, 2M, 1G, advanced exit information.
const EPT_VPID_CAP: u64 = 1 | 1 << 16 | 1 << 17 | 1 << 22;
/// The same: supervisor shadow stack.
const EPT_SSS: u64 = 1 << 23;

/// The value of a VMX capability MSR, if L1 may read it.
pub(crate) fn value(config: &TdConfig, index: u32) -> Option<u64> {
    let controls = |field: Field, write: u64| allowed(fields::initial(config, field), write);
    let value = match index {
        0x480 => BASIC,
        0x485 => MISC,
        0x486 => CR0_BASE_SHADOW,
        0x487 => CR0_BASE_SHADOW | CR0_VARIABLE,
        0x488 => CR4_BASE_SHADOW,
        0x489 => CR4_BASE_SHADOW | (CR4_VARIABLE & config.cr4_allowed()),
        0x48b => controls(Field::SecondaryControls, secondary_write_mask(config)),
        0x48c if config.has_xfam(xfam::CET_S) => EPT_VPID_CAP | EPT_SSS,
        0x48c => EPT_VPID_CAP,
        0x48d => controls(Field::PinControls, 0),
        0x48e => controls(Field::PrimaryControls, primary_write_mask(config)),
        0x48f => controls(Field::ExitControls, 0),
        0x490 => controls(Field::EntryControls, 0x200),
        0x491 => 0,
        0x492 => 0x80 | 0xe,
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msr::{Direction, MsrAction, l1_msr};
    use crate::testing::with_td;
    use crate::ve::Category;

    #[test]
    fn fixed_bits_follow_the_variable_masks() {
        with_td(|td, _, _| {
            assert_eq!(value(&td.config, 0x487), Some(0x8005_003f));
            assert_eq!(value(&td.config, 0x48d), Some(0x0000_003f_0000_003f));
            let entry = value(&td.config, 0x490);
            assert_eq!(entry, Some(0x003e_c204_003e_c004));
        });
    }

    #[test]
    fn controls_of_granted_features_are_fixed_or_free_as_the_masks_say() {
        with_td(|td, _, _| {
            let bits = |config: &TdConfig, index: u32, bit: u64| {
                let value = value(config, index).unwrap_or(0);
                (value >> bit & 1, value >> (bit + 32) & 1)
            };
            // RDPMC exiting is fixed to 1 without PERFMON, L1's choice with it.
            assert_eq!(bits(&td.config, 0x48e, 11), (1, 1));
            assert_eq!(bits(&td.config, 0x490, 22), (0, 0));
            td.config.attributes |= 1 << 63 | 1 << 30;
            assert_eq!(bits(&td.config, 0x48e, 11), (0, 1));
            for (index, bit) in [(0x48f, 12), (0x48f, 30), (0x490, 13), (0x490, 22)] {
                assert_eq!(bits(&td.config, index, bit), (1, 1), "{index:#x} {bit}");
            }
        });
    }

    #[test]
    fn non_true_controls_are_ve_and_writes_are_gp() {
        with_td(|td, vcpu, _| {
            for index in [0x481, 0x482, 0x483, 0x484, 0x48a] {
                let ve = MsrAction::Ve(Category::NonConfigParavirt);
                assert_eq!(l1_msr(td, vcpu, index, Direction::Read, 0), ve);
            }
            for index in (0x480..=0x480).chain(0x485..=0x489).chain(0x48b..=0x492) {
                assert!(matches!(
                    l1_msr(td, vcpu, index, Direction::Read, 0),
                    MsrAction::Value(_)
                ));
                assert_eq!(
                    l1_msr(td, vcpu, index, Direction::Write(0), 0),
                    MsrAction::Gp
                );
            }
        });
    }
}
