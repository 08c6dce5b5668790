// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Property tests: no operand and no exit makes the model panic, access memory that it must not, or
//! lose track of the current VM.

use std::vec;

use proptest::prelude::*;

use crate::dispatch::{Caller, Outcome, tdcall};
use crate::gpa::{Gpa, Level, VmIndex};
use crate::gprs::Gprs;
use crate::host::Conversion;
use crate::l2_exit::{HostRouted, L2Call, L2Exit, L2Outcome, l2_vmcall_done};
use crate::msr::{Direction, l1_msr};
use crate::status::Status;
use crate::td::Td;
use crate::testing::{FakeMachine, KERNEL, STATE, with_td};
use crate::vcpu::Vcpu;
use crate::ve::{L1EptViolation, l1_ept_violation};

/// One thing a guest or host does.
#[derive(Clone, Debug)]
enum Step {
    Tdcall(Gprs),
    Exit(L2Exit, Gprs),
    HostAug(u64),
    HostConvert(u64, bool),
    L1Touch(u64, u64),
    L1Msr(u32, u64),
}

/// Values that are often meaningful, and any others.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => any::<u64>(),
        2 => 0..64_u64,
        2 => (0..0x90_0000_u64).prop_map(|gpa| gpa & !0xff),
        1 => (0..5_u64, 0..3_u64).prop_map(|(page, level)| page << 21 | level),
        2 => (0..4_u64, 0..4_u64).prop_map(|(vm, low)| vm << 52 | low),
        1 => Just(STATE),
        1 => Just(u64::MAX),
        1 => (0..=0xffff_u64, 0..4_u32).prop_map(|(word, vm)| word << (16 * vm)),
        2 => (0..3_u64, 0..0x7000_u64).prop_map(|(vm, code)| 0x2424 << 48 | vm << 59 | code),
        1 => (0..0x60_u64).prop_map(|code| 0xa020_0003_0000_0000 | code),
        1 => (0..0x60_u64).prop_map(|code| 0x1110_0003_0000_0000 | code),
    ]
}

fn gprs() -> impl Strategy<Value = Gprs> {
    prop::array::uniform16(value()).prop_map(Gprs::from_array)
}

fn tdcall_gprs() -> impl Strategy<Value = Gprs> {
    let rax = prop_oneof![10 => 0..32_u64, 1 => Just(1 << 16 | 7), 1 => any::<u64>()];
    let rcx = prop_oneof![1 => Just(0), 1 => Just(1 << 52), 2 => value()];
    let rdx = prop_oneof![1 => Just(STATE), 3 => value()];
    (gprs(), rax, rcx, rdx).prop_map(|(g, rax, rcx, rdx)| Gprs { rax, rcx, rdx, ..g })
}

fn exit() -> impl Strategy<Value = L2Exit> {
    let reason = prop_oneof![8 => 0..80_u32, 1 => any::<u32>()];
    let words = prop::array::uniform6(any::<u32>());
    (reason, value(), value(), value(), words, any::<u8>()).prop_map(
        |(reason, q, gla, gpa, w, cpl)| {
            let [info, error, idt_info, idt_error, length, instruction_info] = w;
            L2Exit {
                reason,
                qualification: q,
                gla,
                gpa,
                interruption_info: info,
                interruption_error: error,
                idt_vectoring_info: idt_info,
                idt_vectoring_error: idt_error,
                instruction_length: length,
                instruction_info,
                cpl,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => tdcall_gprs().prop_map(Step::Tdcall),
        4 => (exit(), gprs()).prop_map(|(e, g)| Step::Exit(e, g)),
        1 => value().prop_map(Step::HostAug),
        1 => (value(), any::<bool>()).prop_map(|(gpa, to)| Step::HostConvert(gpa, to)),
        1 => (value(), value()).prop_map(|(gpa, q)| Step::L1Touch(gpa, q)),
        1 => (any::<u32>(), value()).prop_map(|(index, v)| Step::L1Msr(index, v)),
    ]
}

fn do_tdcall(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, before: &Gprs) {
    if vcpu.current_vm.is_some() {
        return;
    }
    let mut g = *before;
    match tdcall(td, vcpu, &mut g, KERNEL, m) {
        Outcome::Complete => assert_eq!(g.rsp, before.rsp),
        Outcome::EnterL2(vm) => {
            assert_eq!(vcpu.current_vm, Some(vm));
            assert!(vm.number() <= td.config.num_l2_vms);
            assert_eq!(&g, before);
        }
        Outcome::TdExit(_) | Outcome::Vmcall { .. } | Outcome::InjectVe | Outcome::InjectDf => {
            assert_eq!(&g, before);
        }
        Outcome::Interrupted => assert_eq!(g.rax, before.rax),
        Outcome::InjectGp => panic!("#GP for a kernel in long mode"),
        Outcome::Fatal(why) => panic!("later modules survive everything: {why}"),
    }
}

fn do_exit(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, e: &L2Exit, l2: &Gprs) {
    let Some(vm) = vcpu.current_vm else {
        return;
    };
    vcpu.l2_mut(vm).gprs = *l2;
    let mut g = Gprs {
        rsp: 0x77,
        ..Gprs::ZERO
    };
    let mut call = L2Call {
        td,
        vcpu,
        vm,
        l1_gprs: &mut g,
        machine: m,
    };
    let mut outcome = call.exit(e);
    if let L2Outcome::ToHost(_) = outcome {
        outcome = match e.qualification % 3 {
            0 => call.resume_l1(HostRouted::Async),
            1 => {
                l2_vmcall_done(call.vcpu, vm);
                call.resume_l1(HostRouted::Tdvmcall)
            }
            _ => call.enter_after_host(),
        };
    }
    match outcome {
        L2Outcome::ToL1 => {
            assert_eq!(vcpu.current_vm, None);
            assert!(!Status(g.rax).is_error());
            assert_eq!((g.rbx, g.rsp, g.r14, g.r15), (0, 0x77, 0, 0));
        }
        L2Outcome::Resume => assert_eq!(vcpu.current_vm, Some(vm)),
        // The TD ends here; the test continues with its processor in L1.
        L2Outcome::Fatal(_) => vcpu.current_vm = None,
        L2Outcome::ToHost(_) => panic!("host functions go to the host"),
    }
}

fn run(steps: &[Step]) {
    with_td(|td, vcpu, m| {
        m.prepare_l2(vcpu);
        for step in steps {
            match step {
                Step::Tdcall(g) => do_tdcall(td, vcpu, m, g),
                Step::Exit(e, g) => do_exit(td, vcpu, m, e, g),
                Step::HostAug(v) => {
                    let level = if v & 1 == 0 {
                        Level::Size4K
                    } else {
                        Level::Size2M
                    };
                    td.pages.host_aug_pending(Gpa(*v).align_down(level), level);
                }
                Step::HostConvert(gpa, to_shared) => {
                    let to = if *to_shared {
                        Conversion::ToShared
                    } else {
                        Conversion::ToPrivate
                    };
                    let _ = td.host_convert(Gpa(*gpa), gpa & 0xffff, to, m);
                }
                Step::L1Touch(gpa, qualification) => {
                    let (gpa, qualification) = (*gpa, *qualification);
                    let v = L1EptViolation {
                        gpa,
                        qualification,
                        ..L1EptViolation::default()
                    };
                    l1_ept_violation(td, vcpu, &v);
                }
                Step::L1Msr(index, v) => {
                    let _ = l1_msr(td, vcpu, *index, Direction::Write(*v), *v);
                }
            }
        }
    });
}

/// Steps of a case, exclusive. Miri is a few hundred times slower.
const STEPS: usize = if cfg!(miri) { 6 } else { 40 };

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_guests_and_hosts_can_not_break_the_model(steps in prop::collection::vec(step(), 1..STEPS)) {
        run(&steps);
    }

    #[test]
    fn refused_caller_changes_nothing(g in tdcall_gprs(), cpl in 1..4_u8) {
        with_td(|td, vcpu, m| {
            let mut after = g;
            let caller = Caller { cpl, long_mode_64: true };
            assert_eq!(tdcall(td, vcpu, &mut after, caller, m), Outcome::InjectGp);
            assert_eq!(after, g);
            assert!(m.events.is_empty());
        });
    }
}

#[test]
fn strategies_do_reach_l2_and_back() {
    // Guards the property test against becoming empty: a plain entry and exit.
    let enter = Gprs {
        rax: 25,
        rcx: 1 << 52,
        rdx: STATE,
        ..Gprs::ZERO
    };
    with_td(|td, vcpu, m| {
        m.prepare_l2(vcpu);
        do_tdcall(td, vcpu, m, &enter);
        assert_eq!(vcpu.current_vm, Some(VmIndex::Vm1));
        let e = L2Exit {
            reason: 10,
            ..L2Exit::default()
        };
        do_exit(td, vcpu, m, &e, &Gprs::ZERO);
        assert_eq!(vcpu.current_vm, None);
    });
}
