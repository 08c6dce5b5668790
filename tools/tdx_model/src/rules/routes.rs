// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Who handles an exit of an L2, one row per basic exit reason [ABI L2 VM exits, routing].

use crate::gpa::{Gpa, Level, Rights, VmIndex};
use crate::gprs::Gprs;
use crate::l2_exit::{L2Call, L2Exit, L2Outcome};
use crate::td::Td;
use crate::testing::{FakeMachine, STATE, complete, set_64_bit_mode, with_td};
use crate::vcpu::{Vcpu, l2_ctls};
use crate::ve::{Eeq, TdExit};

const VM: VmIndex = VmIndex::Vm1;

/// Where an exit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// L1, with status 0 and the raw reason.
    L1,
    /// L1, with the status of an interrupt that waits for it.
    Interrupted,
    /// The host, which the L1 does not see.
    Host,
    /// Nobody handles it: the TD ends.
    Dead,
    /// The module handles it and resumes the L2.
    Inside,
}
use To::{Dead, Host, Inside, Interrupted, L1};

/// Every basic reason, from an L2 whose L1 has changed nothing: an access that L1's own bitmap
/// intercepts, an exception that is neither NMI nor machine check, a private page without rights,
/// MOV to CR3.
#[rustfmt::skip]
const ROUTES: [(u32, &str, To); 78] = [
    (0, "exception", L1),
    (1, "external interrupt", Interrupted),
    (2, "triple fault", L1),
    (3, "INIT", Host),
    (4, "start-up IPI", Dead),
    (5, "I/O SMI", Host),
    (6, "other SMI", Host),
    (7, "interrupt window", L1),
    (8, "NMI window", L1),
    (9, "task switch", L1),
    (10, "CPUID", L1),
    (11, "GETSEC", L1),
    (12, "HLT", L1),
    (13, "INVD", L1),
    (14, "INVLPG", L1),
    (15, "RDPMC", L1),
    (16, "RDTSC", L1),
    (17, "RSM", L1),
    (18, "VMCALL", L1),
    (19, "VMCLEAR", L1),
    (20, "VMLAUNCH", L1),
    (21, "VMPTRLD", L1),
    (22, "VMPTRST", L1),
    (23, "VMREAD", L1),
    (24, "VMRESUME", L1),
    (25, "VMWRITE", L1),
    (26, "VMXOFF", L1),
    (27, "VMXON", L1),
    (28, "CR access", L1),
    (29, "MOV DR", L1),
    (30, "I/O instruction", L1),
    (31, "RDMSR", L1),
    (32, "WRMSR", L1),
    (33, "entry failure, guest state", L1),
    (34, "entry failure, MSR loading", Dead),
    (35, "(not defined)", Dead),
    (36, "MWAIT", L1),
    (37, "monitor trap flag", Dead),
    (38, "(not defined)", Dead),
    (39, "MONITOR", L1),
    (40, "PAUSE", L1),
    (41, "entry failure, machine check", Dead),
    (42, "(not defined)", Dead),
    (43, "TPR below threshold", L1),
    (44, "APIC access", Dead),
    (45, "virtualized EOI", L1),
    (46, "GDTR or IDTR", L1),
    (47, "LDTR or TR", L1),
    (48, "EPT violation", L1),
    (49, "EPT misconfiguration", Dead),
    (50, "INVEPT", L1),
    (51, "RDTSCP", L1),
    (52, "preemption timer", L1),
    (53, "INVVPID", L1),
    (54, "WBINVD", L1),
    (55, "XSETBV", L1),
    (56, "APIC write", L1),
    (57, "RDRAND", L1),
    (58, "INVPCID", L1),
    (59, "VMFUNC", L1),
    (60, "ENCLS", L1),
    (61, "RDSEED", L1),
    (62, "page-modification log full", Dead),
    (63, "XSAVES", L1),
    (64, "XRSTORS", L1),
    (65, "PCONFIG", L1),
    (66, "sub-page permissions", Dead),
    (67, "UMWAIT", L1),
    (68, "TPAUSE", L1),
    (69, "LOADIWKEY", L1),
    (70, "ENCLV", L1),
    (71, "SGX conflict", L1),
    (72, "ENQCMD PASID", L1),
    (73, "ENQCMDS PASID", L1),
    (74, "bus lock", Host),
    (75, "notification", Host),
    (76, "SEAMCALL", L1),
    (77, "TDCALL", L1),
];

/// Enters VM 1 as L1 does, lets it exit, and returns where the exit went.
fn leave(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, exit: &L2Exit) -> (To, u64) {
    m.prepare_l2(vcpu);
    let mut g = Gprs {
        rcx: 1 << 52,
        rdx: STATE,
        ..Gprs::ZERO
    };
    crate::testing::call(td, vcpu, m, 25, &mut g);
    assert_eq!(vcpu.current_vm, Some(VM));
    let mut call = L2Call {
        td,
        vcpu,
        vm: VM,
        l1_gprs: &mut g,
        machine: m,
    };
    let outcome = call.exit(exit);
    let to = match outcome {
        L2Outcome::ToL1 if g.rax >> 32 == 0x1102 => Interrupted,
        L2Outcome::ToL1 => L1,
        L2Outcome::ToHost(_) => Host,
        L2Outcome::Fatal(_) => Dead,
        L2Outcome::Resume => Inside,
    };
    (to, g.rax)
}

fn exit(reason: u32) -> L2Exit {
    L2Exit {
        reason,
        // As a CR access MOV to CR3, as an EPT violation a read with a linear address.
        qualification: match reason {
            48 => 0x181,
            75 => 0,
            _ => 3,
        },
        gpa: 0x3000,
        instruction_length: 3,
        ..L2Exit::default()
    }
}

#[test]
fn each_basic_exit_reason_goes_where_the_specification_sends_it() {
    for (index, (reason, name, want)) in (0..).zip(ROUTES) {
        assert_eq!(reason, index);
        with_td(|td, vcpu, m| {
            let (to, rax) = leave(td, vcpu, m, &exit(reason));
            assert_eq!(to, want, "{reason} {name}");
            match to {
                L1 => assert_eq!(rax, u64::from(reason), "{name}"),
                Interrupted => assert_eq!(rax, 0x1102_0000_0001),
                Host | Dead | Inside => {}
            }
        });
    }
}

#[test]
fn reasons_that_do_not_exist_end_the_td() {
    for reason in (78..100).chain([0x1000, 0xffff]) {
        with_td(|td, vcpu, m| {
            assert_eq!(leave(td, vcpu, m, &exit(reason)).0, Dead, "{reason}");
        });
    }
}

#[test]
fn flags_of_a_reason_are_passed_on_or_end_the_td() {
    // Bus lock and enclave; pending MTF and root mode are corruption.
    for (bit, want) in [(26, L1), (27, L1), (28, Dead), (29, Dead), (30, Dead)] {
        with_td(|td, vcpu, m| {
            let (to, rax) = leave(td, vcpu, m, &exit(1 << bit | 10));
            assert_eq!(to, want, "bit {bit}");
            assert!(to == Dead || rax == 1 << bit | 10, "bit {bit}");
        });
    }
}

/// Further cases: reason, what it is, how it is caused, where it goes.
type Case = (
    u32,
    &'static str,
    fn(&mut Td<'_>, &mut Vcpu, &mut L2Exit),
    To,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    (0, "NMI", |_, _, e| e.interruption_info = 0x8000_0202, Host),
    (0, "machine check", |_, _, e| e.interruption_info = 0x8000_0312, Dead),
    (0, "page fault", |_, _, e| e.interruption_info = 0x8000_0b0e, L1),
    (28, "MOV to CR0 of bits nobody owns", |_, v, e| { own_nothing(v); e.qualification = 0; v.l2_mut(VM).gprs.rax = 0x33; }, Inside),
    (28, "MOV to CR0 of NW", |_, v, e| { own_nothing(v); e.qualification = 0; v.l2_mut(VM).gprs.rax = 0x2000_0033; }, L1),
    (28, "CLTS", |_, _, e| e.qualification = 0x20, L1),
    (28, "MOV to CR8", |_, _, e| e.qualification = 8, L1),
    (31, "RDMSR of DEBUGCTL", |_, v, _| pass(v, 0x1d9), Inside),
    (31, "RDMSR that is forbidden", |_, v, _| pass(v, 0x9b), Inside),
    (31, "RDMSR outside the bitmap", |_, v, _| pass(v, 0x4000_0000), L1),
    (32, "WRMSR of EFER", |_, v, _| { pass(v, 0xc000_0080); v.l2_mut(VM).gprs.rax = 0x901; }, Inside),
    (32, "WRMSR of EFER.NXE", |_, v, _| { pass(v, 0xc000_0080); v.l2_mut(VM).gprs.rax = 0x101; }, L1),
    (48, "granted meanwhile", |td, _, _| td.pages.set_rights(Gpa(0x3000), Level::Size4K, VM, Rights::RWX), L1),
    (48, "pending page", |td, _, e| { td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size4K); e.gpa = 0x20_0000; }, L1),
    (48, "page nobody has", |_, _, e| e.gpa = 0x20_0000, Host),
    (48, "shared page", |_, _, e| e.gpa = 1 << 47 | 0x3000, Host),
    (48, "beyond the width", |_, _, e| e.gpa = 1 << 48 | 0x3000, L1),
    (48, "beyond the width, no linear address", |_, _, e| { e.gpa = 1 << 48; e.qualification = 1; }, Host),
    (49, "misconfigured shared page", |_, _, e| e.gpa = 1 << 47, Host),
    (75, "notification with an invalid context", |_, _, e| e.qualification = 1, Dead),
    (77, "TDVMCALL outside 64-bit mode", |_, v, _| { allow_vmcall(v, 0xfc00); v.l2_mut(VM).vmcs.set(crate::Field::GuestCsAccess, 0xc09b); }, Inside),
    (77, "TDVMCALL that L1 allows", |_, v, _| allow_vmcall(v, 0xfc00), Host),
    (77, "TDVMCALL with a bad mask", |_, v, _| allow_vmcall(v, 1), Inside),
    (77, "another leaf", |_, v, _| { allow_vmcall(v, 0xfc00); v.l2_mut(VM).gprs.rax = 1; }, L1),
    (77, "TDVMCALL of a bad version", |_, v, _| { allow_vmcall(v, 0xfc00); v.l2_mut(VM).gprs.rax = 1 << 16; }, Inside),
];

/// L1 owns no bit of CR0.
fn own_nothing(vcpu: &mut Vcpu) {
    let vmcs = &mut vcpu.l2_mut(VM).vmcs;
    vmcs.set(crate::Field::Cr0Mask, 0);
    vmcs.recompute_cr0();
}

/// L1 passes all MSRs through; the L2 accesses this one.
fn pass(vcpu: &mut Vcpu, index: u64) {
    let l2 = vcpu.l2_mut(VM);
    l2.msr_bitmap.fill(0);
    l2.gprs.rcx = index;
}

fn allow_vmcall(vcpu: &mut Vcpu, mask: u64) {
    vcpu.l2_ctls[1] = l2_ctls::ENABLE_TDVMCALL;
    let l2 = vcpu.l2_mut(VM);
    l2.gprs = Gprs {
        rcx: mask,
        ..Gprs::ZERO
    };
    set_64_bit_mode(l2);
}

#[test]
fn exits_that_depend_on_more_than_the_reason() {
    for (reason, what, arrange, want) in CASES {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            let mut e = exit(*reason);
            arrange(td, vcpu, &mut e);
            // Registers as the L2 had them at the exit, not as the buffer had them.
            let gprs = vcpu.l2(VM).gprs;
            for (number, value) in (0..).zip(gprs.to_array()) {
                m.put(STATE + 8 * number, value);
            }
            assert_eq!(leave(td, vcpu, m, &e).0, *want, "{reason} {what}");
        });
    }
}

#[test]
fn host_is_told_no_more_of_an_ept_violation_than_it_may_know() {
    with_td(|td, vcpu, m| {
        m.prepare_l2(vcpu);
        let mut g = Gprs {
            rcx: 1 << 52,
            rdx: STATE,
            ..Gprs::ZERO
        };
        crate::testing::call(td, vcpu, m, 25, &mut g);
        let e = L2Exit {
            gpa: 0x20_0123,
            qualification: 0x1fff,
            ..exit(48)
        };
        let want = TdExit::EptViolation {
            gpa: Gpa(0x20_0000),
            vm: Some(VM),
            qualification: 0x7f,
            eeq: Eeq::None,
        };
        let mut call = L2Call {
            td,
            vcpu,
            vm: VM,
            l1_gprs: &mut g,
            machine: m,
        };
        let outcome = call.exit(&e);
        assert_eq!(outcome, L2Outcome::ToHost(want));
    });
}

#[test]
fn exit_for_l1_leaves_the_l2_enterable() {
    with_td(|td, vcpu, m| {
        for _ in 0..3 {
            assert_eq!(leave(td, vcpu, m, &exit(10)).0, L1);
        }
        let mut g = Gprs::ZERO;
        assert_eq!(complete(td, vcpu, m, 1, &mut g), 0);
    });
}
