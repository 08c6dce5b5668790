// SPDX-License-Identifier: GPL-2.0
//! Which TDCALLs userspace may execute.
//!
//! An allow-list: leaves that read what is not secret, and leaves that act on an L2 VM, on memory
//! of the lower VTLs, or on a page of the caller. Nothing here may give userspace, or a lower VTL,
//! a way into VTL2. A refused request is answered with the status with which the TDX module answers
//! an invalid operand.

use super::field::{management, FieldId, VmIndex, VpClass};
use super::leaf;
use super::lower::{LowerMemory, LowerRange};
use super::passed_msrs;
use super::status::{Operand, Status};
use super::tdcall::{tdg_vm_rd, tdg_vp_rd, Call, Registers, Tdcall, NOWHERE};
use super::vmcs_write::{check_write, FieldWrite, Rule};

/// Where an allowed TDCALL may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// It acts on the TD, and may run on any CPU.
    Td,
    /// As `Td`, on memory of lower VTLs, which must not be shared with the host.
    Memory(LowerRange),
    /// As `Memory`, and it takes the memory away, so nobody else may use it meanwhile.
    Withdraw(LowerRange),
    /// It acts on the VP of the CPU that executes it: only for a thread that is pinned to that CPU.
    Vp,
    /// As `Vp`, and it sets the virtual-APIC page of a VM.
    VirtualApic(VmIndex),
}

/// A TDCALL of userspace that [`decide`] allows. No other request becomes a [`Call`].
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    request: Registers,
    permit: Permit,
}

impl Allowed {
    /// Where it may run.
    pub const fn scope(&self) -> Scope {
        self.permit.scope
    }

    /// A page outside the memory of the lower VTLs. It must be the caller's, and must stay pinned
    /// as long as the TDX module uses it.
    pub const fn own_page(&self) -> Option<OwnPage> {
        self.permit.own_page
    }

    /// A page in memory of a lower VTL that the TDX module will use: it must be accepted, and stay
    /// so.
    pub const fn lower_page(&self) -> Option<LowerPage> {
        self.permit.lower_page
    }

    /// The VM whose next entry has to check its VMCS.
    pub const fn look_at_entry(&self) -> Option<VmIndex> {
        self.permit.look_at_entry
    }

    /// The VM whose intercepts change.
    pub const fn changes_intercepts(&self) -> Option<VmIndex> {
        self.permit.changes_intercepts
    }

    /// Makes the call that can be executed. If the write may not change all bits that it names,
    /// reads the field first and compares those bits; so this must run on the CPU that executes the
    /// call.
    ///
    /// # Errors
    ///
    /// The status to answer with: that R8 is invalid, or that of the read.
    pub fn ready(self, tdcall: &mut impl Tdcall) -> Result<Call, Status> {
        let Self { request, permit } = self;
        if permit.kept == 0 {
            return Ok(Call::allowed(request));
        }
        let field = FieldId(request.rdx);
        let old = match request.rax {
            leaf::TDG_VM_WR => tdg_vm_rd(tdcall, field),
            _ => tdg_vp_rd(tdcall, field),
        }?;
        if (old ^ request.r8) & permit.kept == 0 {
            Ok(Call::allowed(request))
        } else {
            Err(Status::operand_invalid(Operand::R8))
        }
    }
}

/// The conditions under which a call is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Permit {
    scope: Scope,
    own_page: Option<OwnPage>,
    lower_page: Option<LowerPage>,
    /// Bits that the write names but may not change: the field must already hold them.
    kept: u64,
    look_at_entry: Option<VmIndex>,
    changes_intercepts: Option<VmIndex>,
}

/// A page that must be the caller's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnPage {
    /// Its address.
    pub gpa: u64,
    /// The operand to report as invalid if the page isn't the caller's.
    pub operand: Operand,
}

/// A page in memory of a lower VTL that must be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowerPage {
    /// The page.
    pub page: LowerRange,
    /// The operand to report as invalid if the page isn't accepted.
    pub operand: Operand,
}

/// How the operands of a leaf are checked.
#[derive(Clone, Copy, Debug)]
enum LeafCheck {
    /// Not at all.
    Nothing,
    /// RDX names a field of an L2 VM.
    VpField,
    /// As `VpField`, and the value can do no harm.
    VpWrite,
    /// RDX is TD_CTLS, of which one bit may change.
    TdWrite,
    /// RCX is a mapping of a lower VTL's memory.
    Mapping {
        /// Highest page size.
        max_level: u64,
    },
    /// RCX is a mapping of a lower VTL's memory, which is removed.
    Release,
    /// RCX is an address in a lower VTL's memory.
    Page,
    /// RDX is a linear address, or a list of them in a lower VTL's or the caller's memory.
    LinearAddresses,
}

/// An allowed leaf. A leaf that is not in [`POLICY`] is refused.
pub struct LeafRule {
    /// RAX: number and version.
    pub leaf: u64,
    /// Its name in the specification.
    pub name: &'static str,
    check: LeafCheck,
    /// What is allowed, and why that gives no way into VTL2.
    pub reason: &'static str,
}

/// The whole policy: one line for each leaf that userspace may execute.
#[rustfmt::skip]
pub static POLICY: [LeafRule; 11] = [
    LeafRule { leaf: leaf::TDG_MEM_PAGE_ACCEPT, name: "MEM.PAGE.ACCEPT", check: LeafCheck::Mapping { max_level: 1 },
        reason: "in the list of lower-VTL memory: this Linux keeps nothing there" },
    LeafRule { leaf: leaf::TDG_VM_RD, name: "VM.RD", check: LeafCheck::Nothing,
        reason: "every field: facts about the TD, no secret of VTL2" },
    LeafRule { leaf: leaf::TDG_VM_RD | leaf::VERSION_1, name: "VM.RD.1", check: LeafCheck::Nothing,
        reason: "every field: as version 0" },
    LeafRule { leaf: leaf::TDG_VM_WR, name: "VM.WR", check: LeafCheck::TdWrite,
        reason: "TD_CTLS.ENABLE_HW_SEAL_KEYS: gives keys, takes nothing" },
    LeafRule { leaf: leaf::TDG_VP_RD, name: "VP.RD", check: LeafCheck::VpField,
        reason: "VMCS and MSR bitmaps of L2 VMs, L2_CTLS, TSC_DEADLINE: nothing of VTL2" },
    LeafRule { leaf: leaf::TDG_VP_WR, name: "VP.WR", check: LeafCheck::VpWrite,
        reason: "as VP.RD; fields and values that can't end the TD; MSRs pass only if switched; APIC page of VM 2, 3: lower VTLs' or own, pinned" },
    LeafRule { leaf: leaf::TDG_SYS_RD, name: "SYS.RD", check: LeafCheck::Nothing,
        reason: "every field: facts about the TDX module" },
    LeafRule { leaf: leaf::TDG_MEM_PAGE_ATTR_RD, name: "MEM.PAGE.ATTR.RD", check: LeafCheck::Page,
        reason: "in the list of lower-VTL memory: elsewhere the host might end the TD" },
    LeafRule { leaf: leaf::TDG_MEM_PAGE_ATTR_WR, name: "MEM.PAGE.ATTR.WR", check: LeafCheck::Mapping { max_level: 2 },
        reason: "in the list of lower-VTL memory: a right elsewhere would open VTL2 to an L2 VM" },
    LeafRule { leaf: leaf::TDG_MEM_PAGE_RELEASE, name: "MEM.PAGE.RELEASE", check: LeafCheck::Release,
        reason: "in the list of lower-VTL memory, no VP's APIC page, not registered: as if never given" },
    LeafRule { leaf: leaf::TDG_VP_INVGLA, name: "VP.INVGLA", check: LeafCheck::LinearAddresses,
        reason: "translations of L2 VMs on this CPU; a list in memory of lower VTLs or the caller's, pinned" },
];

type Verdict = Result<Permit, Operand>;

const fn permit(scope: Scope) -> Permit {
    Permit {
        scope,
        own_page: None,
        lower_page: None,
        kept: 0,
        look_at_entry: None,
        changes_intercepts: None,
    }
}

/// Decides about a request.
///
/// # Errors
///
/// The status to answer with instead of executing it.
pub fn decide(request: &Registers, memory: &LowerMemory) -> Result<Allowed, Status> {
    let entry = POLICY.iter().find(|entry| entry.leaf == request.rax);
    let about = |range| permit(Scope::Memory(range));
    let verdict = match entry.map(|entry| entry.check) {
        Some(LeafCheck::Nothing) => Ok(permit(Scope::Td)),
        Some(LeafCheck::VpField) => vp_field(FieldId(request.rdx)).map(permit),
        Some(LeafCheck::VpWrite) => vp_write(request, memory),
        Some(LeafCheck::TdWrite) => td_write(request),
        Some(LeafCheck::Mapping { max_level }) => {
            mapping(request.rcx, max_level, memory).map(about)
        }
        Some(LeafCheck::Release) => {
            mapping(request.rcx, 1, memory).map(|range| permit(Scope::Withdraw(range)))
        }
        Some(LeafCheck::Page) => lower(request.rcx & !0xfff, 0, memory).map(about),
        Some(LeafCheck::LinearAddresses) => linear_addresses(request, memory),
        None => Err(Operand::Rax),
    };
    let request = *request;
    verdict
        .map(|permit| Allowed { request, permit })
        .map_err(Status::operand_invalid)
}

/// Linear addresses in a register, or in a list, which the TDX module reads with VTL2's rights.
fn linear_addresses(request: &Registers, memory: &LowerMemory) -> Verdict {
    const IS_LIST: u64 = 1 << 0;
    const LIST_PAGE: u64 = 0x000f_ffff_ffff_f000;
    if request.rcx & IS_LIST == 0 {
        return Ok(permit(Scope::Vp));
    }
    lower_or_own(request.rdx & LIST_PAGE, Scope::Vp, Operand::Rdx, memory)
}

/// A page in memory of a lower VTL, or else one of the caller.
fn lower_or_own(gpa: u64, scope: Scope, operand: Operand, memory: &LowerMemory) -> Verdict {
    if gpa >> 52 != 0 {
        return Err(operand);
    }
    Ok(match memory.range(gpa, level_bytes(0)) {
        Some(page) => Permit {
            lower_page: Some(LowerPage { page, operand }),
            ..permit(scope)
        },
        None => Permit {
            own_page: Some(OwnPage { gpa, operand }),
            ..permit(scope)
        },
    })
}

/// Fields of L2 VMs, and nothing of L1's own state.
const fn vp_field(field: FieldId) -> Result<Scope, Operand> {
    if !field.is_single() {
        return Err(Operand::Rdx);
    }
    match field.vp_class() {
        VpClass::L2Vmcs(_) | VpClass::L2MsrBitmaps(_) => Ok(Scope::Vp),
        VpClass::Management if is_per_l2_vm(field.code()) => Ok(Scope::Vp),
        VpClass::Management | VpClass::Other => Err(Operand::Rdx),
    }
}

/// L2_CTLS and TSC_DEADLINE of VM 1 to 3. Element 0 is L1's.
const fn is_per_l2_vm(code: u64) -> bool {
    is_l2_ctls(code) || matches!(code.wrapping_sub(management::TSC_DEADLINE), 1..=3)
}

fn vp_write(request: &Registers, memory: &LowerMemory) -> Verdict {
    let field = FieldId(request.rdx);
    let scope = vp_field(field)?;
    let vm = match field.vp_class() {
        VpClass::L2Vmcs(vm) => vm,
        VpClass::L2MsrBitmaps(_)
            if !passed_msrs::may_clear(field.code(), request.r8, request.r9) =>
        {
            return Err(Operand::R8);
        }
        VpClass::L2MsrBitmaps(vm) => {
            return Ok(Permit {
                changes_intercepts: Some(vm),
                ..permit(scope)
            });
        }
        VpClass::Management
            if is_l2_ctls(field.code()) && request.r8 & request.r9 & !L2_CTLS != 0 =>
        {
            return Err(Operand::R8);
        }
        _ => return Ok(permit(scope)),
    };
    let FieldWrite { rule, kept, look } = check_write(request)?;
    let place = match rule {
        Rule::ApicPage => virtual_apic_address(vm, request, memory)?,
        _ => permit(scope),
    };
    Ok(Permit {
        kept,
        look_at_entry: look.is_at_entry().then_some(vm),
        changes_intercepts: look.is_of_intercepts().then_some(vm),
        ..place
    })
}

/// Bits of L2_CTLS that a lower VTL may have: memory shared with the host, and TDVMCALLs.
/// Exceptions that the TDX module raises instead of exits are not among them, because nothing
/// handles them.
const L2_CTLS: u64 = 0x3;

const fn is_l2_ctls(code: u64) -> bool {
    matches!(code.wrapping_sub(management::L2_CTLS), 1..=3)
}

/// One bit of one field. A mask with further bits is allowed if those keep their values.
const fn td_write(request: &Registers) -> Verdict {
    const ENABLE_HW_SEAL_KEYS: u64 = 1 << 4;
    if !FieldId(request.rdx).is_same_of_td(FieldId::TD_CTLS) {
        return Err(Operand::Rdx);
    }
    Ok(Permit {
        kept: request.r9 & !ENABLE_HW_SEAL_KEYS,
        ..permit(Scope::Td)
    })
}

/// The virtual-APIC page of VM 1 is the kernel's own and can't be replaced. That of another VM may
/// be memory of a lower VTL or a page of the caller; with other System RAM the lower VTL could
/// write there.
fn virtual_apic_address(vm: VmIndex, request: &Registers, memory: &LowerMemory) -> Verdict {
    if vm == VmIndex::VM1 {
        return Err(Operand::Rdx);
    }
    // Page 0 stands for "no page".
    if request.r8 & 0xfff != 0 || request.r8 == NOWHERE {
        return Err(Operand::R8);
    }
    lower_or_own(request.r8, Scope::VirtualApic(vm), Operand::R8, memory)
}

/// Checks a mapping word: level in bits 2:0, aligned address in bits 51:12, other bits zero.
fn mapping(word: u64, max_level: u64, memory: &LowerMemory) -> Result<LowerRange, Operand> {
    let level = word & 0x7;
    let gpa = word & !0x7;
    if level > max_level || gpa & (level_bytes(level) - 1) != 0 {
        return Err(Operand::Rcx);
    }
    lower(gpa, level, memory)
}

fn lower(gpa: u64, level: u64, memory: &LowerMemory) -> Result<LowerRange, Operand> {
    // Bits above 51 must be zero: no range contains such an address.
    let range = memory.range(gpa, level_bytes(level));
    range.ok_or(Operand::Rcx)
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
