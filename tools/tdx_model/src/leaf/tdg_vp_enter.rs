// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.ENTER (leaf 25): enters an L2 VM.
//!
//! The way back is `l2_exit.rs`. L1's RIP stays at the TDCALL until then.

use super::{Call, Done, Leaf, Stop, must_be_zero, private_operand};
use crate::Field;
use crate::entry_checks::{self, EntryFailure};
use crate::gpa::{Gpa, VmIndex};
use crate::gprs::Gprs;
use crate::l2_exit::L2Exit;
use crate::l2_state;
use crate::machine::{FlushScope, Machine};
use crate::status::{Operand, Status};
use crate::td::FeatureLevel;
use crate::vcpu::L2Vm;

/// RCX 1:0, INVD_TRANSLATIONS.
const INVD_MASK: u64 = 3;
const VM_SHIFT: u32 = 52;
const VM_MASK: u64 = 3 << VM_SHIFT;

/// Which way led to an entry that the control fields made impossible: the host entered the L2, L1 did,
/// or the module did after an exit that it had handled. L1 of the 2.0 line finds it in R13
/// [ABI TDG.VP.ENTER, extended exit qualification; `td_exit.h` of module 2.0].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryBy {
    /// TDH.VP.ENTER.
    Host = 8,
    /// TDG.VP.ENTER.
    L1 = 9,
    /// The module.
    Module = 10,
}

/// What L1 of the 2.0 line sees of it: RAX and the registers of an exit of which nothing is known but
/// that it failed.
pub(crate) fn failed_entry(l2: &L2Vm, l1_rsp: u64, by: EntryBy) -> (Status, Gprs) {
    /// Raw reason: an entry failure of no basic reason.
    const REASON_NONE: u32 = 1 << 31 | 0xffff;
    /// Type of the extended exit qualification.
    const EEQ_VM_ENTRY_FAILURE: u64 = 7;
    let gprs = Gprs {
        rcx: 0,
        rdx: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        ..l2_state::exit_image(l2, l1_rsp, EEQ_VM_ENTRY_FAILURE | (by as u64) << 32)
    };
    (Status::L2_VM_ENTRY_FAILED.with(REASON_NONE), gprs)
}

/// Raw reason of an entry that the guest state made impossible.
const REASON_INVALID_GUEST_STATE: u32 = 1 << 31 | 33;
/// VM-instruction error: invalid control fields.
const ERROR_CONTROL_FIELDS: u64 = 7;

pub(crate) fn tdg_vp_enter<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let state = private_operand(call.gprs.rdx, 256, Operand::Rdx)?;
    let rcx = call.gprs.rcx;
    let vm = call.td.config.l2_vm((rcx & VM_MASK) >> VM_SHIFT);
    let vm = vm.ok_or(Stop::invalid(Operand::Rcx))?;
    must_be_zero(rcx & !(VM_MASK | INVD_MASK), Operand::Rcx)?;
    let vapic = call.vcpu.l2(vm).virtual_apic_gpa();
    let vapic = vapic.ok_or(Stop::invalid(Operand::L2VapicGpa))?;
    if call.machine.l1_interrupt_deliverable() {
        return Err(Status::PENDING_INTERRUPT.into());
    }
    call.walk_for_entry(state)?;
    call.walk_for_entry(vapic)?;
    // checks passed
    match rcx & INVD_MASK {
        1 => call.flush_l2(vm, FlushScope::Ept),
        2 => call.flush_l2(vm, FlushScope::AllLinear),
        3 => call.flush_l2(vm, FlushScope::NonGlobalLinear),
        _ => {}
    }
    let l2 = call.vcpu.l2_mut(vm);
    l2.state_gpa = Some(state);
    l2_state::load_guest_state(l2, state, call.machine);
    match entry_checks::check(&call.td.config, l2, vtpr(vapic, call.machine)) {
        Ok(()) => {
            call.vcpu.current_vm = Some(vm);
            call.td.stale.run(call.vcpu.index, vm);
            Ok(Done::EnterL2(vm))
        }
        Err(refusal) => {
            let vmcs = &call.vcpu.l2(vm).vmcs;
            let fields = refusal.fields.iter().chain(&[Field::GuestRip]);
            let mut values = fields.map(|field| (*field, vmcs.get(*field)));
            call.machine.l2_entry_refused(vm, refusal.what, &mut values);
            fail(&mut call, vm, refusal.failure).map(Done::Status)
        }
    }
}

/// The L2 did not run. Bad guest state gives the registers of an exit, bad controls give a status, with
/// registers in the 2.0 line. Module 1.5 had no such status: it executed an invalid opcode of its own.
fn fail<M: Machine>(
    call: &mut Call<'_, '_, M>,
    vm: VmIndex,
    failure: EntryFailure,
) -> Result<Status, Stop> {
    let has_status = call.td.config.feature_level >= FeatureLevel::Later;
    let is_second = call.td.config.is_second();
    let l2 = call.vcpu.l2_mut(vm);
    match failure {
        EntryFailure::ControlFields if !has_status => Err(Stop::Fatal(
            "bad control fields at TDG.VP.ENTER, which module 1.5 does not survive",
        )),
        EntryFailure::MonitorTrap => Err(Stop::Fatal(
            "the exit of a pending monitor trap, which no module serves",
        )),
        EntryFailure::ControlFields => {
            l2.vmcs.set(Field::InstructionError, ERROR_CONTROL_FIELDS);
            if !is_second {
                return Ok(Status::L2_VM_ENTRY_FAILED);
            }
            l2_state::store_guest_state(l2, call.machine);
            let (status, gprs) = failed_entry(l2, call.gprs.rsp, EntryBy::L1);
            *call.gprs = gprs;
            Ok(status)
        }
        EntryFailure::GuestState { qualification } => {
            let exit = L2Exit {
                reason: REASON_INVALID_GUEST_STATE,
                qualification,
                ..Default::default()
            };
            l2_state::record(l2, &exit);
            l2_state::store_guest_state(l2, call.machine);
            *call.gprs = l2_state::exit_image(l2, call.gprs.rsp, 0);
            Ok(Status::SUCCESS.with(REASON_INVALID_GUEST_STATE))
        }
    }
}

/// The task-priority register of the L2's virtual-APIC page.
fn vtpr<M: Machine>(vapic: Gpa, machine: &mut M) -> u8 {
    let mut byte = [0];
    machine.read_memory(Gpa(vapic.0 + 0x80), &mut byte);
    let [vtpr] = byte;
    vtpr
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gpa::{Level, Rights};
    use crate::td::Td;
    use crate::testing::{Event, FakeMachine, STATE, call, complete, with_td};
    use crate::vcpu::Vcpu;
    use crate::ve::{Eeq, TdExit};

    const VM1: u64 = 1 << 52;

    fn enter() -> Gprs {
        Gprs {
            rcx: VM1,
            rdx: STATE,
            rbp: 0x1234,
            ..Gprs::ZERO
        }
    }

    #[test]
    fn state_is_loaded_from_the_buffer() {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            m.put(STATE + 0x78, 0x1515);
            m.put(STATE + 0x20, 0x8000);
            m.put(STATE + 0x88, 0x7c00);
            m.put(STATE + 0x98, 0xffff_ffff_ffff_4030);
            assert_eq!(
                call(td, vcpu, m, 25, &mut enter()),
                Outcome::EnterL2(VmIndex::Vm1)
            );
            assert_eq!(vcpu.current_vm, Some(VmIndex::Vm1));
            let l2 = vcpu.l2(VmIndex::Vm1);
            assert_eq!(
                (l2.gprs.r15, l2.vmcs.get(Field::GuestRsp)),
                (0x1515, 0x8000)
            );
            assert_eq!(l2.vmcs.get(Field::GuestRip), 0x7c00);
            assert_eq!(l2.vmcs.get(Field::GuestInterruptStatus), 0x4030);
        });
    }

    #[test]
    fn only_the_first_kind_of_invalidation_reaches_guest_physical_translations() {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            let (vm, gpa) = (VmIndex::Vm1, Gpa(0x5000));
            let mut enter_with = |td: &mut Td<'_>, kind: u64| {
                vcpu.current_vm = None;
                let mut g = enter();
                g.rcx |= kind;
                assert_eq!(call(td, vcpu, m, 25, &mut g), Outcome::EnterL2(vm));
            };
            enter_with(td, 0);
            td.stale
                .reduce(vm, gpa, Level::Size4K, Rights::RWX, Rights::R);
            for kind in [0, 2, 3] {
                enter_with(td, kind);
                assert!(td.stale.find(1, vm, gpa).is_some(), "{kind}");
            }
            enter_with(td, 1);
            assert_eq!(td.stale.find(1, vm, gpa), None);
        });
    }

    #[test]
    fn operands_are_checked_in_the_specified_order() {
        with_td(|td, vcpu, m| {
            m.is_interrupt_pending = true;
            let mut g = Gprs {
                rcx: 0,
                rdx: STATE + 0x10,
                ..Gprs::ZERO
            };
            assert_eq!(
                complete(td, vcpu, m, 25, &mut g),
                Status::invalid(Operand::Rdx).0
            );
            g.rdx = STATE;
            for rcx in [0, 3 << 52, VM1 | 4, VM1 | 1 << 54, VM1 | 1 << 63] {
                g.rcx = rcx;
                assert_eq!(
                    complete(td, vcpu, m, 25, &mut g),
                    Status::invalid(Operand::Rcx).0
                );
            }
            g.rcx = VM1;
            let unset = complete(td, vcpu, m, 25, &mut g);
            assert_eq!(unset, Status::invalid(Operand::L2VapicGpa).0);
            vcpu.l2_mut(VmIndex::Vm1)
                .vmcs
                .set(Field::VirtualApicAddress, 0x60_0000);
            g.rdx = 0x70_0000;
            assert_eq!(
                complete(td, vcpu, m, 25, &mut g),
                Status::PENDING_INTERRUPT.0
            );
            m.is_interrupt_pending = false;
            let exit = |gpa| {
                let gpa = Gpa(gpa);
                let (vm, qualification, eeq) = (None, 0, Eeq::None);
                Outcome::TdExit(TdExit::EptViolation {
                    gpa,
                    vm,
                    qualification,
                    eeq,
                })
            };
            assert_eq!(call(td, vcpu, m, 25, &mut enter()), exit(0x60_0000));
            let mut far = Gprs {
                rdx: 0x70_0100,
                ..enter()
            };
            assert_eq!(call(td, vcpu, m, 25, &mut far), exit(0x70_0000));
        });
    }

    #[test]
    fn pending_interrupt_changes_only_rax_and_does_not_flush() {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            m.is_interrupt_pending = true;
            let mut g = Gprs {
                rcx: VM1 | 1,
                ..enter()
            };
            let before = g;
            assert_eq!(
                complete(td, vcpu, m, 25, &mut g),
                Status::PENDING_INTERRUPT.0
            );
            assert_eq!(
                Gprs {
                    rax: before.rax,
                    ..g
                },
                before
            );
            assert!(m.events.is_empty());
            m.is_interrupt_pending = false;
            assert!(matches!(call(td, vcpu, m, 25, &mut g), Outcome::EnterL2(_)));
            assert_eq!(m.events, [Event::Flush(VmIndex::Vm1, FlushScope::Ept)]);
        });
    }

    #[test]
    fn pending_state_page_is_an_exit_to_the_host() {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size4K));
            let mut g = Gprs {
                rdx: 0x20_0000,
                ..enter()
            };
            assert!(matches!(call(td, vcpu, m, 25, &mut g), Outcome::TdExit(_)));
        });
    }

    #[test]
    fn inconsistent_long_mode_is_an_entry_failure_with_a_full_image() {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            vcpu.l2_mut(VmIndex::Vm1).vmcs.set(Field::GuestEfer, 0xd01);
            let mut g = enter();
            assert_eq!(complete(td, vcpu, m, 25, &mut g), 0x8000_0021);
            assert_eq!((g.rbx, g.rbp, g.r14), (0, 0, 0));
            assert_eq!(vcpu.current_vm, None);
        });
    }

    #[test]
    fn bad_control_field_is_a_failed_entry() {
        with_td(|td, vcpu, m| {
            m.prepare_l2(vcpu);
            vcpu.l2_mut(VmIndex::Vm1).vmcs.set(Field::Cr3TargetCount, 5);
            let mut g = enter();
            assert_eq!(
                complete(td, vcpu, m, 25, &mut g),
                Status::L2_VM_ENTRY_FAILED.0
            );
            assert_eq!(g.rbp, 0x1234);
            assert_eq!(vcpu.l2(VmIndex::Vm1).vmcs.get(Field::InstructionError), 7);
            // Later ones give the registers of an exit, too, and write back the state.
            td.config.feature_level = FeatureLevel::Second;
            m.put(STATE + 0x88, 0x7c00);
            vcpu.l2_mut(VmIndex::Vm1)
                .vmcs
                .set(Field::ExitQualification, 5);
            let mut g = Gprs {
                rsp: 0x99,
                r9: 9,
                r13: 13,
                ..enter()
            };
            let status = complete(td, vcpu, m, 25, &mut g);
            assert_eq!(status, 0x8000_1103_8000_ffff);
            assert_eq!((g.r13, g.r12, g.rsp), (9 << 32 | 7, 0, 0x99));
            assert_eq!((g.rcx, g.rdx, g.r8, g.r9), (0, 0, 0, 0));
            assert_eq!((g.r10, g.r11, g.r14, g.rbx), (0, 0, 0, 0));
            assert_eq!(vcpu.current_vm, None);
            // The first modules had no status for it.
            td.config.feature_level = FeatureLevel::Base;
            let outcome = call(td, vcpu, m, 25, &mut enter());
            assert!(matches!(outcome, Outcome::Fatal(_)), "{outcome:?}");
        });
    }

    /// Writes L2 VMCS fields of VM 1 through TDG.VP.WR, every bit of each.
    fn write(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, fields: &[(Field, u64)]) {
        for (field, r8) in fields {
            let rdx = 0x2424 << 48 | field.encoding();
            let mut g = Gprs {
                rdx,
                r8: *r8,
                r9: u64::MAX,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 10, &mut g), 0, "{field:?}");
        }
    }

    #[test]
    fn real_protected_and_long_mode_can_be_set_up_by_l1_and_entered() {
        let real = [
            (Field::GuestCr0, 0x30),
            (Field::GuestEfer, 0x800),
            (Field::GuestCsAccess, 0x9b),
            (Field::GuestCsLimit, 0xffff),
            (Field::GuestTrLimit, 0x67),
            (Field::GuestLdtrAccess, 0x1_0000),
        ];
        let protected = [(Field::GuestCr0, 0x31), (Field::GuestEfer, 0x800)];
        let long = [
            (Field::GuestCr0, 0x8005_0033),
            (Field::GuestCr3, 0x1000),
            (Field::GuestCr4, 0x2660),
            (Field::GuestEfer, 0xd01),
            (Field::EntryControls, 0x003e_c204),
            (Field::GuestCsAccess, 0xa09b),
        ];
        for fields in [&real[..], &protected, &long] {
            with_td(|td, vcpu, m| {
                m.prepare_l2(vcpu);
                write(
                    td,
                    vcpu,
                    m,
                    &[(Field::Cr0Shadow, 0x10), (Field::Cr0Mask, u64::MAX)],
                );
                write(
                    td,
                    vcpu,
                    m,
                    &[(Field::Cr4Shadow, 0), (Field::Cr4Mask, u64::MAX)],
                );
                write(td, vcpu, m, fields);
                let outcome = call(td, vcpu, m, 25, &mut enter());
                assert_eq!(outcome, Outcome::EnterL2(VmIndex::Vm1));
            });
        }
    }
}
