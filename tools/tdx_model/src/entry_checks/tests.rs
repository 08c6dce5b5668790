// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of [`super`]; `rules/entry.rs` has one for each rule of the specification.

use super::*;
use crate::gpa::VmIndex;
use crate::testing::with_td;

fn checked(change: &[(Field, u64)]) -> Result<(), EntryFailure> {
    let mut result = Ok(());
    with_td(|td, vcpu, _| {
        let l2 = vcpu.l2_mut(VmIndex::Vm1);
        for (field, value) in change {
            l2.vmcs.set(*field, *value);
        }
        result = check(&td.config, l2, 0x20).map_err(|refusal| refusal.failure);
    });
    result
}

const LONG_MODE: [(Field, u64); 6] = [
    (Field::GuestCr0, 0x8005_0033),
    (Field::GuestCr4, 0x2060),
    (Field::GuestEfer, 0xd01),
    (Field::EntryControls, 0x003e_c204),
    (Field::GuestCsAccess, 0xa09b),
    (Field::GuestRip, 0xffff_8000_0000_0000),
];

fn long_mode(change: &[(Field, u64)]) -> Result<(), EntryFailure> {
    let mut all = std::vec::Vec::from(LONG_MODE);
    all.extend_from_slice(change);
    checked(&all)
}

#[test]
fn initial_state_and_long_mode_can_be_entered() {
    assert_eq!(checked(&[]), Ok(()));
    assert_eq!(long_mode(&[]), Ok(()));
}

#[test]
fn real_mode_with_a_data_segment_as_code_can_be_entered() {
    let real = [
        (Field::GuestCr0, 0x20),
        (Field::GuestCsAccess, 0x93),
        (Field::GuestCsLimit, 0xffff),
        (Field::GuestCsSelector, 0xf000),
        (Field::GuestCsBase, 0xf_0000),
    ];
    assert_eq!(checked(&real), Ok(()));
}

#[test]
fn mode_bits_must_agree() {
    assert_eq!(long_mode(&[(Field::GuestEfer, 0x901)]), Err(INVALID));
    assert_eq!(
        long_mode(&[(Field::EntryControls, 0x003e_c004)]),
        Err(INVALID)
    );
    assert_eq!(long_mode(&[(Field::GuestCr4, 0x2040)]), Err(INVALID));
    assert_eq!(long_mode(&[(Field::GuestCsAccess, 0xe09b)]), Err(INVALID));
    assert_eq!(long_mode(&[(Field::GuestRip, 1 << 50)]), Err(INVALID));
    assert_eq!(checked(&[(Field::GuestRip, 1 << 32)]), Err(INVALID));
    assert_eq!(checked(&[(Field::GuestCr0, 0x8000_0020)]), Err(INVALID));
}

#[test]
fn malformed_events_are_control_failures() {
    for info in [
        0x8000_0100,
        0x8000_0203,
        0x8000_0320,
        0x8000_0701,
        0x8000_1020,
        0x8000_0820,
    ] {
        let event = [(Field::EntryInterruptionInfo, info)];
        assert_eq!(
            checked(&event),
            Err(EntryFailure::ControlFields),
            "{info:#x}"
        );
    }
    let gp = [(Field::EntryInterruptionInfo, 0x8000_0b0d)];
    assert_eq!(checked(&gp), Ok(()));
}

#[test]
fn a_pending_monitor_trap_can_be_entered_and_ends_the_td() {
    let event = [(Field::EntryInterruptionInfo, 0x8000_0700)];
    assert_eq!(checked(&event), Err(EntryFailure::MonitorTrap));
}

#[test]
fn hlat_needs_a_pointer_that_the_processor_can_use() {
    let on = (Field::TertiaryControls, 0x82);
    assert_eq!(checked(&[(Field::HlatPointer, 1 << 46)]), Ok(()));
    assert_eq!(checked(&[on, (Field::HlatPointer, 0x1018)]), Ok(()));
    let beyond = [on, (Field::HlatPointer, 1 << 46)];
    assert_eq!(checked(&beyond), Err(EntryFailure::ControlFields));
}

#[test]
fn external_interrupt_needs_if_and_no_blocking() {
    let irq = (Field::EntryInterruptionInfo, 0x8000_0030);
    assert_eq!(checked(&[irq]), Err(INVALID));
    assert_eq!(checked(&[irq, (Field::GuestRflags, 0x202)]), Ok(()));
    let sti = [
        irq,
        (Field::GuestRflags, 0x202),
        (Field::GuestInterruptibility, 1),
    ];
    assert_eq!(checked(&sti), Err(INVALID));
    let nmi = [
        (Field::EntryInterruptionInfo, 0x8000_0202),
        (Field::GuestInterruptibility, 8),
    ];
    assert_eq!(
        checked(&nmi),
        Err(EntryFailure::GuestState { qualification: 3 })
    );
}

#[test]
fn tpr_threshold_counts_only_without_virtual_interrupt_delivery() {
    let threshold = (Field::TprThreshold, 3);
    assert_eq!(checked(&[threshold]), Ok(()));
    let off = (Field::SecondaryControls, 0x1338_b1fa);
    assert_eq!(checked(&[threshold, off]), Err(EntryFailure::ControlFields));
    assert_eq!(checked(&[(Field::TprThreshold, 2), off]), Ok(()));
}

#[test]
fn unset_pdptes_forbid_pae_paging() {
    let pae = [
        (Field::GuestCr0, 0x8000_0021),
        (Field::GuestCr4, 0x2060),
        (Field::GuestEfer, 0x801),
    ];
    let want = EntryFailure::GuestState { qualification: 2 };
    assert_eq!(checked(&pae), Err(want));
}
