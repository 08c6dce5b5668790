// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! L2: entering a VM of the TD, and handling its exits.
//!
//! The VMCS in `tdx_model` is the only source of truth about an L2. Each run goes [`load`] (VMCS to
//! VMCB) → VMRUN → [`store`] (back) → [`translate`] (the exit in terms of VMX) →
//! `tdx_model::l2_exit`, which decides who handles it.

mod cr;
mod event;
mod load;
mod msr;
mod stale;
mod store;
mod translate;
mod undefined;
mod vapic;

use crate::console::End;
use crate::extra_msrs::XSS;
use crate::host;
use crate::l1;
use crate::machine::Processor;
use crate::run::end_by_l1;
use crate::setup::World;
use crate::vp::Vp;
use svm::vmx_names::reason;
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::gprs::Gprs;
use tdx_model::l2_exit::{EntryBy, HostRouted, L2Call, L2Exit, L2Outcome};
use tdx_model::ve::TdExit;

/// Vector of the interrupt by which the host takes the processor back: Linux's timer.
const HOST_VECTOR: u8 = 0xec;
/// Vector by which the host tells a processor that an interrupt is posted for L1: Linux's.
const NOTIFICATION_VECTOR: u8 = 0xf2;

/// What an exit of the hardware turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An exit that a VMX processor would have had too.
    Exit(L2Exit),
    /// An exit that only concerns the emulator; the L2 is resumed.
    Internal,
}

/// TDG.VP.ENTER has passed its checks: switches the processor to the L2.
pub fn enter(vp: &mut Vp, vm: VmIndex) {
    vp.switch_to_l2(vm);
    vp.l2_mut(vm).timer_end = timer_end(vp, vm);
}

/// When the VMX-preemption timer ends the run that begins now, if L1 has set a deadline.
fn timer_end(vp: &Vp, vm: VmIndex) -> Option<u64> {
    vp.model.tsc_deadline(vm)?;
    let (now, rate) = (tdx_model_tsc(vp), vp.platform.config.timer_rate);
    let count = vp.model.preemption_timer(vm, now, rate)?;
    Some(now.saturating_add(count << rate))
}

/// Runs an L2 once and deals with its exit.
pub fn step(vp: &mut Vp, vm: VmIndex) {
    // The event of an entry precedes an interrupt of the host.
    if !event::has_entry_event(vp.model, vm) && host::takes_processor(vp) {
        let (outcome, gprs) = with_model(vp, vm, |mut call| call.host_interrupt(HOST_VECTOR));
        return act(vp, vm, outcome, &gprs);
    }
    if let Some(exit) = before_entry(vp, vm) {
        return exit_to_module(vp, vm, &exit);
    }
    load::load(vp, vm);
    let exit = vp.run_l2(vm);
    store::store(vp, vm);
    match translate::translate(vp, vm, exit) {
        Verdict::Exit(exit) => exit_to_module(vp, vm, &exit),
        Verdict::Internal => event::deliver_again(vp, vm),
    }
}

/// Exits that happen before the first instruction.
fn before_entry(vp: &mut Vp, vm: VmIndex) -> Option<L2Exit> {
    let controls = vp.model.l2(vm).vmcs.get32(Field::PrimaryControls);
    if controls & load::primary::MONITOR_TRAP != 0 {
        // Whatever the L2 does first, it would not get further.
        return Some(plain_exit(vp, vm, reason::MONITOR_TRAP_FLAG));
    }
    let timer_end = vp.l2_ref(vm).timer_end;
    if timer_end.is_some_and(|end| tdx_model_tsc(vp) >= end) {
        if event::has_entry_event(vp.model, vm) {
            // The event is delivered first; the kick ends the run right after it.
            vp.kick_self();
            return None;
        }
        return Some(plain_exit(vp, vm, reason::PREEMPTION_TIMER));
    }
    event::nmi_window(vp, vm)
}

fn tdx_model_tsc(vp: &Vp) -> u64 {
    crate::cpu::tsc::now().wrapping_add(vp.clock.offset())
}

/// An exit that carries nothing but its reason.
fn plain_exit(vp: &Vp, vm: VmIndex, reason: u32) -> L2Exit {
    let cpl = vp.l2_ref(vm).guest.vmcb.save.cpl;
    L2Exit {
        reason,
        cpl,
        ..L2Exit::default()
    }
}

/// Calls the model with everything it needs.
fn with_model(
    vp: &mut Vp,
    vm: VmIndex,
    decide: impl FnOnce(L2Call<'_, '_, Processor<'_>>) -> L2Outcome,
) -> (L2Outcome, Gprs) {
    let mut gprs = l1::gprs(vp);
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    let mut processor = Processor::new(vp, spaces);
    let outcome = decide(L2Call {
        td,
        vcpu: vp.model,
        vm,
        l1_gprs: &mut gprs,
        machine: &mut processor,
    });
    let xss = processor.xss;
    processor.finish();
    drop(world);
    if let Some(xss) = xss {
        // The model has checked it.
        let _ = vp.extra_msrs.write(XSS, xss);
    }
    (outcome, gprs)
}

fn exit_to_module(vp: &mut Vp, vm: VmIndex, exit: &L2Exit) {
    let (outcome, gprs) = with_model(vp, vm, |mut call| call.exit(exit));
    act_or_fail(vp, vm, outcome, &gprs, EntryBy::Module);
}

/// Acts, unless L1 asked for an entry by the host or the TDX module to fail.
fn act_or_fail(vp: &mut Vp, vm: VmIndex, outcome: L2Outcome, l1_gprs: &Gprs, by: EntryBy) {
    if outcome != L2Outcome::Resume || !host::debug_port::fails_entry() {
        return act(vp, vm, outcome, l1_gprs);
    }
    let (outcome, gprs) = with_model(vp, vm, |mut call| call.entry_failed(by));
    act(vp, vm, outcome, &gprs);
}

fn act(vp: &mut Vp, vm: VmIndex, outcome: L2Outcome, l1_gprs: &Gprs) {
    match outcome {
        L2Outcome::ToL1 => {
            vp.switch_to_l1(vm);
            l1::complete_tdcall(vp, l1_gprs);
        }
        L2Outcome::Resume => event::deliver_again(vp, vm),
        L2Outcome::ToHost(exit) => to_host(vp, vm, exit),
        L2Outcome::Fatal(why) => {
            end_by_l1(End::L1, format_args!("the TDX module ends the TD: {why}"))
        }
    }
}

/// A TD exit from an L2: the host enters it again, or resumes L1.
fn to_host(vp: &mut Vp, vm: VmIndex, exit: TdExit) {
    let kind = match exit {
        TdExit::L2Vmcall { .. } => HostRouted::Tdvmcall,
        TdExit::EptViolation { .. } | TdExit::Async { .. } => HostRouted::Async,
    };
    let (outcome, gprs) = match host::l2_td_exit(vp, vm, exit) {
        host::Resume::L2 => with_model(vp, vm, |mut call| call.enter_after_host()),
        host::Resume::L1 => with_model(vp, vm, |mut call| call.resume_l1(kind)),
    };
    act_or_fail(vp, vm, outcome, &gprs, EntryBy::Host);
}
