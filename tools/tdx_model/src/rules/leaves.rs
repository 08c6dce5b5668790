// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Operand checks of the leaves, one row per check, in the specified order [ABI leaves].
//!
//! The operands of a row break its check and, where there is one, the next: so the order shows too.
//! The TD has 2 L2 VMs and RBP is not to be exposed; 2 MiB are accepted, nothing is after them.

use crate::dispatch::{Outcome, tdcall};
use crate::gprs::Gprs;
use crate::td::config_flags;
use crate::testing::{KERNEL, with_td};

/// RAX after a refusal.
const fn refused(name: u64, details: u64) -> LeafOutcome {
    LeafOutcome::Rax(name << 32 | details)
}

/// OPERAND_INVALID of RAX, RCX, RDX, R8, and of the virtual-APIC page.
const RAX: LeafOutcome = refused(0xc000_0100, 0);
const RCX: LeafOutcome = refused(0xc000_0100, 1);
const RDX: LeafOutcome = refused(0xc000_0100, 2);
const R8: LeafOutcome = refused(0xc000_0100, 8);
const VAPIC: LeafOutcome = refused(0xc000_0100, 170);
const FIELD_ID_INCORRECT: LeafOutcome = refused(0xc000_0c00, 0);
const NOT_WRITABLE: LeafOutcome = refused(0xc000_0c01, 0);
const NOT_READABLE: LeafOutcome = refused(0xc000_0c02, 0);
const VALUE_NOT_VALID: LeafOutcome = refused(0xc000_0c03, 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeafOutcome {
    Rax(u64),
    /// An exit to the host; the call is executed again.
    Host,
}
use LeafOutcome::Host;

/// What else a refusal changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outputs {
    Kept,
    /// A read without next id, a write.
    R8Zero,
    /// A read.
    NoneNext,
    /// TDG.SYS.RDALL.
    R8None,
    /// TDG.MEM.PAGE.ATTR.RD and WR.
    RcxRdxZero,
    /// TDG.VP.VEINFO.GET.
    AllZero,
}
use Outputs::{AllZero, Kept, NoneNext, R8None, R8Zero, RcxRdxZero};

/// Name, RAX, RCX, RDX, R8, R9, expected status and outputs.
type LeafRule = (&'static str, u64, u64, u64, u64, u64, LeafOutcome, Outputs);

const ALL: u64 = u64::MAX;
/// An accepted page, one that is not there, the SHARED bit.
const PAGE: u64 = 0x8000;
const GONE: u64 = 0x30_0000;
const SHARED: u64 = 1 << 47;
const VM1: u64 = 1 << 52;
/// Ids: a field that does not exist, ones that can be read only, and a hidden one.
const UNKNOWN: u64 = 0x1110_0003_0000_0099;
const NUM_L2_VMS: u64 = 0x9010_0001_0000_0005;
const TD_CTLS: u64 = 0x1110_0003_0000_0017;
const VCPU_INDEX: u64 = 0xa020_0002_0000_0002;
const L2_CTLS: u64 = 0xa020_0003_0000_0051;
const HIDDEN: u64 = 0x2424_0003_0000_2010;

#[rustfmt::skip]
const CHECKS: &[LeafRule] = &[
    ("reserved bits of RAX", 1 << 32 | 1, 0, 0, 0, 0, RAX, Kept),
    ("version of RAX before operands", 1 << 16 | 5, ALL, 0, 0, 0, RAX, Kept),
    ("version 2 of VM.RD", 2 << 16 | 7, ALL, 0, 0, 0, RAX, Kept),
    ("VP.VMCALL: upper half of the mask", 0, 1 << 32 | 0xfc00, 0, 0, 0, RCX, Kept),
    ("VP.VMCALL: RAX", 0, 1, 0, 0, 0, RCX, Kept),
    ("VP.VMCALL: RCX", 0, 2, 0, 0, 0, RCX, Kept),
    ("VP.VMCALL: RSP", 0, 1 << 4, 0, 0, 0, RCX, Kept),
    ("VP.VMCALL: RBP if it must not be exposed", 0, 1 << 5, 0, 0, 0, RCX, Kept),
    ("MR.RTMR.EXTEND: alignment before index", 2, PAGE + 8, 4, 0, 0, RCX, Kept),
    ("MR.RTMR.EXTEND: shared address before index", 2, SHARED | PAGE, 4, 0, 0, RCX, Kept),
    ("MR.RTMR.EXTEND: page before index", 2, GONE, 4, 0, 0, Host, Kept),
    ("MR.RTMR.EXTEND: index", 2, PAGE, 4, 0, 0, RDX, Kept),
    ("VP.VEINFO.GET: nothing pending", 3, 5, 5, 5, 5, refused(0xc000_0704, 0), AllZero),
    ("MR.REPORT: alignment of the report before that of the data", 4, PAGE + 64, PAGE + 8, 1, 0, RCX, Kept),
    ("MR.REPORT: data before width of the report", 4, 1 << 48, PAGE + 8, 1, 0, RDX, Kept),
    ("MR.REPORT: width of the data before the sub-type", 4, GONE, 1 << 48, 1, 0, RDX, Kept),
    ("MR.REPORT: page of the data before the sub-type", 4, PAGE, GONE, 1, 0, Host, Kept),
    ("MR.REPORT: sub-type before the report", 4, 1 << 48, PAGE, 1, 0, R8, Kept),
    ("MR.REPORT: width of the report", 4, 1 << 48, PAGE, 0, 0, RCX, Kept),
    ("MR.REPORT: page of the report", 4, GONE, PAGE, 0, 0, Host, Kept),
    ("VP.CPUIDVE.SET: reserved bits", 5, 4, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.ACCEPT: level", 6, 2, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.ACCEPT: reserved bits", 6, PAGE | 8, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.ACCEPT: alignment to the level", 6, PAGE | 1, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.ACCEPT: shared address", 6, SHARED, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.ACCEPT: bits above the address", 6, 1 << 52, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.ACCEPT: accepted already", 6, PAGE, 0, 0, 0, refused(0xb0a, 0), Kept),
    ("MEM.PAGE.ACCEPT: mapped smaller", 6, 1, 0, 0, 0, refused(0xc000_0b0b, 1), Kept),
    ("MEM.PAGE.ACCEPT: nothing there", 6, GONE, 0, 0, 0, Host, Kept),
    ("VM.RD: RCX before the id", 7, 1, UNKNOWN, 5, 0, RCX, R8Zero),
    ("VM.RD: id", 7, 0, UNKNOWN, 5, 0, FIELD_ID_INCORRECT, R8Zero),
    ("VM.RD: null id in version 0", 7, 0, ALL, 5, 0, FIELD_ID_INCORRECT, R8Zero),
    ("VM.RD version 1: RCX before the id", 1 << 16 | 7, 1, UNKNOWN, 5, 0, RCX, NoneNext),
    ("VM.RD version 1: id", 1 << 16 | 7, 0, UNKNOWN, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VM.RD version 1: reserved bits of the id", 1 << 16 | 7, 0, NUM_L2_VMS | 1 << 24, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VM.WR: RCX before the id", 8, 1, UNKNOWN, 5, ALL, RCX, R8Zero),
    ("VM.WR: id before the mask", 8, 0, UNKNOWN, 5, 0, FIELD_ID_INCORRECT, R8Zero),
    ("VM.WR: field that cannot be written", 8, 0, NUM_L2_VMS, 5, ALL, NOT_WRITABLE, R8Zero),
    ("VM.WR: no writable bit in the mask", 8, 0, TD_CTLS, 2, 2, NOT_WRITABLE, R8Zero),
    ("VM.WR: fixed bit changed", 8, 0, TD_CTLS, 3, 3, VALUE_NOT_VALID, R8Zero),
    ("VM.WR: control that is not flexible", 8, 0, TD_CTLS, 0, 1, VALUE_NOT_VALID, R8Zero),
    ("VP.RD: RCX before the id", 9, 1, UNKNOWN, 5, 0, RCX, NoneNext),
    ("VP.RD: id", 9, 0, UNKNOWN, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VP.RD: VM that the TD lacks", 9, 0, 0x3424_0003_0000_6802, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VP.RD: hidden field", 9, 0, HIDDEN, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: L1's own VMCS", 9, 0, 0x0024_0003_0000_681e, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: what is no field of L1's VMCS", 9, 0, 0x0024_0003_0000_681f, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VP.RD: L1's virtual APIC", 9, 0, 0x0120_0003_0000_007f, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: behind L1's virtual APIC", 9, 0, 0x0120_0003_0000_0080, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VP.RD: #VE information", 9, 0, 0x0220_0003_0000_0005, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: instruction of a #VE", 9, 0, 0x8220_0002_0000_0011, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: general-purpose register", 9, 0, 0x1020_0003_0000_000f, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: shadow of an MSR bitmap", 9, 0, 0x2620_0003_0000_01ff, 5, 0, NOT_READABLE, NoneNext),
    ("VP.RD: shadow of an MSR bitmap of a VM that the TD lacks", 9, 0, 0x3620_0003_0000_0000, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("VP.WR: L1's own VMCS", 10, 0, 0x0024_0003_0000_681e, 5, ALL, NOT_WRITABLE, R8Zero),
    ("VP.WR: general-purpose register", 10, 0, 0x1020_0003_0000_0000, 5, ALL, NOT_WRITABLE, R8Zero),
    ("VP.WR: shadow of an MSR bitmap", 10, 0, 0x2620_0003_0000_0000, 5, ALL, NOT_WRITABLE, R8Zero),
    ("VP.WR: RCX before the id", 10, 1, UNKNOWN, 5, ALL, RCX, R8Zero),
    ("VP.WR: id", 10, 0, UNKNOWN, 5, ALL, FIELD_ID_INCORRECT, R8Zero),
    ("VP.WR: field that cannot be written", 10, 0, VCPU_INDEX, 5, ALL, NOT_WRITABLE, R8Zero),
    ("VP.WR: empty mask", 10, 0, L2_CTLS, 5, 0, NOT_WRITABLE, R8Zero),
    ("VP.WR: bit outside the write mask", 10, 0, L2_CTLS, 8, ALL, VALUE_NOT_VALID, R8Zero),
    ("SYS.RD: id", 11, 0, UNKNOWN, 5, 0, FIELD_ID_INCORRECT, NoneNext),
    ("SYS.RDALL: alignment", 12, 0, PAGE + 8, UNKNOWN, 0, RDX, R8None),
    ("SYS.RDALL: shared address", 12, 0, SHARED | PAGE, UNKNOWN, 0, RDX, R8None),
    ("SYS.RDALL: page before the id", 12, 0, GONE, UNKNOWN, 0, Host, Kept),
    ("SYS.RDALL: id", 12, 0, PAGE, UNKNOWN, 0, FIELD_ID_INCORRECT, R8None),
    ("MEM.PAGE.ATTR.RD: shared address", 23, SHARED | PAGE, 5, 0, 0, RCX, RcxRdxZero),
    ("MEM.PAGE.ATTR.RD: nothing there", 23, GONE, 0, 0, 0, Host, Kept),
    ("MEM.PAGE.ATTR.WR: word of VM 0 before flags", 24, 2 | SHARED, 1, 1, 0, RDX, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: word of a VM that the TD lacks", 24, SHARED, 0x8001 << 48, 0, 0, RDX, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: flags of VM 0 before the address", 24, SHARED, 0, 1, 0, R8, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: flags of a VM that the TD lacks", 24, SHARED, 0, 1 << 48, 0, R8, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: reserved flags are none", 24, SHARED, 0, 0x7f00 << 16, 0, RCX, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: reserved bits in the mask", 24, PAGE, 0x8101 << 16, 0x101 << 16, 0, refused(0xc000_0b11, 0), RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: suppress #VE", 24, PAGE, 0x8081 << 16, 0x81 << 16, 0, refused(0xc000_0b11, 0), RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: paging-write access without read", 24, PAGE, 0x8024 << 16, 0x24 << 16, 0, refused(0xc000_0b11, 0), RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: word without VALID", 24, SHARED, 1 << 16, 0, 0, RDX, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: shared address", 24, SHARED | PAGE, 0x8001 << 16, 1 << 16, 0, RCX, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: level", 24, 3, 0x8001 << 16, 1 << 16, 0, RCX, RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: nothing there", 24, GONE, 0x8002 << 16, 2 << 16, 0, Host, Kept),
    ("MEM.PAGE.ATTR.WR: mapped smaller than 2 MiB", 24, 1, 0x8002 << 16, 2 << 16, 0, refused(0xc000_0b0b, 1), RcxRdxZero),
    ("MEM.PAGE.ATTR.WR: mapped smaller than 1 GiB", 24, 2, 0x8002 << 16, 2 << 16, 0, refused(0xc000_0b0b, 2), RcxRdxZero),
    ("VP.ENTER: RDX alignment before RCX", 25, 0, PAGE + 8, 0, 0, RDX, Kept),
    ("VP.ENTER: RDX shared before RCX", 25, 0, SHARED | PAGE, 0, 0, RDX, Kept),
    ("VP.ENTER: VM 0", 25, 0, PAGE, 0, 0, RCX, Kept),
    ("VP.ENTER: VM that the TD lacks", 25, 3 << 52, PAGE, 0, 0, RCX, Kept),
    ("VP.ENTER: reserved bits below the VM", 25, VM1 | 1 << 51, PAGE, 0, 0, RCX, Kept),
    ("VP.ENTER: reserved bits above the VM", 25, VM1 | 1 << 54, PAGE, 0, 0, RCX, Kept),
    ("VP.ENTER: virtual-APIC page before the walk", 25, VM1, GONE, 0, 0, VAPIC, Kept),
    ("VP.INVEPT: VM 0", 26, 1, 0, 0, 0, RCX, Kept),
    ("VP.INVEPT: VM that the TD lacks", 26, 1 << 3, 0, 0, 0, RCX, Kept),
    ("VP.INVGLA: VM before the list", 27, 1, 1 << 63, 0, 0, RCX, Kept),
    ("VP.INVGLA: reserved bits before the list", 27, VM1 | 3, 1 << 63, 0, 0, RCX, Kept),
    ("VP.INVGLA: reserved bits of the list", 27, VM1 | 1, 1 << 63 | PAGE, 0, 0, RDX, Kept),
    ("VP.INVGLA: more entries than a page has", 27, VM1 | 1, 0x200 << 52 | PAGE | 1, 0, 0, RDX, Kept),
    ("VP.INVGLA: shared list", 27, VM1 | 1, 1 << 52 | SHARED | PAGE, 0, 0, RDX, Kept),
    ("VP.INVGLA: page of the list", 27, VM1 | 1, 1 << 52 | GONE, 0, 0, Host, Kept),
    ("VP.INVGLA: address", 27, VM1, 1 << 60, 0, 0, refused(0xc000_1160, 0), Kept),
    ("MR.KEY.GET without sealing keys", 29, ALL, ALL, ALL, ALL, refused(0xc000_1004, 0), Kept),
    ("MEM.PAGE.RELEASE: level", 30, 2, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.RELEASE: shared address", 30, SHARED | PAGE, 0, 0, 0, RCX, Kept),
    ("MEM.PAGE.RELEASE: nothing there", 30, GONE, 0, 0, 0, refused(0xc000_0b01, 0), Kept),
];

#[test]
fn each_operand_check_answers_as_specified_and_changes_nothing_else() {
    for (name, rax, rcx, rdx, r8, r9, want, outputs) in CHECKS.iter().copied() {
        with_td(|td, vcpu, m| {
            td.config.config_flags |= config_flags::PAGE_RELEASE;
            let memory = m.memory.clone();
            let before = Gprs {
                rax,
                rcx,
                rdx,
                r8,
                r9,
                r10: 0x10,
                r11: 0x11,
                rbx: 0xb,
                ..Gprs::ZERO
            };
            let mut g = before;
            let outcome = tdcall(td, vcpu, &mut g, KERNEL, m);
            let mut expected = match outputs {
                Kept => before,
                R8Zero => Gprs { r8: 0, ..before },
                NoneNext => Gprs {
                    rdx: ALL,
                    r8: 0,
                    ..before
                },
                R8None => Gprs { r8: ALL, ..before },
                RcxRdxZero => Gprs {
                    rcx: 0,
                    rdx: 0,
                    ..before
                },
                AllZero => Gprs {
                    rcx: 0,
                    rdx: 0,
                    r8: 0,
                    r9: 0,
                    r10: 0,
                    ..before
                },
            };
            match want {
                LeafOutcome::Rax(status) => {
                    assert_eq!(outcome, Outcome::Complete, "{name}");
                    expected.rax = status;
                }
                Host => assert!(matches!(outcome, Outcome::TdExit(_)), "{name}: {outcome:?}"),
            }
            assert_eq!(g, expected, "{name}");
            assert!(m.events.is_empty(), "{name}: {:?}", m.events);
            assert!(m.memory == memory, "{name}: memory changed");
            assert_eq!(vcpu.current_vm, None, "{name}");
        });
    }
}
