// SPDX-License-Identifier: GPL-2.0
//! `MSHV_TDCALL`: consults `pure::policy`, pins what the TDX module will use, and executes.

use kernel::prelude::*;

use crate::cpu::guards::{MigrateOff, OnOneCpu, PreemptOff};
use crate::cpu::tdcall;
use crate::glue::abi::mshv_tdcall;
use crate::glue::ffi;
use crate::mem::own_page::PinnedPage;
use crate::mem::ranges::lower_memory;
use crate::mem::withdrawn::{self, Stay};
use crate::nodes::args::Argument;
use crate::nodes::commands;
use crate::nodes::device::VtlFile;
use crate::observe::event;
use crate::observe::stats::RefusalKind;
use crate::observe::trace;
use crate::pure::field::VmIndex;
use crate::pure::lower::LowerRange;
use crate::pure::policy::{self, Allowed, Scope};
use crate::pure::status::{Operand, Status};
use crate::pure::tdcall::{Registers, Tdcall};
use crate::vp::apic_pages::Replacement;
use crate::vp::machine::Machine;
use crate::vp::on_cpu::OnCpu;

/// `MSHV_TDCALL`.
///
/// # Errors
///
/// EFAULT only: a refusal is an answer in `rax`, as it would be from the TDX module.
pub(crate) fn tdcall(vtl: &VtlFile, argument: Argument) -> Result<isize> {
    let request = from_user(argument.read()?);
    let allowed = policy::decide(&request, lower_memory());
    let answer = match allowed.and_then(|allowed| execute(vtl, allowed)) {
        Ok(answer) => {
            event::tdcall_executed(vtl.machine().control(), &request, Status(answer.rax));
            answer
        }
        Err(status) => {
            refused(vtl.machine(), &request, status);
            Registers {
                rax: status.0,
                ..request
            }
        }
    };
    argument.write(&to_user(answer))?;
    Ok(0)
}

fn refused(machine: &Machine, request: &Registers, status: Status) {
    if let Some(vp) = machine.current_vp() {
        vp.stats.refused(RefusalKind::Tdcall);
    }
    trace::vtl_refused(commands::TDCALL, request.rax, status.0);
    event::tdcall_refused(machine.control(), request, status);
}

/// Executes a request, or refuses it because of the state of a page.
fn execute(vtl: &VtlFile, allowed: Allowed) -> Result<Registers, Status> {
    match allowed.scope() {
        Scope::Td => execute_anywhere(allowed),
        Scope::Memory(memory) => execute_about(memory, allowed),
        Scope::Withdraw(memory) => release(vtl, memory, allowed),
        Scope::Vp => execute_on_vp(vtl.machine(), allowed),
        Scope::VirtualApic(vm) => set_apic_page(vtl, vm, allowed),
    }
}

/// Executes a request that acts on the TD.
fn execute_anywhere(allowed: Allowed) -> Result<Registers, Status> {
    let call = allowed.ready(&mut tdcall::Instruction)?;
    Ok(tdcall::Instruction.tdcall(call))
}

/// Executes a request about memory. For a page that has been shared with the host, the TDX module
/// would ask the host for it, which ends the TD.
fn execute_about(memory: LowerRange, allowed: Allowed) -> Result<Registers, Status> {
    let stay = Stay::new();
    if stay.is_withdrawn(memory) {
        return Err(Status::operand_invalid(Operand::Rcx));
    }
    execute_anywhere(allowed)
}

/// Executes MEM.PAGE.RELEASE. Mappings of the pages raise SIGBUS from then on. Pages that the
/// kernel or the TDX module accesses by itself are not released.
fn release(vtl: &VtlFile, memory: LowerRange, allowed: Allowed) -> Result<Registers, Status> {
    let refused = Status::operand_invalid(Operand::Rcx);
    let call = allowed.ready(&mut tdcall::Instruction)?;
    let release = || withdrawn::release(memory, || tdcall::Instruction.tdcall(call));
    let pages = vtl.machine().lower_pages();
    let released = pages.unless_used(|page| memory.holds(page), release);
    released.ok_or(refused)?.map_err(|_| refused)
}

const NO_VP: Status = Status::operand_invalid(Operand::Rax);

/// Pins the caller to its CPU for the duration of a TDCALL. Taking that CPU offline, or changing
/// the caller's affinity, waits until the guard is dropped, so nothing may sleep while it exists.
///
/// # Errors
///
/// The status for a caller that may be migrated: it may be on another VP already than it expects.
fn stay_on_its_cpu() -> Result<MigrateOff, Status> {
    let stay = MigrateOff::new();
    if ffi::is_bound_to_cpu() {
        Ok(stay)
    } else {
        Err(NO_VP)
    }
}

/// Pins the page that must be the caller's, if the request names one.
fn pin(allowed: &Allowed) -> Result<Option<PinnedPage>, Status> {
    let Some(own) = allowed.own_page() else {
        return Ok(None);
    };
    let page = PinnedPage::of_caller(own.gpa);
    page.ok_or(Status::operand_invalid(own.operand)).map(Some)
}

/// Executes a request on the VP of the CPU to which the caller is pinned.
fn execute_on_vp(machine: &Machine, allowed: Allowed) -> Result<Registers, Status> {
    // The pages must not change until the TDX module has read them.
    let _page = pin(&allowed)?;
    let _no_change = allowed.lower_page().map(Stay::on_accepted).transpose()?;
    let _stay = stay_on_its_cpu()?;
    let alone = PreemptOff::new();
    let call = allowed.ready(&mut tdcall::Instruction)?;
    let on_cpu = OnCpu::new(machine, &alone);
    if let Some((on_cpu, vm)) = on_cpu.zip(allowed.look_at_entry()) {
        on_cpu.entry_check.look_again(vm, on_cpu, &alone);
    }
    if let Some((on_cpu, vm)) = on_cpu.zip(allowed.changes_intercepts()) {
        on_cpu.entry_check.ask_again(vm, on_cpu, &alone);
    }
    Ok(tdcall::Instruction.tdcall(call))
}

/// Executes a request that sets the virtual-APIC page of a VM.
fn set_apic_page(vtl: &VtlFile, vm: VmIndex, allowed: Allowed) -> Result<Registers, Status> {
    let page = pin(&allowed)?;
    // Dropped at the end of the call: to unpin a page may mean to sleep.
    let mut replacement = Replacement {
        vm,
        owner: vtl.owner(),
        page,
    };
    let replace = || {
        let cpu = stay_on_its_cpu()?.cpu();
        let vp = vtl.machine().vp(cpu).ok_or(NO_VP)?;
        let mut pages = vp.apic_pages.lock()?;
        let stay = stay_on_its_cpu()?;
        let on_cpu = OnCpu::new(vtl.machine(), &stay).ok_or(NO_VP)?;
        if stay.cpu() != cpu {
            return Err(NO_VP);
        }
        let call = allowed.ready(&mut tdcall::Instruction)?;
        let answer = pages.replace(&mut replacement, call, on_cpu, &stay)?;
        Ok((cpu, answer))
    };
    // A page in memory of a lower VTL must stay accepted for longer than the call.
    let lower_pages = vtl.machine().lower_pages();
    match allowed.lower_page() {
        Some(lower) => lower_pages.set(vm, lower, replace),
        None => lower_pages.unset(vm, replace),
    }
}

/// R10 and R11 are outputs: their contents do not reach the TDX module.
fn from_user(request: mshv_tdcall) -> Registers {
    let mshv_tdcall {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        r10_out: _,
        r11_out: _,
    } = request;
    Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        r10: 0,
        r11: 0,
    }
}

fn to_user(answer: Registers) -> mshv_tdcall {
    let Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        r10,
        r11,
    } = answer;
    mshv_tdcall {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        r10_out: r10,
        r11_out: r11,
    }
}
