// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What happens when an L2 VM exits: who gets the exit, and how L1 sees it.
//!
//! The emulator stores the L2's state into [`crate::vcpu::L2Vm`] and calls [`l2_exit`]. MSR and CR
//! exits are decided in `l2_msr.rs` and `l2_cr.rs`, state is moved by `l2_state.rs`. The way in is `leaf/tdg_vp_enter.rs`
//! [ABI L2 VM exits].

use crate::Field;
use crate::gpa::{Gpa, VmIndex};
use crate::gprs::Gprs;
use crate::l2_state::{exit_image, record, step_rip, store_guest_state};
use crate::leaf::tdg_vp_vmcall;
use crate::machine::Machine;
use crate::msr::Access;
use crate::page_state::PageState;
use crate::status::{Operand, Status};
use crate::td::Td;
use crate::vcpu::{L2Vm, Vcpu, l2_ctls};
use crate::ve::{Eeq, TdExit, host_qualification};
use crate::{l2_cr, l2_msr};

/// An exit of an L2, in the terms of VMX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L2Exit {
    /// Raw exit reason, flag bits 26 to 31 included.
    pub reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest-linear address.
    pub gla: u64,
    /// Guest-physical address; taken over for EPT exits only.
    pub gpa: u64,
    /// VM-exit interruption information.
    pub interruption_info: u32,
    /// Its error code.
    pub interruption_error: u32,
    /// IDT-vectoring information.
    pub idt_vectoring_info: u32,
    /// Its error code.
    pub idt_vectoring_error: u32,
    /// Length of the instruction.
    pub instruction_length: u32,
    /// VM-exit instruction information.
    pub instruction_info: u32,
    /// Privilege level of the L2.
    pub cpl: u8,
}

/// What the emulator does after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Outcome {
    /// L1's registers hold the exit, its buffer is written. Step L1's RIP by 4 and run L1.
    ToL1,
    /// Done inside; enter the same L2 again.
    Resume,
    /// The host gets control, then [`enter_after_host`] or [`resume_l1`].
    ToHost(TdExit),
    /// The TD is dead; the text says why.
    Fatal(&'static str),
}

/// Which kind of exit the host hands over to L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRouted {
    /// After an asynchronous exit.
    Async,
    /// After a TDG.VP.VMCALL of the L2 that the host has completed.
    Tdvmcall,
}

/// Who gets an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    ToL1(Status, Eeq),
    ToHost(TdExit),
    /// Done inside, RIP has been stepped where that was due.
    Handled,
    /// #GP(0) into the L2.
    InjectGp,
    Fatal(&'static str),
}

impl Route {
    /// The usual exit to L1.
    pub(crate) const L1: Self = Self::ToL1(Status::SUCCESS, Eeq::None);
}

/// Interruption information: valid.
const VALID: u32 = 1 << 31;
/// Interruption information: the event has an error code.
const HAS_ERROR_CODE: u32 = 1 << 11;
/// Interruption information type: NMI.
const TYPE_NMI: u32 = 2;
/// Interruption information type: hardware exception.
const TYPE_EXCEPTION: u32 = 3;
const VECTOR_MC: u32 = 18;
const VECTOR_GP: u32 = 13;

/// Exit-reason bits whose presence the module takes for corruption: pending MTF, root mode.
const CORRUPT_REASON_BITS: u32 = 7 << 28;
/// Interruptibility: blocking by NMI.
const BLOCKING_NMI: u64 = 1 << 3;
/// EPT-violation qualification: linear address valid, NMI unblocked by IRET.
const QUALIFICATION_GLA_VALID: u64 = 1 << 7;
const QUALIFICATION_NMI_UNBLOCKED: u64 = 1 << 12;

const fn event_type(info: u32) -> u32 {
    info >> 8 & 7
}

/// Decides on an exit of the L2 `vm` of this virtual processor.
pub fn l2_exit<M: Machine>(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    exit: &L2Exit,
    l1_gprs: &mut Gprs,
    machine: &mut M,
) -> L2Outcome {
    record(vcpu.l2_mut(vm), exit);
    match route(td, vcpu, vm, exit, machine) {
        Route::ToL1(status, eeq) => {
            let status = status.with(exit.reason);
            deliver(td, vcpu, vm, Delivery { status, eeq }, l1_gprs, machine)
        }
        Route::Handled => L2Outcome::Resume,
        Route::InjectGp => inject_gp(td, vcpu, vm, l1_gprs, machine),
        Route::Fatal(why) => L2Outcome::Fatal(why),
        Route::ToHost(to_host) => {
            let l2 = vcpu.l2_mut(vm);
            if is_state_page_gone(td, l2) {
                return L2Outcome::Fatal("L2_ENTER_GUEST_STATE is no longer a private page");
            }
            store_guest_state(l2, machine);
            L2Outcome::ToHost(to_host)
        }
    }
}

/// The host resumes L1 instead of the L2 that was left: TDH.VP.ENTER with RESUME_L1.
pub fn resume_l1<M: Machine>(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    kind: HostRouted,
    l1_gprs: &mut Gprs,
    machine: &mut M,
) -> L2Outcome {
    let status = match kind {
        HostRouted::Async => Status::L2_EXIT_HOST_ROUTED_ASYNC,
        HostRouted::Tdvmcall => Status::L2_EXIT_HOST_ROUTED_TDVMCALL,
    };
    let status = status.with(vcpu.l2(vm).vmcs.get32(Field::ExitReason));
    deliver(
        td,
        vcpu,
        vm,
        Delivery {
            status,
            eeq: Eeq::None,
        },
        l1_gprs,
        machine,
    )
}

/// An interrupt of the host's own ends the run of an L2, and the host resumes L1 instead.
pub fn host_interrupt<M: Machine>(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    l1_gprs: &mut Gprs,
    machine: &mut M,
) -> L2Outcome {
    const EXTERNAL_INTERRUPT: u32 = 1;
    let exit = L2Exit {
        reason: EXTERNAL_INTERRUPT,
        ..L2Exit::default()
    };
    record(vcpu.l2_mut(vm), &exit);
    resume_l1(td, vcpu, vm, HostRouted::Async, l1_gprs, machine)
}

/// The host enters the L2 again: an event whose delivery was interrupted is injected once more.
pub fn enter_after_host<M: Machine>(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    l1_gprs: &mut Gprs,
    machine: &mut M,
) -> L2Outcome {
    let vmcs = &mut vcpu.l2_mut(vm).vmcs;
    let info = vmcs.get32(Field::IdtVectoringInfo);
    let error = vmcs.get32(Field::IdtVectoringErrorCode);
    let is_ept_violation = vmcs.get(Field::ExitReason) & 0xffff == 48;
    if info & VALID == 0 {
        let unblocked = vmcs.get(Field::ExitQualification) & QUALIFICATION_NMI_UNBLOCKED != 0;
        if is_ept_violation && unblocked {
            let blocking = vmcs.get(Field::GuestInterruptibility);
            vmcs.set(Field::GuestInterruptibility, blocking | BLOCKING_NMI);
        }
        return L2Outcome::Resume;
    }
    // CAST: the vector is the low byte.
    let is_intercepted =
        event_type(info) == TYPE_EXCEPTION && vmcs.intercepts_exception(info as u8, error);
    if is_intercepted {
        convert_to_exception_exit(vcpu.l2_mut(vm), info, error);
        let delivery = Delivery {
            status: Status::L2_EXIT_HOST_ROUTED_ASYNC,
            eeq: Eeq::None,
        };
        return deliver(td, vcpu, vm, delivery, l1_gprs, machine);
    }
    // Bit 12 of vectoring information is undefined and must be 0 for an injection.
    vmcs.set(Field::EntryInterruptionInfo, u64::from(info & !(1 << 12)));
    vmcs.set(Field::EntryErrorCode, u64::from(error));
    vmcs.set(
        Field::EntryInstructionLength,
        vmcs.get(Field::ExitInstructionLength),
    );
    L2Outcome::Resume
}

/// Completes a TDG.VP.VMCALL of an L2 after the host has changed the selected registers in
/// [`L2Vm::gprs`].
pub fn l2_vmcall_done(vcpu: &mut Vcpu, vm: VmIndex) {
    let l2 = vcpu.l2_mut(vm);
    l2.gprs.rax = Status::SUCCESS.0;
    step_rip(l2);
}

/// How an exit is presented to L1.
#[derive(Clone, Copy)]
struct Delivery {
    status: Status,
    eeq: Eeq,
}

fn deliver<M: Machine>(
    td: &Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    delivery: Delivery,
    l1_gprs: &mut Gprs,
    machine: &mut M,
) -> L2Outcome {
    let l2 = vcpu.l2_mut(vm);
    if is_state_page_gone(td, l2) {
        return L2Outcome::Fatal("L2_ENTER_GUEST_STATE is no longer a private page");
    }
    store_guest_state(l2, machine);
    let eeq_type = if delivery.eeq == Eeq::Pending { 6 } else { 0 };
    let image = exit_image(l2, l1_gprs.rsp, eeq_type);
    *l1_gprs = Gprs {
        rax: delivery.status.0,
        ..image
    };
    vcpu.current_vm = None;
    L2Outcome::ToL1
}

fn is_state_page_gone(td: &Td<'_>, l2: &L2Vm) -> bool {
    l2.state_gpa
        .is_none_or(|gpa| td.pages.state(gpa) != PageState::Mapped)
}

/// Injects #GP(0), or turns it into an exit if L1 intercepts it.
///
/// In the latter case the registers still describe the original exit, except for the error code;
/// the VMCS describes the exception [ABI L2 VM exits, injected exceptions].
fn inject_gp<M: Machine>(
    td: &Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    l1_gprs: &mut Gprs,
    machine: &mut M,
) -> L2Outcome {
    let l2 = vcpu.l2_mut(vm);
    let info = VALID | HAS_ERROR_CODE | TYPE_EXCEPTION << 8 | VECTOR_GP;
    if !l2.vmcs.intercepts_exception(VECTOR_GP as u8, 0) {
        l2.vmcs.set(Field::EntryInterruptionInfo, u64::from(info));
        l2.vmcs.set(Field::EntryErrorCode, 0);
        return L2Outcome::Resume;
    }
    let status = Status::SUCCESS.with(l2.vmcs.get32(Field::ExitReason));
    let original = exit_image(l2, 0, 0);
    convert_to_exception_exit(l2, info, 0);
    let delivery = Delivery {
        status,
        eeq: Eeq::None,
    };
    let outcome = deliver(td, vcpu, vm, delivery, l1_gprs, machine);
    if outcome == L2Outcome::ToL1 {
        l1_gprs.rcx = original.rcx;
        l1_gprs.r9 = original.r9 & 0xffff_ffff;
    }
    outcome
}

fn convert_to_exception_exit(l2: &mut L2Vm, info: u32, error: u32) {
    l2.vmcs.set(Field::ExitReason, 0);
    l2.vmcs.set(Field::ExitQualification, 0);
    l2.vmcs.set(Field::ExitInterruptionInfo, u64::from(info));
    l2.vmcs.set(Field::ExitErrorCode, u64::from(error));
}

fn route<M: Machine>(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    exit: &L2Exit,
    machine: &mut M,
) -> Route {
    if exit.reason & CORRUPT_REASON_BITS != 0 {
        return Route::Fatal("exit reason with a flag that can not be");
    }
    let to_host = Route::ToHost(TdExit::Async {
        vm,
        reason: exit.reason,
        interruption_info: exit.interruption_info,
    });
    match exit.reason & 0xffff {
        0 => match (
            event_type(exit.interruption_info),
            exit.interruption_info & 0xff,
        ) {
            (TYPE_NMI, _) => to_host,
            (TYPE_EXCEPTION, VECTOR_MC) => Route::Fatal("machine check in L2"),
            _ => Route::L1,
        },
        // Every external interrupt of this machine is L1's: see Machine::l1_interrupt_deliverable.
        1 => Route::ToL1(Status::L2_EXIT_PENDING_INTERRUPT, Eeq::None),
        3 | 5 | 6 | 74 | 75 => to_host,
        28 => l2_cr::route(&td.config, vcpu.l2_mut(vm), exit),
        31 => l2_msr::route(&td.config, vcpu.l2_mut(vm), Access::Read, machine),
        32 => l2_msr::route(&td.config, vcpu.l2_mut(vm), Access::Write, machine),
        34 => Route::Fatal("MSR loading failed at L2 entry"),
        37 => Route::Fatal("monitor trap flag exit of L2, which no handler takes"),
        41 => Route::Fatal("machine check at L2 entry"),
        44 => Route::Fatal("APIC-access exit of L2, though the control is off"),
        48 => route_ept_violation(td, vm, exit),
        49 if Gpa(exit.gpa).is_shared() => to_host,
        49 => Route::Fatal("EPT misconfiguration of a private page"),
        62 => Route::Fatal("page-modification log of a production TD is full"),
        66 => Route::Fatal("sub-page permission exit of L2"),
        77 => route_tdcall(td, vcpu, vm),
        2
        | 7..=27
        | 29
        | 30
        | 33
        | 36
        | 39
        | 40
        | 43
        | 45..=47
        | 50..=61
        | 63..=65
        | 67..=73
        | 76 => Route::L1,
        _ => Route::Fatal("exit reason of L2 that the module does not know"),
    }
}

fn route_ept_violation(td: &Td<'_>, vm: VmIndex, exit: &L2Exit) -> Route {
    let gpa = Gpa(exit.gpa);
    if gpa.is_beyond_width() && exit.qualification & QUALIFICATION_GLA_VALID != 0 {
        return Route::L1;
    }
    let to_host = Route::ToHost(TdExit::EptViolation {
        gpa: Gpa(exit.gpa & !0xfff),
        vm: Some(vm),
        qualification: host_qualification(exit.qualification),
        eeq: Eeq::None,
    });
    if gpa.is_shared() || gpa.is_beyond_width() {
        return to_host;
    }
    match td.pages.state(gpa) {
        // Even if another processor has granted the access meanwhile: the rights are not looked at.
        PageState::Mapped => Route::L1,
        PageState::Pending => Route::ToL1(Status::SUCCESS, Eeq::Pending),
        PageState::Free | PageState::Shared => to_host,
    }
}

/// TDCALL in L2: only TDG.VP.VMCALL, and only if L1 allows it, is not L1's to handle.
fn route_tdcall(td: &Td<'_>, vcpu: &mut Vcpu, vm: VmIndex) -> Route {
    let is_enabled = vcpu.l2_ctls(vm) & l2_ctls::ENABLE_TDVMCALL != 0;
    let l2 = vcpu.l2_mut(vm);
    if !is_enabled || l2.gprs.rax & 0xffff != 0 {
        return Route::L1;
    }
    let checked = if l2.gprs.rax == 0 {
        tdg_vp_vmcall::check_mask(td, l2.gprs.rcx)
    } else {
        Err(Status::invalid(Operand::Rax))
    };
    match checked {
        Ok(mask) => Route::ToHost(TdExit::L2Vmcall { vm, mask }),
        Err(status) => {
            l2.gprs.rax = status.0;
            step_rip(l2);
            Route::Handled
        }
    }
}

#[cfg(test)]
mod tests;
