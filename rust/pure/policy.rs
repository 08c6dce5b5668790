// SPDX-License-Identifier: GPL-2.0
//! Which TDCALLs userspace may execute.
//!
//! An allow-list: leaves that read what is no secret, and leaves that act on an L2 VM or on memory
//! that is not the System RAM of this Linux. Nothing here may give userspace, or a lower VTL, a way
//! into VTL2. What is refused is answered as the TDX module would answer an invalid operand.

use super::field::{management, vmcs, FieldId, VmIndex, VpClass};
use super::leaf;
use super::status::{Operand, Status};
use super::tdcall::Registers;

/// Knows whose guest-physical memory is.
pub trait GuestMemory {
    /// Whether all of a range is memory of the TD and none of it is System RAM of this Linux.
    fn is_lower(&self, start_gpa: u64, len_bytes: u64) -> bool;
}

/// Where an allowed TDCALL may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// It acts on the TD; any CPU will do.
    Td,
    /// It acts on the VP of the CPU it is executed on.
    Vp,
}

type Verdict = Result<Scope, Operand>;

/// Decides about a request.
///
/// # Errors
///
/// The status to answer with instead of executing it.
pub fn decide(request: &Registers, memory: &impl GuestMemory) -> Result<Scope, Status> {
    let verdict = match request.rax {
        leaf::TDG_VM_RD | VM_RD_V1 | leaf::TDG_SYS_RD => Ok(Scope::Td),
        leaf::TDG_VP_RD => vp_field(FieldId(request.rdx)),
        leaf::TDG_VP_WR => vp_write(request, memory),
        leaf::TDG_MEM_PAGE_ACCEPT => mapping(request.rcx, 1, memory),
        leaf::TDG_MEM_PAGE_ATTR_WR => mapping(request.rcx, 2, memory),
        leaf::TDG_MEM_PAGE_ATTR_RD => lower(request.rcx & !0xfff, 0, Operand::Rcx, memory),
        _ => Err(Operand::Rax),
    };
    verdict.map_err(Status::operand_invalid)
}

const VM_RD_V1: u64 = leaf::TDG_VM_RD | leaf::VERSION_1;

/// Fields of L2 VMs, and nothing of L1's own state.
const fn vp_field(field: FieldId) -> Verdict {
    if !field.is_single() {
        return Err(Operand::Rdx);
    }
    match field.vp_class() {
        VpClass::L2Vmcs(_) | VpClass::L2MsrBitmaps(_) => Ok(Scope::Vp),
        VpClass::Management if is_per_l2_vm(field.code()) => Ok(Scope::Vp),
        VpClass::Management | VpClass::Other => Err(Operand::Rdx),
    }
}

/// L2_CTLS and TSC_DEADLINE of VM 1 to 3. Index 0 would be L1's.
const fn is_per_l2_vm(code: u64) -> bool {
    matches!(code.wrapping_sub(management::L2_CTLS), 1..=3)
        || matches!(code.wrapping_sub(management::TSC_DEADLINE), 1..=3)
}

fn vp_write(request: &Registers, memory: &impl GuestMemory) -> Verdict {
    let field = FieldId(request.rdx);
    let scope = vp_field(field)?;
    let VpClass::L2Vmcs(vm) = field.vp_class() else {
        return Ok(scope);
    };
    // An odd encoding names the high half of the same field.
    match field.code() & !1 {
        vmcs::VIRTUAL_APIC_ADDRESS => virtual_apic_address(vm, request, memory).map(|_| scope),
        vmcs::PRIMARY_CONTROLS if request.r8 & request.r9 & vmcs::PRIMARY_MTF != 0 => {
            Err(Operand::R8)
        }
        _ => Ok(scope),
    }
}

/// VM 1's virtual APIC page is the kernel's own and stays. Another VM's may be memory of a lower
/// VTL; in System RAM it would let the lower VTL write there.
fn virtual_apic_address(vm: VmIndex, request: &Registers, memory: &impl GuestMemory) -> Verdict {
    if vm == VmIndex::VM1 {
        return Err(Operand::Rdx);
    }
    // A partial mask would mix the address with bits that were not checked.
    if request.r9 != u64::MAX || request.r8 & 0xfff != 0 {
        return Err(Operand::R8);
    }
    lower(request.r8, 0, Operand::R8, memory)
}

/// Checks a mapping word: level in bits 2:0, aligned address in bits 51:12, the rest zero.
fn mapping(word: u64, max_level: u64, memory: &impl GuestMemory) -> Verdict {
    let level = word & 0x7;
    let gpa = word & !0x7;
    if level > max_level || gpa >> 52 != 0 || gpa & (level_bytes(level) - 1) != 0 {
        return Err(Operand::Rcx);
    }
    lower(gpa, level, Operand::Rcx, memory)
}

fn lower(gpa: u64, level: u64, operand: Operand, memory: &impl GuestMemory) -> Verdict {
    let len_bytes = level_bytes(level);
    if gpa.checked_add(len_bytes).is_none() || !memory.is_lower(gpa, len_bytes) {
        return Err(operand);
    }
    Ok(Scope::Td)
}

/// 4 KiB, 2 MiB, 1 GiB for levels 0, 1, 2.
const fn level_bytes(level: u64) -> u64 {
    match level {
        0 => 1 << 12,
        1 => 1 << 21,
        _ => 1 << 30,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
