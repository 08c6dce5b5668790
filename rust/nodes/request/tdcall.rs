// SPDX-License-Identifier: GPL-2.0
//! `MSHV_TDCALL`: asks `pure::policy`, pins what the TDX module will use, executes.

use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::cpu::guards::{MigrateOff, OnOneCpu, PreemptOff};
use crate::cpu::tdcall;
use crate::glue::abi::mshv_tdcall;
use crate::glue::ffi;
use crate::mem::own_page::PinnedPage;
use crate::mem::ranges::lower_memory;
use crate::mem::withdrawn::{self, Stay};
use crate::nodes::device::VtlFile;
use crate::observe::event;
use crate::observe::stats::Refusal;
use crate::observe::trace;
use crate::pure::policy::{self, Allowed, Scope};
use crate::pure::status::{Operand, Status};
use crate::pure::tdcall::{Registers, Tdcall};
use crate::pure::uapi;
use crate::vp::apic_pages::Replacement;
use crate::vp::machine::Machine;
use crate::vp::on_cpu::OnCpu;

/// `MSHV_TDCALL`.
///
/// # Errors
///
/// EFAULT alone: a refusal is an answer, in `rax`, as it would be from the TDX module.
pub(crate) fn tdcall(vtl: &VtlFile, argument: UserPtr) -> Result<isize> {
    let (mut reader, mut writer) =
        UserSlice::new(argument, size_of::<mshv_tdcall>()).reader_writer();
    let request = from_user(reader.read()?);
    let allowed = policy::decide(&request, lower_memory());
    let answer = match allowed.and_then(|allowed| execute(vtl, allowed)) {
        Ok(answer) => {
            event::tdcall_executed(&request, Status(answer.rax));
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
    writer.write(&to_user(answer))?;
    Ok(0)
}

fn refused(machine: &Machine, request: &Registers, status: Status) {
    if let Some(vp) = machine.current_vp() {
        vp.stats.refused(Refusal::Tdcall);
    }
    trace::vtl_refused(uapi::TDCALL, request.rax, status.0);
    event::tdcall_refused(request, status);
}

/// Executes a request, or refuses it after all.
fn execute(vtl: &VtlFile, allowed: Allowed) -> Result<Registers, Status> {
    match allowed.scope() {
        Scope::Td => execute_anywhere(allowed),
        Scope::Withdraw { gpa, len_bytes } => release(vtl, gpa, len_bytes, allowed),
        Scope::Vp | Scope::VirtualApic(_) => execute_on_vp(vtl, allowed),
    }
}

/// Executes MEM.PAGE.RELEASE. Whoever has the pages mapped gets SIGBUS from then on; pages that the
/// kernel or the TDX module reaches by itself stay.
fn release(vtl: &VtlFile, gpa: u64, len_bytes: u64, allowed: Allowed) -> Result<Registers, Status> {
    let refused = Status::operand_invalid(Operand::Rcx);
    let call = allowed.ready(&mut tdcall::Instruction)?;
    let release = || withdrawn::release(gpa, len_bytes, || tdcall::Instruction.tdcall(call));
    let pages = vtl.machine().lower_pages();
    let released = pages.unless_used(|page| page.wrapping_sub(gpa) < len_bytes, release);
    released.ok_or(refused)?.map_err(|_| refused)
}

/// Executes a request on the VP of the CPU that the caller can't leave.
fn execute_on_vp(vtl: &VtlFile, allowed: Allowed) -> Result<Registers, Status> {
    // Looking a page up may wait; whoever changes the thread's CPUs must not wait for that.
    let page = match allowed.own_page() {
        Some(own) => {
            let page = PinnedPage::of_caller(own.gpa);
            Some(page.ok_or(Status::operand_invalid(own.operand))?)
        }
        None => None,
    };
    // An APIC page has a check of its own, which holds for longer.
    let _no_change = match allowed.lower_page() {
        Some(list) if allowed.scope() == Scope::Vp => Some(Stay::on_accepted(list)?),
        _ => None,
    };
    let stay = MigrateOff::new();
    // What the caller means by "the VP" may have changed on the way here, unless it can't move.
    if !ffi::is_bound_to_cpu() {
        return Err(Status::operand_invalid(Operand::Rax));
    }
    let Scope::VirtualApic(vm) = allowed.scope() else {
        let alone = PreemptOff::new();
        let call = allowed.ready(&mut tdcall::Instruction)?;
        let on_cpu = OnCpu::new(vtl.machine(), &alone);
        if let Some((on_cpu, vm)) = on_cpu.zip(allowed.look_at_entry()) {
            on_cpu.entry_check.look_again(vm, on_cpu, &alone);
        }
        // A pinned page is let go of when the TDX module has read it.
        return Ok(tdcall::Instruction.tdcall(call));
    };
    let call = allowed.ready(&mut tdcall::Instruction)?;
    let on_cpu = OnCpu::new(vtl.machine(), &stay).ok_or(Status::operand_invalid(Operand::Rax))?;
    let replacement = Replacement {
        vm,
        owner: vtl.owner(),
        page,
    };
    let pages = &on_cpu.vp().apic_pages;
    let replace = || pages.replace(replacement, call, on_cpu, &stay);
    let lower_pages = vtl.machine().lower_pages();
    if let Some(lower) = allowed.lower_page() {
        return lower_pages.set(stay.cpu(), vm, lower, replace);
    }
    lower_pages.unset(stay.cpu(), vm, replace)
}

/// Executes a request that acts on the TD. About a page that the host has been given the TDX module
/// would ask the host, which ends the TD.
fn execute_anywhere(allowed: Allowed) -> Result<Registers, Status> {
    let call = allowed.ready(&mut tdcall::Instruction)?;
    let Some((gpa, len_bytes)) = allowed.subject() else {
        return Ok(tdcall::Instruction.tdcall(call));
    };
    let stay = Stay::new();
    if stay.is_withdrawn(gpa >> PAGE_SHIFT, len_bytes) {
        return Err(Status::operand_invalid(Operand::Rcx));
    }
    Ok(tdcall::Instruction.tdcall(call))
}

/// R10 and R11 are outputs: whatever stands there does not reach the TDX module.
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
