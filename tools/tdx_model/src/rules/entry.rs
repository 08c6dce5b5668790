// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Entry checks of VMX, one row per check [SDM3 26.2, 26.3].

use crate::Field;
use crate::entry_checks::{EntryFailure, check};
use crate::gpa::VmIndex;
use crate::testing::with_td;

/// What an entry ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryOutcome {
    Entered,
    /// VMLAUNCH fails.
    Controls,
    /// Reason 33 with this qualification.
    Guest(u64),
    /// The TD ends.
    Trap,
}
use EntryOutcome::{Controls, Entered, Guest, Trap};

/// Fields and their values.
type State = &'static [(Field, u64)];

/// One rule: its name, how the state differs from 64-bit mode or from reset, the outcome.
type EntryRule = (&'static str, State, EntryOutcome);

const LONG_MODE: [(Field, u64); 6] = [
    (Field::GuestCr0, 0x8005_0033),
    (Field::GuestCr4, 0x2060),
    (Field::GuestEfer, 0xd01),
    (Field::EntryControls, 0x003e_c204),
    (Field::GuestCsAccess, 0xa09b),
    (Field::GuestRip, 0xffff_8000_0000_0000),
];

const V86: [(Field, u64); 26] = [
    (Field::GuestRflags, 1 << 17 | 2),
    (Field::GuestRip, 0x100),
    (Field::GuestEsSelector, 0x100),
    (Field::GuestCsSelector, 0x100),
    (Field::GuestSsSelector, 0x100),
    (Field::GuestDsSelector, 0x100),
    (Field::GuestFsSelector, 0x100),
    (Field::GuestGsSelector, 0x100),
    (Field::GuestEsBase, 0x1000),
    (Field::GuestCsBase, 0x1000),
    (Field::GuestSsBase, 0x1000),
    (Field::GuestDsBase, 0x1000),
    (Field::GuestFsBase, 0x1000),
    (Field::GuestGsBase, 0x1000),
    (Field::GuestEsLimit, 0xffff),
    (Field::GuestCsLimit, 0xffff),
    (Field::GuestSsLimit, 0xffff),
    (Field::GuestDsLimit, 0xffff),
    (Field::GuestFsLimit, 0xffff),
    (Field::GuestGsLimit, 0xffff),
    (Field::GuestEsAccess, 0xf3),
    (Field::GuestCsAccess, 0xf3),
    (Field::GuestSsAccess, 0xf3),
    (Field::GuestDsAccess, 0xf3),
    (Field::GuestFsAccess, 0xf3),
    (Field::GuestGsAccess, 0xf3),
];

#[rustfmt::skip]
const FROM_LONG_MODE: &[EntryRule] = &[
    ("64-bit mode", &[], Entered),
    ("paging needs protection", &[(Field::GuestCr0, 0x8005_0032)], Guest(0)),
    ("IA-32e mode needs PAE", &[(Field::GuestCr4, 0x2040)], Guest(0)),
    ("IA-32e mode needs paging", &[(Field::GuestCr0, 0x5_0033)], Guest(0)),
    ("LMA follows the entry control", &[(Field::GuestEfer, 0x901)], Guest(0)),
    ("LME and LMA agree while paging is on", &[(Field::GuestEfer, 0xc01)], Guest(0)),
    ("EFER has no reserved bits", &[(Field::GuestEfer, 0xd03)], Guest(0)),
    ("CET needs write protection", &[(Field::GuestCr4, 0x80_2060), (Field::GuestCr0, 0x8004_0033)], Guest(0)),
    ("CET must be granted", &[(Field::GuestCr4, 0x80_2060)], Guest(0)),
    ("DR7 is 32 bits", &[(Field::GuestDr7, 1 << 32 | 0x400)], Guest(0)),
    ("PAT type 2 is reserved", &[(Field::GuestPat, 0x0007_0406_0007_0402)], Guest(0)),
    ("PAT type 8 is reserved", &[(Field::GuestPat, 0x0807_0406_0007_0406)], Guest(0)),
    ("SYSENTER_ESP is canonical", &[(Field::GuestSysenterEsp, 1 << 47)], Guest(0)),
    ("SYSENTER_EIP is canonical", &[(Field::GuestSysenterEip, 1 << 47)], Guest(0)),
    ("five levels widen addresses", &[(Field::GuestSysenterEip, 1 << 47), (Field::GuestCr4, 0x3060)], Entered),
    ("S_CET has no reserved bits", &[(Field::GuestSCet, 1 << 6)], Guest(0)),
    ("S_CET is canonical", &[(Field::GuestSCet, 1 << 47)], Guest(0)),
    ("S_CET suppresses or tracks", &[(Field::GuestSCet, 3 << 10)], Guest(0)),
    ("S_CET that tracks", &[(Field::GuestSCet, 0x835)], Entered),
    ("interrupt SSP table is canonical", &[(Field::GuestInterruptSspTable, 1 << 47)], Guest(0)),
    ("LBR_CTL bits 15:4 are reserved", &[(Field::GuestLbrCtl, 1 << 4)], Guest(0)),
    ("LBR_CTL ends at bit 22", &[(Field::GuestLbrCtl, 1 << 23)], Guest(0)),
    ("LBR_CTL with filters", &[(Field::GuestLbrCtl, 0x7f_000f)], Entered),
    ("RTIT_CTL bit 18 is reserved", &[(Field::GuestRtitCtl, 1 << 18)], Guest(0)),
    ("RTIT_CTL ends at bit 56", &[(Field::GuestRtitCtl, 1 << 57)], Guest(0)),
    ("RTIT_CTL bit 31 is events", &[(Field::GuestRtitCtl, 1 << 31)], Entered),
    ("UINV is a vector", &[(Field::GuestUinv, 0x100)], Guest(0)),
    ("PKRS counts only where it is loaded", &[(Field::GuestPkrs, 1 << 32)], Entered),
    ("PKRS is 32 bits", &[(Field::GuestPkrs, 1 << 32), (Field::EntryControls, 0x007e_c204)], Guest(0)),
    ("SSP is aligned", &[(Field::GuestSsp, 2)], Guest(0)),
    ("SSP is canonical", &[(Field::GuestSsp, 1 << 47)], Guest(0)),
    ("pending debug exceptions 10:4 are reserved", &[(Field::GuestPendingDebug, 1 << 4)], Guest(0)),
    ("pending debug exception 13 is reserved", &[(Field::GuestPendingDebug, 1 << 13)], Guest(0)),
    ("pending debug exceptions end at bit 16", &[(Field::GuestPendingDebug, 1 << 17)], Guest(0)),
    ("pending breakpoint and bus lock", &[(Field::GuestPendingDebug, 0x180f)], Entered),
    ("pending RTM needs TSX", &[(Field::GuestPendingDebug, 0x1_1000)], Guest(0)),
    ("single-step is pending after MOV SS", &[(Field::GuestInterruptibility, 2), (Field::GuestRflags, 0x102)], Guest(0)),
    ("pending single-step after MOV SS", &[(Field::GuestInterruptibility, 2), (Field::GuestRflags, 0x102), (Field::GuestPendingDebug, 1 << 14)], Entered),
    ("no pending single-step after STI without TF", &[(Field::GuestInterruptibility, 1), (Field::GuestRflags, 0x202), (Field::GuestPendingDebug, 1 << 14)], Guest(0)),
    ("branch steps are not pending after MOV SS", &[(Field::GuestInterruptibility, 2), (Field::GuestRflags, 0x102), (Field::GuestDebugctl, 2), (Field::GuestPendingDebug, 1 << 14)], Guest(0)),
    ("without a shadow single-step may be pending or not", &[(Field::GuestPendingDebug, 1 << 14)], Entered),
    ("RIP is canonical in 64-bit mode", &[(Field::GuestRip, 1 << 47)], Guest(0)),
    ("FS base is canonical", &[(Field::GuestFsBase, 1 << 47)], Guest(0)),
    ("GS base is canonical", &[(Field::GuestGsBase, 1 << 47)], Guest(0)),
    ("TR base is canonical", &[(Field::GuestTrBase, 1 << 47)], Guest(0)),
    ("LDTR base is canonical if usable", &[(Field::GuestLdtrAccess, 0x82), (Field::GuestLdtrBase, 1 << 47)], Guest(0)),
    ("LDTR base does not count if unusable", &[(Field::GuestLdtrBase, 1 << 47)], Entered),
    ("GDTR base is canonical", &[(Field::GuestGdtrBase, 1 << 47)], Guest(0)),
    ("IDTR base is canonical", &[(Field::GuestIdtrBase, 1 << 47)], Guest(0)),
    ("GDTR limit is 16 bits", &[(Field::GuestGdtrLimit, 0x1_0000)], Guest(0)),
    ("IDTR limit is 16 bits", &[(Field::GuestIdtrLimit, 0x1_0000)], Guest(0)),
    ("L and D exclude each other", &[(Field::GuestCsAccess, 0xe09b)], Guest(0)),
    ("CS is usable", &[(Field::GuestCsAccess, 0x1_a09b)], Guest(0)),
    ("CS is present", &[(Field::GuestCsAccess, 0xa01b)], Guest(0)),
    ("CS is code or data", &[(Field::GuestCsAccess, 0xa08b)], Guest(0)),
    ("CS is accessed code", &[(Field::GuestCsAccess, 0xa09a)], Guest(0)),
    ("CS has no reserved bits", &[(Field::GuestCsAccess, 0xa19b)], Guest(0)),
    ("CS base is 32 bits", &[(Field::GuestCsBase, 1 << 32)], Guest(0)),
    ("non-conforming CS has the DPL of SS", &[(Field::GuestCsAccess, 0xa0fb)], Guest(0)),
    ("conforming CS has at most the DPL of SS", &[(Field::GuestCsAccess, 0xa0ff)], Guest(0)),
    ("conforming CS below the DPL of SS", &[(Field::GuestCsAccess, 0xa09f), (Field::GuestSsAccess, 0xc0f3)], Entered),
    ("data segment as CS has DPL 0", &[(Field::GuestCsAccess, 0xf3), (Field::GuestCsLimit, 0xffff), (Field::GuestRip, 0)], Guest(0)),
    ("granularity follows the limit", &[(Field::GuestCsLimit, 0xffff_0000)], Guest(0)),
    ("byte granularity ends at 1 MiB", &[(Field::GuestDsAccess, 0x4093)], Guest(0)),
    ("SS is writable data", &[(Field::GuestSsAccess, 0xc091)], Guest(0)),
    ("unusable SS is not looked at", &[(Field::GuestSsAccess, 0x1_c091)], Entered),
    ("SS base is 32 bits", &[(Field::GuestSsBase, 1 << 32)], Guest(0)),
    ("DS base is 32 bits", &[(Field::GuestDsBase, 1 << 32)], Guest(0)),
    ("ES is accessed", &[(Field::GuestEsAccess, 0xc092)], Guest(0)),
    ("FS that is code is readable", &[(Field::GuestFsAccess, 0xc099)], Guest(0)),
    ("unusable GS is not looked at", &[(Field::GuestGsAccess, 0x1_0000)], Entered),
    ("TR is a busy 64-bit task", &[(Field::GuestTrAccess, 0x83)], Guest(0)),
    ("TR is usable", &[(Field::GuestTrAccess, 0x1_008b)], Guest(0)),
    ("TR is in the GDT", &[(Field::GuestTrSelector, 4)], Guest(0)),
    ("LDTR is an LDT", &[(Field::GuestLdtrAccess, 0x83)], Guest(0)),
    ("LDTR is in the GDT", &[(Field::GuestLdtrAccess, 0x82), (Field::GuestLdtrSelector, 4)], Guest(0)),
    ("RFLAGS bit 1 is set", &[(Field::GuestRflags, 0)], Guest(0)),
    ("RFLAGS has no reserved bits", &[(Field::GuestRflags, 1 << 15 | 2)], Guest(0)),
    ("no virtual-8086 mode in IA-32e mode", &[(Field::GuestRflags, 1 << 17 | 2)], Guest(0)),
    ("interrupt needs IF", &[(Field::EntryInterruptionInfo, 0x8000_0030)], Guest(0)),
    ("interrupt with IF", &[(Field::EntryInterruptionInfo, 0x8000_0030), (Field::GuestRflags, 0x202)], Entered),
    ("interrupt not in a STI shadow", &[(Field::EntryInterruptionInfo, 0x8000_0030), (Field::GuestRflags, 0x202), (Field::GuestInterruptibility, 1)], Guest(0)),
    ("interrupt not in a MOV SS shadow", &[(Field::EntryInterruptionInfo, 0x8000_0030), (Field::GuestRflags, 0x202), (Field::GuestInterruptibility, 2)], Guest(0)),
    ("STI shadow needs IF", &[(Field::GuestInterruptibility, 1)], Guest(0)),
    ("one shadow at a time", &[(Field::GuestRflags, 0x202), (Field::GuestInterruptibility, 3)], Guest(0)),
    ("no blocking by SMI", &[(Field::GuestInterruptibility, 4)], Guest(0)),
    ("no reserved blocking", &[(Field::GuestInterruptibility, 0x20)], Guest(0)),
    ("NMI not while NMIs are blocked", &[(Field::EntryInterruptionInfo, 0x8000_0202), (Field::GuestInterruptibility, 8)], Guest(3)),
    ("NMI not in a MOV SS shadow", &[(Field::EntryInterruptionInfo, 0x8000_0202), (Field::GuestInterruptibility, 2)], Guest(3)),
    ("event type 1 is reserved", &[(Field::EntryInterruptionInfo, 0x8000_0100)], Controls),
    ("pending monitor trap", &[(Field::EntryInterruptionInfo, 0x8000_0700)], Trap),
    ("event type 7 has vector 0", &[(Field::EntryInterruptionInfo, 0x8000_0701)], Controls),
    ("guest state before a pending monitor trap", &[(Field::EntryInterruptionInfo, 0x8000_0700), (Field::GuestRflags, 0)], Guest(0)),
    ("HLAT pointer has no reserved bits", &[(Field::TertiaryControls, 0x82), (Field::HlatPointer, 1 << 50)], Controls),
    ("HLAT pointer without HLAT", &[(Field::HlatPointer, 1 << 50)], Entered),
    ("NMI has vector 2", &[(Field::EntryInterruptionInfo, 0x8000_0203)], Controls),
    ("exception has a vector below 32", &[(Field::EntryInterruptionInfo, 0x8000_0320)], Controls),
    ("error code is for exceptions", &[(Field::EntryInterruptionInfo, 0x8000_0830), (Field::GuestRflags, 0x202)], Controls),
    ("error code is 16 bits", &[(Field::EntryInterruptionInfo, 0x8000_0b0d), (Field::EntryErrorCode, 0x1_0000)], Controls),
    ("event has no reserved bits", &[(Field::EntryInterruptionInfo, 0x8000_1306)], Controls),
    ("software event is at most 15 bytes", &[(Field::EntryInterruptionInfo, 0x8000_0480), (Field::EntryInstructionLength, 16)], Controls),
    ("software event of no length", &[(Field::EntryInterruptionInfo, 0x8000_0480)], Entered),
    ("event that is not valid is not looked at", &[(Field::EntryInterruptionInfo, 0x7fff_ffff)], Entered),
    ("at most four CR3 targets", &[(Field::Cr3TargetCount, 5)], Controls),
    ("TPR threshold at most the TPR", &[(Field::SecondaryControls, 0x1338_b1fa), (Field::TprThreshold, 3)], Controls),
    ("TPR threshold as the TPR", &[(Field::SecondaryControls, 0x1338_b1fa), (Field::TprThreshold, 2)], Entered),
    ("controls before guest state", &[(Field::Cr3TargetCount, 5), (Field::GuestRflags, 0)], Controls),
];

#[rustfmt::skip]
const FROM_RESET: &[EntryRule] = &[
    ("reset", &[], Entered),
    ("PCIDs need IA-32e mode", &[(Field::GuestCr4, 0x2_2040)], Guest(0)),
    ("RIP is 32 bits", &[(Field::GuestRip, 1 << 32)], Guest(0)),
    ("32-bit task is a TR", &[(Field::GuestTrAccess, 0x83)], Entered),
    ("error code needs protected mode", &[(Field::GuestCr0, 0x20), (Field::EntryInterruptionInfo, 0x8000_0b0d)], Controls),
    ("PAE paging looks at the PDPTEs", &[(Field::GuestCr0, 0x8000_0021), (Field::GuestCr4, 0x2060), (Field::GuestEfer, 0x801)], Guest(2)),
    ("PDPTEs that are not present", &[(Field::GuestCr0, 0x8000_0021), (Field::GuestCr4, 0x2060), (Field::GuestEfer, 0x801),
        (Field::Pdpte0, 0), (Field::Pdpte1, 0), (Field::Pdpte2, 0), (Field::Pdpte3, 0x1001)], Entered),
    ("real mode has DPL 0", &[(Field::GuestCr0, 0x20), (Field::GuestSsAccess, 0xc0f3), (Field::GuestCsAccess, 0xc0fb)], Guest(0)),
];

#[rustfmt::skip]
const FROM_V86: &[EntryRule] = &[
    ("virtual-8086 mode", &[], Entered),
    ("base is sixteen times the selector", &[(Field::GuestFsBase, 0x1010)], Guest(0)),
    ("limit is 64 KiB", &[(Field::GuestGsLimit, 0xfffff)], Guest(0)),
    ("rights are those of ring 3 data", &[(Field::GuestCsAccess, 0x93)], Guest(0)),
];

fn outcome(base: &[(Field, u64)], change: &[(Field, u64)]) -> EntryOutcome {
    let mut want = Entered;
    with_td(|td, vcpu, _| {
        let l2 = vcpu.l2_mut(VmIndex::Vm1);
        for (field, value) in base.iter().chain(change) {
            l2.vmcs.set(*field, *value);
        }
        want = match check(&td.config, l2, 0x20).map_err(|refusal| refusal.failure) {
            Ok(()) => Entered,
            Err(EntryFailure::ControlFields) => Controls,
            Err(EntryFailure::MonitorTrap) => Trap,
            Err(EntryFailure::GuestState { qualification }) => Guest(qualification),
        };
    });
    want
}

#[test]
fn each_entry_check_has_the_outcome_of_the_specification() {
    let bases: [(State, &[EntryRule]); 3] = [
        (&LONG_MODE, FROM_LONG_MODE),
        (&[], FROM_RESET),
        (&V86, FROM_V86),
    ];
    for (base, rules) in bases {
        for (name, change, want) in rules {
            assert_eq!(outcome(base, change), *want, "{name}");
        }
    }
}
