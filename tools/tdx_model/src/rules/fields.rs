// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! L2 VMCS fields: initial values, write masks, rules for single fields [ABI L2 VMCS].

use crate::Field;
use crate::fields::FIELDS;
use crate::gprs::Gprs;
use crate::status::Status;
use crate::td::Td;
use crate::testing::{FakeMachine, complete, with_td};
use crate::vcpu::Vcpu;

const ALL: u64 = u64::MAX;

/// The id of a field of VM 1, from its encoding, whose bits 14:13 give the width.
fn id(encoding: u64) -> u64 {
    let size_code = match encoding >> 13 & 3 {
        0 => 1,
        2 => 2,
        _ => 3,
    };
    0x2424 << 48 | size_code << 32 | encoding
}

fn width(encoding: u64) -> u64 {
    match encoding >> 13 & 3 {
        0 => 0xffff,
        2 => 0xffff_ffff,
        _ => ALL,
    }
}

/// TDG.VP.RD.
fn read(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, encoding: u64) -> (Status, u64) {
    let mut g = Gprs {
        rdx: id(encoding),
        ..Gprs::ZERO
    };
    (Status(complete(td, vcpu, m, 9, &mut g)), g.r8)
}

/// TDG.VP.WR; R8 is returned too.
fn write(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    m: &mut FakeMachine,
    (encoding, r8, r9): (u64, u64, u64),
) -> (Status, u64) {
    let rdx = id(encoding);
    let mut g = Gprs {
        rdx,
        r8,
        r9,
        ..Gprs::ZERO
    };
    (Status(complete(td, vcpu, m, 10, &mut g)), g.r8)
}

/// What L1 reads in a fresh virtual processor, where it is not 0.
const INITIAL: [(u64, u64); 64] = [
    (0x0002, 0xffff),
    (0x2016, ALL),
    (0x2000, ALL),
    (0x2002, ALL),
    (0x2012, ALL),
    (0x201a, 0x1e),
    (0x202a, ALL),
    (0x202e, ALL),
    (0x2034, 0x80),
    (0x2036, ALL),
    (0x2804, 0x0007_0406_0007_0406),
    (0x2806, 0x901),
    (0x2808, 0xff),
    (0x280a, ALL),
    (0x280c, ALL),
    (0x280e, ALL),
    (0x2810, ALL),
    (0x4000, 0x3f),
    (0x4002, 0xb522_6dfa),
    (0x4004, 0x4_0000),
    (0x400c, 0x1f3c_8204),
    (0x4012, 0x003e_c004),
    (0x401e, 0x1338_b3fa),
    (0x4800, 0xffff_ffff),
    (0x4802, 0xffff_ffff),
    (0x4804, 0xffff_ffff),
    (0x4806, 0xffff_ffff),
    (0x4808, 0xffff_ffff),
    (0x480a, 0xffff_ffff),
    (0x480c, 0xffff),
    (0x480e, 0xffff),
    (0x4810, 0xffff),
    (0x4814, 0xc093),
    (0x4816, 0xc09b),
    (0x4818, 0xc093),
    (0x481a, 0xc093),
    (0x481c, 0xc093),
    (0x481e, 0xc093),
    (0x4820, 0x1_0082),
    (0x4822, 0x8b),
    (0x6000, ALL),
    (0x6002, ALL),
    (0x6800, 0x21),
    (0x6804, 0x2040),
    (0x681a, 0x400),
    (0x681e, 0xffff_fff0),
    (0x6820, 2),
    // Zero: the shadows as L1 sees them, CR3, selectors, event, bitmaps, activity, exit reason.
    (0x6004, 0),
    (0x6006, 0),
    (0x6802, 0),
    (0x0802, 0),
    (0x4016, 0),
    (0x201c, 0),
    (0x202c, 0),
    (0x4812, 0),
    (0x4824, 0),
    (0x4826, 0),
    (0x4402, 0),
    (0x2802, 0),
    (0x0810, 0),
    (0x401c, 0),
    (0x4006, 0),
    (0x400a, 0),
    (0x6822, 0),
];

#[test]
fn fresh_processor_has_the_initial_values_of_the_specification() {
    with_td(|td, vcpu, m| {
        for (encoding, want) in INITIAL {
            let (status, value) = read(td, vcpu, m, encoding);
            assert_eq!((status, value), (Status::SUCCESS, want), "{encoding:#x}");
        }
    });
}

/// Write masks that are not the whole field.
const WRITE_MASKS: [(u64, u64); 24] = [
    (0x0002, 0),
    (0x2000, 0),
    (0x2012, 0xffff_ffff_ffff_f000),
    (0x2016, 0),
    (0x2018, 0),
    (0x201a, 0x80),
    (0x202a, 0),
    (0x202e, 0),
    (0x2034, 0xe),
    (0x2036, 0),
    (0x2040, 0xf_ffff_ffff_f018),
    (0x2802, 0xffc7),
    (0x2806, 0x501),
    (0x4000, 0),
    (0x4002, 0x48d9_9a04),
    (0x4004, 0xfffb_ffff),
    (0x400c, 0),
    (0x4012, 0x200),
    (0x401e, 0x0c51_3e0c),
    (0x4024, 0),
    (0x4826, 0),
    (0x6800, 0x8005_001f),
    (0x6804, 0x03ff_1fbf),
    (0x2002, 0),
];

/// Fields L1 may neither read nor write.
const HIDDEN: [u64; 35] = [
    0x0000, 0x0004, 0x0812, 0x2004, 0x2006, 0x2008, 0x200a, 0x200c, 0x200e, 0x2010, 0x2014, 0x2024,
    0x2026, 0x2028, 0x2032, 0x2038, 0x203a, 0x203c, 0x203e, 0x204a, 0x204c, 0x2800, 0x400e, 0x4010,
    0x4014, 0x4026, 0x4828, 0x482e, 0x6c08, 0x6c14, 0x6c16, 0x6c1a, 0x0000, 0x2010, 0x2032,
];

#[test]
fn each_field_can_be_written_in_the_bits_of_its_mask_and_in_no_other() {
    // Miri is a few hundred times slower.
    let every = if cfg!(miri) { 13 } else { 1 };
    for definition in FIELDS.iter().step_by(every) {
        let encoding = u64::from(definition.encoding);
        if HIDDEN.contains(&encoding) {
            continue;
        }
        let listed = WRITE_MASKS.iter().find(|(e, _)| *e == encoding);
        let mask = listed.map_or(width(encoding), |(_, mask)| *mask);
        with_td(|td, vcpu, m| {
            let (_, old) = read(td, vcpu, m, encoding);
            let step = if cfg!(miri) { 17 } else { 1 };
            for bit in (0..64).step_by(step).map(|bit| 1_u64 << bit) {
                let (status, r8) = write(td, vcpu, m, (encoding, !old & bit, bit));
                if mask & bit == 0 {
                    let want = (Status::METADATA_FIELD_NOT_WRITABLE, 0);
                    assert_eq!((status, r8), want, "{encoding:#x} bit {bit:#x}");
                } else {
                    // Allowed, or refused by a rule about the value, never by the mask.
                    let value = Status::METADATA_FIELD_VALUE_NOT_VALID;
                    assert!(
                        status == Status::SUCCESS || status == value,
                        "{encoding:#x} bit {bit:#x}"
                    );
                    vcpu.l2_mut(crate::gpa::VmIndex::Vm1)
                        .vmcs
                        .set(definition.field, old);
                }
            }
        });
    }
}

#[test]
fn fields_of_the_module_can_be_neither_read_nor_written() {
    with_td(|td, vcpu, m| {
        for encoding in HIDDEN {
            let read = read(td, vcpu, m, encoding);
            assert_eq!(
                read,
                (Status::METADATA_FIELD_NOT_READABLE, 0),
                "{encoding:#x}"
            );
            let written = write(td, vcpu, m, (encoding, 0, ALL));
            let want = (Status::METADATA_FIELD_NOT_WRITABLE, 0);
            assert_eq!(written, want, "{encoding:#x}");
        }
        for encoding in [0x0003, 0x2013, 0x2030, 0x6801, 0x7000] {
            let unknown = (Status::METADATA_FIELD_ID_INCORRECT, 0);
            assert_eq!(read(td, vcpu, m, encoding), unknown, "{encoding:#x}");
        }
    });
}

/// Field, value, mask, true if it is accepted.
const VALUES: [(u64, u64, u64, bool); 46] = [
    // Virtual-APIC address: a private page.
    (0x2012, 0x5000, ALL, true),
    (0x2012, 0x5008, ALL, false),
    (0x2012, 1 << 47 | 0x5000, ALL, false),
    (0x2012, 1 << 52, ALL, false),
    // HLAT pointer, CR3, PDPTEs: private addresses.
    (0x2040, 0x5000, ALL, true),
    (0x2040, 1 << 47, ALL, false),
    (0x6802, 0x1000, ALL, true),
    (0x6802, 1 << 47 | 0x1000, ALL, false),
    (0x6802, 1 << 61 | 0x1000, ALL, false),
    (0x6802, 1 << 63 | 0x1000, ALL, false),
    (0x280a, 0x1001, ALL, true),
    (0x280a, 1 << 48, ALL, false),
    (0x280c, 1 << 47, ALL, false),
    (0x280e, 1 << 63, ALL, false),
    (0x2810, 0x2001, ALL, true),
    // CR0: NE set, NW, CD and reserved bits clear.
    (0x6800, 0x8005_0033, ALL, true),
    (0x6800, 0x8005_0013, ALL, false),
    (0x6800, 0xc005_0033, ALL, false),
    (0x6800, 0xa005_0033, ALL, false),
    (0x6800, 0x8007_0033, ALL, false),
    // CR4: MCE and VMXE set, nothing that the TD lacks (CET, PKS, UINTR, Key Locker).
    (0x6804, 0x2060, ALL, true),
    (0x6804, 0x2020, ALL, false),
    (0x6804, 0x0060, ALL, false),
    (0x6804, 0x2060 | 1 << 19, ALL, false),
    (0x6804, 0x2060 | 1 << 23, ALL, false),
    (0x6804, 0x2060 | 1 << 24, ALL, false),
    (0x6804, 0x2060 | 1 << 25, ALL, false),
    // EFER: NXE stays.
    (0x2806, 0xd01, ALL, true),
    (0x2806, 0x501, ALL, false),
    (0x2806, 0x500, 0x501, true),
    // DEBUGCTL: no trace without a store.
    (0x2802, 0x40, 0xffc7, false),
    (0x2802, 0x80, 0xffc7, true),
    (0x2802, 0xc0, 0xffc7, true),
    // EPTP: supervisor shadow stacks only with CET.
    (0x201a, 0x80, 0x80, false),
    // Exception bitmap: #MC stays.
    (0x4004, 0x4_0000, ALL, true),
    (0x4004, 0, ALL, false),
    // Controls: RDPMC exiting without PERFMON, user wait without WAITPKG, PCONFIG without MKTME.
    (0x4002, 0, 1 << 11, false),
    (0x4002, 1 << 11, 1 << 11, true),
    (0x401e, 1 << 26, 1 << 26, false),
    (0x401e, 1 << 27, 1 << 27, false),
    (0x401e, 0, 1 << 9, true),
    (0x4012, 0x003e_c204, ALL, true),
    (0x4012, 0x003e_c206, ALL, false),
    // PLE gap and window: converted with the TD's TSC offset, never in range.
    (0x4020, 0x80, ALL, false),
    (0x4022, 0x1000, ALL, false),
    // Wider than the field.
    (0x0802, 0x1_0000, ALL, false),
];

#[test]
fn values_of_fields_with_rules_are_accepted_and_refused_as_specified() {
    for (encoding, value, mask, is_accepted) in VALUES {
        with_td(|td, vcpu, m| {
            let (_, old) = read(td, vcpu, m, encoding);
            let (status, r8) = write(td, vcpu, m, (encoding, value, mask));
            let (want, want_r8) = if is_accepted {
                (Status::SUCCESS, old)
            } else {
                (Status::METADATA_FIELD_VALUE_NOT_VALID, 0)
            };
            assert_eq!((status, r8), (want, want_r8), "{encoding:#x} = {value:#x}");
            let (_, now) = read(td, vcpu, m, encoding);
            let kept = if is_accepted {
                (old & !mask) | (value & mask)
            } else {
                old
            };
            assert_eq!(now, kept, "{encoding:#x} = {value:#x}");
        });
    }
}

#[test]
fn granted_features_open_their_bits() {
    with_td(|td, vcpu, m| {
        td.config.attributes |= 1 << 63 | 1 << 30;
        td.config.xfam |= 0x1800;
        td.config.cpu.cr4_fixed1 |= 3 << 23;
        td.config.cpu.has_waitpkg = true;
        let accepted = [
            (0x4002, 0, 1 << 11),
            (0x401e, 1 << 26, 1 << 26),
            (0x201a, 0x80, 0x80),
            (0x6804, 0x2060 | 3 << 23, ALL),
        ];
        for request in accepted {
            let (status, _) = write(td, vcpu, m, request);
            assert_eq!(status, Status::SUCCESS, "{request:x?}");
        }
    });
}

#[test]
fn fields_outside_the_table_of_a_rule_take_any_value() {
    with_td(|td, vcpu, m| {
        let free = [
            Field::EoiExitBitmap2,
            Field::XssExitingBitmap,
            Field::GuestInterruptibility,
            Field::TprThreshold,
            Field::EntryInterruptionInfo,
            Field::ExitReason,
            Field::GuestDr7,
        ];
        for encoding in free.map(Field::encoding) {
            let (status, _) = write(td, vcpu, m, (encoding, width(encoding), ALL));
            assert_eq!(status, Status::SUCCESS, "{encoding:#x}");
            assert_eq!(read(td, vcpu, m, encoding).1, width(encoding));
        }
    });
}
