// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of `l2_exit.rs`: routing of each exit reason and the register image.

use super::*;
use crate::gpa::{Level, Rights};
use crate::testing::{FakeMachine, STATE, set_64_bit_mode, with_td};

const VM: VmIndex = VmIndex::Vm1;

fn exit(reason: u32) -> L2Exit {
    L2Exit {
        reason,
        instruction_length: 2,
        ..L2Exit::default()
    }
}

/// VM 1, which has been left.
fn left<'a, 'm>(
    td: &'a mut Td<'m>,
    vcpu: &'a mut Vcpu,
    l1_gprs: &'a mut Gprs,
    machine: &'a mut FakeMachine,
) -> L2Call<'a, 'm, FakeMachine> {
    L2Call {
        td,
        vcpu,
        vm: VM,
        l1_gprs,
        machine,
    }
}

/// Runs one exit of a prepared L2 and returns the outcome and L1's registers.
fn run(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, e: &L2Exit) -> (L2Outcome, Gprs) {
    m.prepare_l2(vcpu);
    vcpu.l2_mut(VM).state_gpa = Some(Gpa(STATE));
    vcpu.current_vm = Some(VM);
    let mut g = Gprs {
        rsp: 0x51,
        rbx: 1,
        r14: 2,
        r15: 3,
        ..Gprs::ZERO
    };
    let outcome = left(td, vcpu, &mut g, m).exit(e);
    (outcome, g)
}

#[test]
fn image_and_buffer_carry_everything() {
    with_td(|td, vcpu, m| {
        let l2 = vcpu.l2_mut(VM);
        l2.vmcs.set(Field::GuestCsSelector, 0x10);
        l2.vmcs.set(Field::GuestCsAccess, 0x1_a09b);
        l2.vmcs.set(Field::GuestCsLimit, 0xffff_ffff);
        l2.vmcs.set(Field::GuestCsBase, 0x77);
        l2.vmcs.set(Field::GuestPhysicalAddress, 0x99);
        l2.vmcs.set(Field::GuestRsp, 0x4000);
        l2.vmcs.set(Field::GuestInterruptStatus, 0x2211);
        l2.gprs = Gprs {
            rax: 0xa,
            rbp: 0xb,
            r15: 0xf,
            ..Gprs::ZERO
        };
        let e = L2Exit {
            qualification: 1,
            gla: 2,
            gpa: 3,
            interruption_info: 4,
            interruption_error: 5,
            idt_vectoring_info: 6,
            idt_vectoring_error: 7,
            instruction_length: 8,
            instruction_info: 9,
            cpl: 3,
            ..exit(30)
        };
        let (outcome, g) = run(td, vcpu, m, &e);
        assert_eq!(outcome, L2Outcome::ToL1);
        let want = Gprs {
            rax: 30,
            rcx: 1,
            rdx: 2,
            rbx: 0,
            rsp: 0x51,
            rbp: 0xb,
            rsi: 0xffff_ffff_a09b_0010,
            rdi: 0x77,
            r8: 0x99,
            r9: 5 << 32 | 4,
            r10: 7 << 32 | 6,
            r11: 8 << 32 | 9,
            r12: 3,
            ..Gprs::ZERO
        };
        assert_eq!(g, want);
        assert_eq!(
            (m.get(STATE), m.get(STATE + 0x20), m.get(STATE + 0x78)),
            (0xa, 0x4000, 0xf)
        );
        assert_eq!(m.get(STATE + 0x98) & 0xffff, 0x2211);
        assert_eq!(vcpu.current_vm, None);
    });
}

#[test]
fn nmi_is_the_hosts_and_bus_lock_flag_does_not_change_the_route() {
    with_td(|td, vcpu, m| {
        let nmi = L2Exit {
            interruption_info: 0x8000_0202,
            ..exit(0)
        };
        assert!(matches!(
            run(td, vcpu, m, &nmi).0,
            L2Outcome::ToHost(TdExit::Async { .. })
        ));
        let (outcome, g) = run(td, vcpu, m, &exit(1 << 26 | 10));
        assert_eq!((outcome, g.rax), (L2Outcome::ToL1, 1 << 26 | 10));
        assert!(matches!(
            run(td, vcpu, m, &exit(1 << 28 | 10)).0,
            L2Outcome::Fatal(_)
        ));
    });
}

#[test]
fn exit_consumes_the_injected_event_and_a_failed_entry_keeps_it() {
    with_td(|td, vcpu, m| {
        let info = |vcpu: &Vcpu| vcpu.l2(VM).vmcs.get(Field::EntryInterruptionInfo);
        vcpu.l2_mut(VM)
            .vmcs
            .set(Field::EntryInterruptionInfo, 0x8000_0020);
        assert_eq!(run(td, vcpu, m, &exit(1 << 31 | 33)).1.rax, 0x8000_0021);
        assert_eq!(info(vcpu), 0x8000_0020);
        run(td, vcpu, m, &exit(10));
        assert_eq!(info(vcpu), 0x20);
    });
}

#[test]
fn a_failed_entry_leaves_what_the_exit_before_it_told() {
    with_td(|td, vcpu, m| {
        let before = L2Exit {
            gla: 0x1111,
            gpa: 0x1222,
            interruption_info: 0x33,
            interruption_error: 0x44,
            idt_vectoring_info: 0x8000_0055,
            idt_vectoring_error: 0x66,
            instruction_info: 0x77,
            ..exit(48)
        };
        let told = |g: &Gprs| [g.rdx, g.r8, g.r9, g.r10, g.r11];
        let want = told(&run(td, vcpu, m, &before).1);
        assert_eq!(want[3], 0x66_8000_0055);
        let failed = L2Exit {
            qualification: 4,
            instruction_length: 0,
            ..exit(1 << 31 | 33)
        };
        let (_, g) = run(td, vcpu, m, &failed);
        assert_eq!((g.rax, g.rcx, told(&g)), (0x8000_0021, 4, want));
    });
}

#[test]
fn ept_violation_depends_on_the_page() {
    with_td(|td, vcpu, m| {
        assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size4K));
        let at = |gpa| L2Exit {
            gpa,
            qualification: 0x181,
            ..exit(48)
        };
        let (outcome, g) = run(td, vcpu, m, &at(0x1234));
        assert_eq!(
            (outcome, g.r8, g.r13, g.rcx),
            (L2Outcome::ToL1, 0x1234, 0, 0x181)
        );
        let (outcome, g) = run(td, vcpu, m, &at(0x20_0008));
        assert_eq!((outcome, g.r13), (L2Outcome::ToL1, 6));
        for gpa in [0x20_1008, 1 << 47 | 0x1008] {
            let want = TdExit::EptViolation {
                gpa: Gpa(gpa & !0xfff),
                vm: Some(VM),
                qualification: 1,
                eeq: Eeq::None,
            };
            assert_eq!(run(td, vcpu, m, &at(gpa)).0, L2Outcome::ToHost(want));
        }
        assert_eq!(run(td, vcpu, m, &at(1 << 48)).0, L2Outcome::ToL1);
        // Granted meanwhile: the exit is still reported to L1.
        td.pages
            .set_rights(Gpa(0x1000), Level::Size4K, VM, Rights::RWX);
        let (outcome, g) = run(td, vcpu, m, &at(0x1234));
        assert_eq!((outcome, g.rax, g.r13), (L2Outcome::ToL1, 48, 0));
    });
}

#[test]
fn tdcall_is_l1s_unless_enabled_for_vmcall() {
    with_td(|td, vcpu, m| {
        let e = L2Exit {
            instruction_length: 4,
            ..exit(77)
        };
        vcpu.l2_mut(VM).gprs.rcx = 0xfc00;
        set_64_bit_mode(vcpu.l2_mut(VM));
        assert_eq!(run(td, vcpu, m, &e).1.rax, 77);
        vcpu.l2_ctls[1] = l2_ctls::ENABLE_TDVMCALL;
        let vmcall = L2Outcome::ToHost(TdExit::L2Vmcall {
            vm: VM,
            mask: 0xfc00,
        });
        assert_eq!(run(td, vcpu, m, &e).0, vmcall);
        let rip = vcpu.l2(VM).vmcs.get(Field::GuestRip);
        l2_vmcall_done(vcpu, VM);
        assert_eq!(vcpu.l2(VM).vmcs.get(Field::GuestRip), rip + 4);
        let mut g = Gprs::ZERO;
        let resumed = left(td, vcpu, &mut g, m).resume_l1(HostRouted::Tdvmcall);
        assert_eq!((resumed, g.rax), (L2Outcome::ToL1, 0x1101_0000_004d));
        vcpu.l2_mut(VM).gprs.rcx = 1;
        assert_eq!(run(td, vcpu, m, &e).0, L2Outcome::Resume);
        assert_eq!(vcpu.l2(VM).gprs.rax, Status::invalid(Operand::Rcx).0);
        vcpu.l2_mut(VM).gprs.rax = 1;
        assert_eq!(run(td, vcpu, m, &e).0, L2Outcome::ToL1);
    });
}

#[test]
fn host_routed_exit_repeats_the_last_reason() {
    with_td(|td, vcpu, m| {
        run(td, vcpu, m, &exit(74));
        let mut g = Gprs::ZERO;
        let outcome = left(td, vcpu, &mut g, m).resume_l1(HostRouted::Async);
        assert_eq!((outcome, g.rax), (L2Outcome::ToL1, 0x1100_0000_004a));
    });
}

#[test]
fn interrupt_of_the_host_reaches_l1_as_its_own_kind_of_exit() {
    with_td(|td, vcpu, m| {
        run(td, vcpu, m, &exit(74));
        let rip = vcpu.l2(VM).vmcs.get(Field::GuestRip);
        let mut g = Gprs::ZERO;
        let outcome = left(td, vcpu, &mut g, m).host_interrupt(0xec);
        assert_eq!((outcome, g.rax), (L2Outcome::ToL1, 0x1100_0000_0001));
        assert_eq!((g.rcx, g.r9), (0, 0x8000_00ec));
        assert_eq!(vcpu.l2(VM).vmcs.get(Field::GuestRip), rip);
    });
}

#[test]
fn interrupted_delivery_is_repeated_after_the_host_unless_intercepted() {
    with_td(|td, vcpu, m| {
        let e = L2Exit {
            gpa: 0x20_0000,
            idt_vectoring_info: 0x8000_1b0e,
            idt_vectoring_error: 2,
            ..exit(48)
        };
        run(td, vcpu, m, &e);
        let mut g = Gprs::ZERO;
        let outcome = left(td, vcpu, &mut g, m).enter_after_host();
        assert_eq!(outcome, L2Outcome::Resume);
        let vmcs = &mut vcpu.l2_mut(VM).vmcs;
        assert_eq!(vmcs.get(Field::EntryInterruptionInfo), 0x8000_0b0e);
        assert_eq!(vmcs.get(Field::EntryErrorCode), 2);
        vmcs.set(Field::ExceptionBitmap, 1 << 14);
        let outcome = left(td, vcpu, &mut g, m).enter_after_host();
        assert_eq!(outcome, L2Outcome::ToL1);
        assert_eq!((g.rax, g.r9), (0x1100 << 32, 2 << 32 | 0x8000_1b0e));
    });
}

/// An L2 that reads an MSR which its table refuses with #GP.
fn refused_msr(vcpu: &mut Vcpu) {
    let l2 = vcpu.l2_mut(VM);
    l2.msr_bitmap.fill(0);
    l2.gprs.rcx = 0x9b;
}

#[test]
fn gp_of_the_module_sets_rf_and_gives_way_to_an_interrupted_event() {
    with_td(|td, vcpu, m| {
        refused_msr(vcpu);
        assert_eq!(run(td, vcpu, m, &exit(31)).0, L2Outcome::Resume);
        let vmcs = &mut vcpu.l2_mut(VM).vmcs;
        assert_eq!(vmcs.get(Field::EntryInterruptionInfo), 0x8000_0b0d);
        assert_eq!(vmcs.get(Field::GuestRflags), 0x1_0002);
        let interrupted = L2Exit {
            idt_vectoring_info: 0x8000_1030,
            ..exit(31)
        };
        assert_eq!(run(td, vcpu, m, &interrupted).0, L2Outcome::Resume);
        let vmcs = &mut vcpu.l2_mut(VM).vmcs;
        assert_eq!(vmcs.get(Field::EntryInterruptionInfo), 0x8000_0030);
        // Intercepted: registers describe the RDMSR, the VMCS the exception.
        vmcs.set(Field::ExceptionBitmap, 1 << 13);
        let (outcome, g) = run(td, vcpu, m, &exit(31));
        assert_eq!((outcome, g.rax, g.r9), (L2Outcome::ToL1, 31, 0));
        let vmcs = &vcpu.l2(VM).vmcs;
        assert_eq!(vmcs.get(Field::ExitReason), 0);
        assert_eq!(vmcs.get(Field::ExitInterruptionInfo), 0x8000_0b0d);
    });
}

#[test]
fn page_fault_filter_of_an_injection_looks_at_the_error_code_of_the_exit() {
    with_td(|td, vcpu, m| {
        let vmcs = &mut vcpu.l2_mut(VM).vmcs;
        vmcs.set(Field::ExceptionBitmap, 1 << 14);
        vmcs.set(Field::PfErrorMask, 2);
        vmcs.set(Field::PfErrorMatch, 2);
        // The event has the bit that the filter wants, the exit does not.
        let e = L2Exit {
            gpa: 0x20_0000,
            idt_vectoring_info: 0x8000_0b0e,
            idt_vectoring_error: 2,
            ..exit(48)
        };
        run(td, vcpu, m, &e);
        let mut g = Gprs::ZERO;
        let outcome = left(td, vcpu, &mut g, m).enter_after_host();
        assert_eq!(outcome, L2Outcome::Resume);
        run(
            td,
            vcpu,
            m,
            &L2Exit {
                interruption_error: 2,
                ..e
            },
        );
        let outcome = left(td, vcpu, &mut g, m).enter_after_host();
        assert_eq!(outcome, L2Outcome::ToL1);
    });
}

#[test]
fn bus_lock_is_reported_to_the_host_after_an_exit_that_was_handled_inside() {
    with_td(|td, vcpu, m| {
        let l2 = vcpu.l2_mut(VM);
        l2.msr_bitmap.fill(0);
        l2.gprs.rcx = 0x1d9;
        let want = TdExit::Async {
            vm: VM,
            reason: 74,
            interruption_info: 0,
        };
        let (outcome, _) = run(td, vcpu, m, &exit(1 << 26 | 31));
        assert_eq!(outcome, L2Outcome::ToHost(want));
        assert_eq!(vcpu.l2(VM).vmcs.get(Field::GuestRip), 0xffff_fff2);
        // The VMCS still has the exit itself, should the host resume L1.
        let mut g = Gprs::ZERO;
        left(td, vcpu, &mut g, m).resume_l1(HostRouted::Async);
        assert_eq!(g.rax, 0x1100_0400_001f);
    });
}

#[test]
fn stepping_over_an_instruction_makes_single_step_pending_or_not() {
    with_td(|td, vcpu, m| {
        let mut step = |td: &mut Td<'_>, rflags, debugctl, before| {
            let l2 = vcpu.l2_mut(VM);
            l2.msr_bitmap.fill(0);
            l2.gprs.rcx = 0x1d9;
            l2.vmcs.set(Field::GuestRflags, rflags);
            l2.vmcs.set(Field::GuestDebugctl, debugctl);
            l2.vmcs.set(Field::GuestPendingDebug, before);
            assert_eq!(run(td, vcpu, m, &exit(31)).0, L2Outcome::Resume);
            vcpu.l2(VM).vmcs.get(Field::GuestPendingDebug)
        };
        assert_eq!(step(td, 0x102, 0, 0), 1 << 14);
        assert_eq!(step(td, 0x102, 2, 1 << 14), 0);
        assert_eq!(step(td, 2, 0, 1 << 14 | 1), 1);
    });
}

#[test]
fn lost_state_page_is_fatal() {
    with_td(|td, vcpu, m| {
        assert!(td.pages.host_remove(Gpa(STATE)));
        assert!(matches!(run(td, vcpu, m, &exit(10)).0, L2Outcome::Fatal(_)));
    });
}

#[test]
fn l2_that_cannot_be_entered_again_is_told_to_l1_of_the_2_0_line() {
    with_td(|td, vcpu, m| {
        let fail = |td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, by| {
            let (outcome, _) = run(td, vcpu, m, &exit(10));
            assert_eq!(outcome, L2Outcome::ToL1);
            vcpu.current_vm = Some(VM);
            let mut g = Gprs {
                rsp: 0x51,
                r14: 2,
                ..Gprs::ZERO
            };
            let outcome = left(td, vcpu, &mut g, m).entry_failed(by);
            (outcome, g)
        };
        let (outcome, _) = fail(td, vcpu, m, EntryBy::Host);
        assert!(matches!(outcome, L2Outcome::Fatal(_)), "{outcome:?}");
        td.config.feature_level = crate::td::FeatureLevel::Second;
        for (by, details) in [(EntryBy::Host, 8), (EntryBy::Module, 10)] {
            let (outcome, g) = fail(td, vcpu, m, by);
            assert_eq!(outcome, L2Outcome::ToL1);
            assert_eq!(g.rax, 0x8000_1103_8000_ffff);
            assert_eq!((g.r13, g.r11, g.rcx), (details << 32 | 7, 0, 0));
            assert_eq!((g.rsp, g.r14), (0x51, 0));
            assert_eq!(vcpu.current_vm, None);
        }
        // The buffer may be gone meanwhile.
        let (_, _) = run(td, vcpu, m, &exit(10));
        assert!(td.pages.host_remove(Gpa(STATE)));
        let mut g = Gprs::ZERO;
        let outcome = left(td, vcpu, &mut g, m).entry_failed(EntryBy::Host);
        assert!(matches!(outcome, L2Outcome::Fatal(_)), "{outcome:?}");
    });
}
