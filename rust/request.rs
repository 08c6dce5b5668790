// SPDX-License-Identifier: GPL-2.0
//! Commands that carry an argument: copy in once, check the copy, act, copy out.

use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::abi::{mshv_tdcall, mshv_vtl_ram_disposition};
use crate::audit::event;
use crate::cpu::Machine;
use crate::mem::{registered, KernelMemory};
use crate::pure::policy::{self, Scope};
use crate::pure::ranges;
use crate::pure::status::Status;
use crate::pure::tdcall::{Registers, Tdcall};
use crate::pure::uapi;
use crate::stats::Refusal;
use crate::{irq, msr, tdcall, trace};

/// `MSHV_CHECK_EXTENSION`.
pub(crate) fn check_extension(argument: UserPtr) -> Result<isize> {
    let capability: u32 = UserSlice::new(argument, size_of::<u32>()).reader().read()?;
    let answer = uapi::check_extension(capability).ok_or(EOPNOTSUPP)?;
    Ok(answer as isize) // CAST: 0 or 1
}

/// `MSHV_ADD_VTL0_MEMORY`.
///
/// # Errors
///
/// EINVAL for what is no memory of a lower VTL, EOPNOTSUPP for shared memory, ENOSPC, ENOMEM.
pub(crate) fn add_vtl0_memory(argument: UserPtr) -> Result<isize> {
    let mshv_vtl_ram_disposition {
        start_pfn,
        last_pfn,
    } = UserSlice::new(argument, size_of::<mshv_vtl_ram_disposition>())
        .reader()
        .read()?;
    match ranges::Request::new(start_pfn, last_pfn).ok_or(EINVAL)? {
        ranges::Request::Private(frames) => registered::add(frames)?,
        ranges::Request::Shared(_) => return Err(EOPNOTSUPP),
    }
    Ok(0)
}

/// `MSHV_READ_VMX_CR4_FIXED1`.
///
/// # Errors
///
/// EFAULT. EIO: the TDX module does not let this Linux read the register.
pub(crate) fn read_cr4_fixed1(argument: UserPtr) -> Result<isize> {
    let value = msr::read_vmx_cr4_fixed1()?;
    UserSlice::new(argument, size_of::<u64>())
        .writer()
        .write(&value)?;
    Ok(0)
}

/// `MSHV_TDCALL`.
///
/// # Errors
///
/// EFAULT alone: a refusal is an answer, in `rax`, as it would be from the TDX module.
pub(crate) fn tdcall(machine: &Machine, argument: UserPtr) -> Result<isize> {
    let (mut reader, mut writer) =
        UserSlice::new(argument, size_of::<mshv_tdcall>()).reader_writer();
    let request = from_user(reader.read()?);
    let answer = match policy::decide(&request, &KernelMemory) {
        Ok(scope) => {
            let answer = execute(scope, request);
            event::tdcall_executed(&request, Status(answer.rax));
            answer
        }
        Err(status) => {
            refused(machine, &request, status);
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

fn execute(scope: Scope, request: Registers) -> Registers {
    match scope {
        Scope::Td => tdcall::Instruction.tdcall(request),
        Scope::Vp => {
            // The VP is that of the CPU: stay on one from the first to the last instruction.
            let _stay = irq::PreemptOff::new();
            tdcall::Instruction.tdcall(request)
        }
    }
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
