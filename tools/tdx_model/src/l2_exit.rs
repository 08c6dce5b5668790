// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What happens when an L2 VM exits: who handles the exit, and how it is reported to L1.
//!
//! The emulator stores the L2's state into [`crate::vcpu::L2Vm`] and calls [`L2Call::exit`].
//! `l2_msr.rs` and `l2_cr.rs` decide about MSR and CR exits, `l2_state.rs` moves the state. L2s are
//! entered by `leaf/tdg_vp_enter.rs` [ABI L2 VM exits].

use crate::Field;
use crate::gpa::{Gpa, VmIndex};
use crate::gprs::Gprs;
use crate::l2_state::{exit_image, is_64_bit, record, step_rip, store_guest_state};
pub use crate::leaf::tdg_vp_enter::EntryBy;
use crate::leaf::tdg_vp_enter::failed_entry;
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
    /// Guest-physical address; only used for EPT exits.
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
    /// The host gets control, then [`L2Call::enter_after_host`] or [`L2Call::resume_l1`].
    ToHost(TdExit),
    /// The TD is dead; the text says why.
    Fatal(&'static str),
}

/// Kind of exit that the host routes to L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRouted {
    /// After an asynchronous exit.
    Async,
    /// After a TDG.VP.VMCALL of the L2 that the host has completed.
    Tdvmcall,
}

/// Who handles an exit.
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
/// IDT-vectoring information: a bit that is undefined there and must be 0 for an injection.
const UNDEFINED_INFO: u32 = 1 << 12;
const VECTOR_MC: u32 = 18;
const VECTOR_GP: u32 = 13;

/// Exit-reason bits that the module treats as corruption: pending MTF, root mode.
const CORRUPT_REASON_BITS: u32 = 7 << 28;
/// Exit-reason bit of a bus lock that the exit preempted, and the reason of an exit for one.
const BUS_LOCK_PREEMPTED: u32 = 1 << 26;
const BUS_LOCK: u32 = 74;
/// Qualification of a notification exit.
const NOTIFICATION_CONTEXT_INVALID: u64 = 1 << 0;
const RFLAGS_RF: u64 = 1 << 16;
/// Interruptibility: blocking by NMI.
const BLOCKING_NMI: u64 = 1 << 3;
/// EPT-violation qualification: linear address valid, NMI unblocked by IRET.
const QUALIFICATION_GLA_VALID: u64 = 1 << 7;
const QUALIFICATION_NMI_UNBLOCKED: u64 = 1 << 12;

const fn event_type(info: u32) -> u32 {
    info >> 8 & 7
}

/// An L2 that has been left: what decides on it, and what it changes.
pub struct L2Call<'a, 'm, M> {
    /// The TD.
    pub td: &'a mut Td<'m>,
    /// The virtual processor.
    pub vcpu: &'a mut Vcpu,
    /// Which of its L2s.
    pub vm: VmIndex,
    /// L1's registers, which describe the exit once it is delivered to L1.
    pub l1_gprs: &'a mut Gprs,
    /// What is below the module.
    pub machine: &'a mut M,
}

impl<M: Machine> L2Call<'_, '_, M> {
    /// Decides on an exit.
    pub fn exit(&mut self, exit: &L2Exit) -> L2Outcome {
        record(self.l2(), exit);
        match self.route(exit) {
            Route::ToL1(status, eeq) => {
                let status = status.with(exit.reason);
                self.deliver(Delivery { status, eeq })
            }
            Route::Handled => match self.inject_again() {
                L2Outcome::Resume => self.resume(exit),
                to_l1 => to_l1,
            },
            Route::InjectGp => match self.inject_gp() {
                L2Outcome::Resume => self.resume(exit),
                to_l1 => to_l1,
            },
            Route::Fatal(why) => L2Outcome::Fatal(why),
            Route::ToHost(to_host) => match self.store_state() {
                Ok(()) => L2Outcome::ToHost(to_host),
                Err(fatal) => fatal,
            },
        }
    }

    /// The host resumes L1 instead of the L2 that was left: TDH.VP.ENTER with RESUME_L1.
    pub fn resume_l1(&mut self, kind: HostRouted) -> L2Outcome {
        let status = match kind {
            HostRouted::Async => Status::L2_EXIT_HOST_ROUTED_ASYNC,
            HostRouted::Tdvmcall => Status::L2_EXIT_HOST_ROUTED_TDVMCALL,
        };
        let status = status.with(self.l2().vmcs.get32(Field::ExitReason));
        self.deliver(Delivery::plain(status))
    }

    /// An interrupt of the host's own ends the run of an L2, and the host resumes L1 instead.
    pub fn host_interrupt(&mut self, vector: u8) -> L2Outcome {
        const EXTERNAL_INTERRUPT: u32 = 1;
        let exit = L2Exit {
            reason: EXTERNAL_INTERRUPT,
            // Exits acknowledge the interrupt.
            interruption_info: VALID | u32::from(vector),
            ..L2Exit::default()
        };
        record(self.l2(), &exit);
        self.resume_l1(HostRouted::Async)
    }

    /// The host enters the L2 again: an event whose delivery was interrupted is injected again.
    pub fn enter_after_host(&mut self) -> L2Outcome {
        let vmcs = &mut self.l2().vmcs;
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
        if is_intercepted(self.l2(), info) {
            convert_to_exception_exit(self.l2(), info, error);
            return self.deliver(Delivery::plain(Status::L2_EXIT_HOST_ROUTED_ASYNC));
        }
        let vmcs = &mut self.l2().vmcs;
        let event = info & !UNDEFINED_INFO;
        vmcs.set(Field::EntryInterruptionInfo, u64::from(event));
        vmcs.set(Field::EntryErrorCode, u64::from(error));
        vmcs.set(
            Field::EntryInstructionLength,
            vmcs.get(Field::ExitInstructionLength),
        );
        L2Outcome::Resume
    }

    /// The L2 can't be entered again although L1 has changed nothing, which only the host or the
    /// processor can cause. Modules before the 2.0 line do not survive it.
    pub fn entry_failed(&mut self, by: EntryBy) -> L2Outcome {
        if !self.td.config.is_second() {
            return L2Outcome::Fatal(
                "an L2 that can't be entered again, which module 1.5 does not survive",
            );
        }
        if let Err(fatal) = self.store_state() {
            return fatal;
        }
        let rsp = self.l1_gprs.rsp;
        let (status, gprs) = failed_entry(self.l2(), rsp, by);
        *self.l1_gprs = Gprs {
            rax: status.0,
            ..gprs
        };
        self.vcpu.current_vm = None;
        L2Outcome::ToL1
    }

    fn l2(&mut self) -> &mut L2Vm {
        self.vcpu.l2_mut(self.vm)
    }

    fn deliver(&mut self, delivery: Delivery) -> L2Outcome {
        if let Err(fatal) = self.store_state() {
            return fatal;
        }
        let eeq_type = if delivery.eeq == Eeq::Pending { 6 } else { 0 };
        let rsp = self.l1_gprs.rsp;
        *self.l1_gprs = Gprs {
            rax: delivery.status.0,
            ..exit_image(self.l2(), rsp, eeq_type)
        };
        self.vcpu.current_vm = None;
        L2Outcome::ToL1
    }

    /// Stores the L2's general registers to the buffer that L1 named, whose page may have been
    /// removed.
    fn store_state(&mut self) -> Result<(), L2Outcome> {
        let l2 = self.vcpu.l2_mut(self.vm);
        let is_page = |gpa| self.td.pages.state(gpa) == PageState::Mapped;
        if !l2.state_gpa.is_some_and(is_page) {
            let why = "L2_ENTER_GUEST_STATE is no longer a private page";
            return Err(L2Outcome::Fatal(why));
        }
        store_guest_state(l2, self.machine);
        Ok(())
    }

    /// Injects #GP(0) after an exit that was handled inside. An event whose delivery was interrupted
    /// comes before it, and then there is no #GP [ABI L2 VM exits, injected exceptions].
    fn inject_gp(&mut self) -> L2Outcome {
        let vmcs = &mut self.l2().vmcs;
        if vmcs.get32(Field::IdtVectoringInfo) & VALID == 0 {
            let rflags = vmcs.get(Field::GuestRflags);
            vmcs.set(Field::GuestRflags, rflags | RFLAGS_RF);
            let info = VALID | HAS_ERROR_CODE | TYPE_EXCEPTION << 8 | VECTOR_GP;
            return self.inject(info, 0);
        }
        self.inject_again()
    }

    /// Injects the event whose delivery was interrupted by an exit that was handled inside, if any.
    fn inject_again(&mut self) -> L2Outcome {
        let vmcs = &self.l2().vmcs;
        let info = vmcs.get32(Field::IdtVectoringInfo);
        let error = vmcs.get32(Field::IdtVectoringErrorCode);
        if info & VALID == 0 {
            return L2Outcome::Resume;
        }
        self.inject(info & !UNDEFINED_INFO, error)
    }

    /// Injects an event, or turns it into an exit if L1 intercepts it.
    ///
    /// In the latter case the registers still describe the original exit, except for the error code;
    /// the VMCS describes the exception.
    fn inject(&mut self, info: u32, error: u32) -> L2Outcome {
        let l2 = self.l2();
        if !is_intercepted(l2, info) {
            l2.vmcs.set(Field::EntryInterruptionInfo, u64::from(info));
            l2.vmcs.set(Field::EntryErrorCode, u64::from(error));
            let length = l2.vmcs.get(Field::ExitInstructionLength);
            l2.vmcs.set(Field::EntryInstructionLength, length);
            return L2Outcome::Resume;
        }
        let status = Status::SUCCESS.with(l2.vmcs.get32(Field::ExitReason));
        let original = exit_image(l2, 0, 0);
        convert_to_exception_exit(l2, info, error);
        let outcome = self.deliver(Delivery::plain(status));
        if outcome == L2Outcome::ToL1 {
            self.l1_gprs.rcx = original.rcx;
            self.l1_gprs.r9 = (original.r9 & 0xffff_ffff) | u64::from(error) << 32;
        }
        outcome
    }

    /// Enters the L2 again, unless the exit that was handled had preempted a bus lock: the host gets
    /// an exit for that.
    fn resume(&mut self, exit: &L2Exit) -> L2Outcome {
        if exit.reason & BUS_LOCK_PREEMPTED == 0 {
            return L2Outcome::Resume;
        }
        let lock = L2Exit {
            reason: BUS_LOCK,
            ..L2Exit::default()
        };
        match self.store_state() {
            Ok(()) => L2Outcome::ToHost(self.to_host(&lock)),
            Err(fatal) => fatal,
        }
    }

    fn to_host(&self, exit: &L2Exit) -> TdExit {
        TdExit::Async {
            vm: self.vm,
            reason: exit.reason,
            interruption_info: exit.interruption_info,
        }
    }

    fn route(&mut self, exit: &L2Exit) -> Route {
        if exit.reason & CORRUPT_REASON_BITS != 0 {
            return Route::Fatal("exit reason with a flag that can not be");
        }
        let to_host = Route::ToHost(self.to_host(exit));
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
            75 if exit.qualification & NOTIFICATION_CONTEXT_INVALID != 0 => {
                Route::Fatal("notification exit of L2 with an invalid context")
            }
            3 | 5 | 6 | BUS_LOCK | 75 => to_host,
            28 => l2_cr::route(&self.td.config, self.vcpu.l2_mut(self.vm), exit),
            31 => self.route_msr(Access::Read),
            32 => self.route_msr(Access::Write),
            34 => Route::Fatal("MSR loading failed at L2 entry"),
            37 => Route::Fatal("monitor trap flag exit of L2, which no handler takes"),
            41 => Route::Fatal("machine check at L2 entry"),
            44 => Route::Fatal("APIC-access exit of L2, though the control is off"),
            48 => self.route_ept_violation(exit),
            49 if Gpa(exit.gpa).is_shared() => to_host,
            49 => Route::Fatal("EPT misconfiguration of a private page"),
            62 => Route::Fatal("page-modification log of a production TD is full"),
            66 => Route::Fatal("sub-page permission exit of L2"),
            77 => self.route_tdcall(),
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

    fn route_msr(&mut self, access: Access) -> Route {
        l2_msr::route(self.td, self.vcpu, self.vm, access, self.machine)
    }

    fn route_ept_violation(&self, exit: &L2Exit) -> Route {
        let gpa = Gpa(exit.gpa);
        if gpa.is_beyond_width() && exit.qualification & QUALIFICATION_GLA_VALID != 0 {
            return Route::L1;
        }
        let to_host = Route::ToHost(TdExit::EptViolation {
            gpa: Gpa(exit.gpa & !0xfff),
            vm: Some(self.vm),
            qualification: host_qualification(exit.qualification),
            eeq: Eeq::None,
        });
        if gpa.is_shared() || gpa.is_beyond_width() {
            return to_host;
        }
        match self.td.pages.state(gpa) {
            // Another processor may have granted the access meanwhile: the rights are not checked
            // again.
            PageState::Mapped => Route::L1,
            PageState::Pending => Route::ToL1(Status::SUCCESS, Eeq::Pending),
            PageState::Free | PageState::Shared => to_host,
        }
    }

    /// TDCALL in L2: only TDG.VP.VMCALL, and only if L1 allows it, is not L1's to handle.
    fn route_tdcall(&mut self) -> Route {
        let is_enabled = self.vcpu.l2_ctls(self.vm) & l2_ctls::ENABLE_TDVMCALL != 0;
        let l2 = self.vcpu.l2_mut(self.vm);
        if !is_enabled || l2.gprs.rax & 0xffff != 0 {
            return Route::L1;
        }
        if !is_64_bit(l2) {
            return Route::InjectGp;
        }
        let checked = if l2.gprs.rax == 0 {
            tdg_vp_vmcall::check_mask(self.td, l2.gprs.rcx)
        } else {
            Err(Status::invalid(Operand::Rax))
        };
        match checked {
            Ok(mask) => Route::ToHost(TdExit::L2Vmcall { vm: self.vm, mask }),
            Err(status) => {
                l2.gprs.rax = status.0;
                step_rip(l2);
                Route::Handled
            }
        }
    }
}

/// How an exit is presented to L1.
#[derive(Clone, Copy)]
struct Delivery {
    status: Status,
    eeq: Eeq,
}

impl Delivery {
    const fn plain(status: Status) -> Self {
        let eeq = Eeq::None;
        Self { status, eeq }
    }
}

/// Completes a TDG.VP.VMCALL of an L2 after the host has changed the selected registers in
/// [`L2Vm::gprs`].
pub fn l2_vmcall_done(vcpu: &mut Vcpu, vm: VmIndex) {
    let l2 = vcpu.l2_mut(vm);
    l2.gprs.rax = Status::SUCCESS.0;
    step_rip(l2);
}

/// Returns true if L1 intercepts an exception that is about to be injected. The filter of page faults
/// looks at the error code of the exit, not at that of the event.
fn is_intercepted(l2: &L2Vm, info: u32) -> bool {
    let filtered = l2.vmcs.get32(Field::ExitErrorCode);
    // CAST: the vector is the low byte.
    event_type(info) == TYPE_EXCEPTION && l2.vmcs.intercepts_exception(info as u8, filtered)
}

fn convert_to_exception_exit(l2: &mut L2Vm, info: u32, error: u32) {
    l2.vmcs.set(Field::ExitReason, 0);
    l2.vmcs.set(Field::ExitQualification, 0);
    l2.vmcs.set(Field::ExitInterruptionInfo, u64::from(info));
    l2.vmcs.set(Field::ExitErrorCode, u64::from(error));
}

#[cfg(test)]
mod tests;
