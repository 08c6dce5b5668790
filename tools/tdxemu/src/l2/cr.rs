// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Control-register accesses of an L2: which of them VMX would have exited for, and the others
//! carried out. [SDM3 25.1.3, 25.3]

use super::load::primary;
use super::{Verdict, event, msr, plain_exit, vapic};
use crate::cpu::msr::{EFER_LMA, EFER_LME};
use crate::fetch::{decode, translate};
use crate::vp::Vp;
use svm::insn::{Insn, Map, ModRm, Mode};
use svm::vmx_names::reason;
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::l2_exit::L2Exit;

const VECTOR_UD: u8 = 6;
const VECTOR_GP: u8 = 13;
const VECTOR_PF: u8 = 14;

const CR0_PE: u64 = 1;
const CR0_TS: u64 = 1 << 3;
const CR0_ET: u64 = 1 << 4;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// Entry control: IA-32e mode guest.
const ENTRY_IA32E: u64 = 1 << 9;

/// Access type in the qualification.
const MOV_TO: u64 = 0;
const MOV_FROM: u64 = 1;
const CLTS: u64 = 2;
const LMSW: u64 = 3;

/// Deals with an intercepted access. SVM says little about it, so the instruction is decoded.
pub fn access(vp: &mut Vp, vm: VmIndex) -> Verdict {
    // If the code changed after the exit, let the L2 execute it again.
    let Some(insn) = decode(&vp.l2_ref(vm).guest, &vp.platform.memory) else {
        return Verdict::Internal;
    };
    match (insn.map, insn.opcode, insn.modrm) {
        (Map::Map0f, 0x06, _) => clts(vp, vm, &insn),
        (Map::Map0f, 0x20, Some(modrm)) => mov_from(vp, vm, &insn, modrm.reg, modrm.rm),
        (Map::Map0f, 0x22, Some(modrm)) => mov_to(vp, vm, &insn, modrm.reg, modrm.rm),
        (Map::Map0f, 0x01, Some(modrm)) if modrm.extension() == 4 => smsw(vp, vm, &insn, modrm),
        (Map::Map0f, 0x01, Some(modrm)) if modrm.extension() == 6 => lmsw(vp, vm, &insn, modrm),
        _ => Verdict::Internal,
    }
}

fn register(vp: &Vp, vm: VmIndex, number: u8) -> u64 {
    let guest = &vp.l2_ref(vm).guest;
    let value = guest.gprs.get(number);
    if guest.is_64_bit() {
        value
    } else {
        value & 0xffff_ffff
    }
}

/// Registers live in the model after a run; RSP is a field there.
fn set_register(vp: &mut Vp, vm: VmIndex, number: u8, value: u64) {
    const RSP: u8 = 4;
    let l2 = vp.model.l2_mut(vm);
    l2.gprs.set(number, value);
    if number == RSP {
        l2.vmcs.set(Field::GuestRsp, value);
    }
}

fn exit(vp: &Vp, vm: VmIndex, insn: &Insn, qualification: u64) -> Verdict {
    Verdict::Exit(L2Exit {
        qualification,
        instruction_length: u32::from(insn.len_bytes),
        ..plain_exit(vp, vm, reason::CR_ACCESS)
    })
}

const fn qualification(cr: u8, kind: u64, gpr: u8) -> u64 {
    cr as u64 | (kind << 4) | ((gpr as u64) << 8)
}

fn done(vp: &mut Vp, vm: VmIndex, insn: &Insn) -> Verdict {
    msr::skip(vp, vm, u32::from(insn.len_bytes));
    Verdict::Internal
}

fn mov_from(vp: &mut Vp, vm: VmIndex, insn: &Insn, cr: u8, gpr: u8) -> Verdict {
    let vmcs = &vp.model.l2(vm).vmcs;
    let controls = vmcs.get32(Field::PrimaryControls);
    let value = match cr {
        0 => vmcs.visible_cr0(),
        2 => vp.l2_ref(vm).guest.vmcb.save.cr2,
        3 if controls & primary::CR3_STORE != 0 => {
            return exit(vp, vm, insn, qualification(cr, MOV_FROM, gpr));
        }
        3 => vmcs.get(Field::GuestCr3),
        4 => vmcs.visible_cr4(),
        8 if controls & primary::CR8_STORE != 0 => {
            return exit(vp, vm, insn, qualification(cr, MOV_FROM, gpr));
        }
        8 => vapic::read_cr8(vp, vm),
        _ => return event::raise(vp, vm, VECTOR_UD, 0),
    };
    let value = if vp.l2_ref(vm).guest.is_64_bit() {
        value
    } else {
        value & 0xffff_ffff
    };
    set_register(vp, vm, gpr, value);
    done(vp, vm, insn)
}

fn mov_to(vp: &mut Vp, vm: VmIndex, insn: &Insn, cr: u8, gpr: u8) -> Verdict {
    let value = register(vp, vm, gpr);
    let vmcs = &vp.model.l2(vm).vmcs;
    let (mask, shadow) = match cr {
        0 => (vmcs.effective_cr0_mask(), vmcs.effective_cr0_shadow()),
        4 => (vmcs.effective_cr4_mask(), vmcs.effective_cr4_shadow()),
        3 if is_cr3_target(vp, vm, value) => {
            vp.model
                .l2_mut(vm)
                .vmcs
                .set(Field::GuestCr3, value & !(1 << 63));
            return done(vp, vm, insn);
        }
        8 if vmcs.get32(Field::PrimaryControls) & primary::CR8_LOAD == 0 => {
            if value > 15 {
                return event::raise(vp, vm, VECTOR_GP, 0);
            }
            let _ = done(vp, vm, insn);
            return vapic::write_tpr(vp, vm, (value as u8) << 4); // CAST: four bits
        }
        _ => return exit(vp, vm, insn, qualification(cr, MOV_TO, gpr)),
    };
    if (value ^ shadow) & mask != 0 {
        return exit(vp, vm, insn, qualification(cr, MOV_TO, gpr));
    }
    let is_written = match cr {
        0 => write_cr0(vp, vm, value, mask),
        _ => write_cr4(vp, vm, value, mask),
    };
    if is_written {
        done(vp, vm, insn)
    } else {
        event::raise(vp, vm, VECTOR_GP, 0)
    }
}

fn is_cr3_target(vp: &Vp, vm: VmIndex, value: u64) -> bool {
    let vmcs = &vp.model.l2(vm).vmcs;
    let targets = [
        Field::Cr3Target0,
        Field::Cr3Target1,
        Field::Cr3Target2,
        Field::Cr3Target3,
    ];
    let count = vmcs.get(Field::Cr3TargetCount).min(4) as usize; // CAST: at most 4
    targets
        .iter()
        .take(count)
        .any(|field| vmcs.get(*field) == value)
}

/// A write that VMX allows: only bits outside the mask change. Returns false for #GP.
fn write_cr0(vp: &mut Vp, vm: VmIndex, value: u64, mask: u64) -> bool {
    let is_64_bit = vp.l2_ref(vm).guest.is_64_bit();
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let old = vmcs.get(Field::GuestCr0);
    let new = (old & mask) | (value & !mask) | CR0_ET;
    if new & (CR0_PG | CR0_PE) == CR0_PG || new & (CR0_NW | CR0_CD) == CR0_NW {
        return false;
    }
    let efer = vmcs.get(Field::GuestEfer);
    let has_lme = efer & EFER_LME != 0;
    if (old ^ new) & CR0_PG != 0 {
        let enters = new & CR0_PG != 0;
        let has_pae = vmcs.get(Field::GuestCr4) & CR4_PAE != 0;
        if (enters && has_lme && !has_pae) || (!enters && is_64_bit) {
            return false;
        }
        let controls = vmcs.get(Field::EntryControls);
        let is_long = enters && has_lme;
        let (efer, controls) = if is_long {
            (efer | EFER_LMA, controls | ENTRY_IA32E)
        } else {
            (efer & !EFER_LMA, controls & !ENTRY_IA32E)
        };
        vmcs.set(Field::GuestEfer, efer);
        vmcs.set(Field::EntryControls, controls);
    }
    vmcs.set(Field::GuestCr0, new);
    true
}

fn write_cr4(vp: &mut Vp, vm: VmIndex, value: u64, mask: u64) -> bool {
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let new = (vmcs.get(Field::GuestCr4) & mask) | (value & !mask);
    let is_long = vmcs.get(Field::GuestEfer) & EFER_LMA != 0;
    if is_long && new & CR4_PAE == 0 {
        return false;
    }
    vmcs.set(Field::GuestCr4, new);
    true
}

fn clts(vp: &mut Vp, vm: VmIndex, insn: &Insn) -> Verdict {
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let is_owned = vmcs.effective_cr0_mask() & CR0_TS != 0;
    if is_owned && vmcs.effective_cr0_shadow() & CR0_TS != 0 {
        return exit(vp, vm, insn, qualification(0, CLTS, 0));
    }
    if !is_owned {
        let cr0 = vmcs.get(Field::GuestCr0);
        vmcs.set(Field::GuestCr0, cr0 & !CR0_TS);
    }
    done(vp, vm, insn)
}

/// Guest-physical address of the memory operand, or the page fault that the L2 gets.
fn operand_gpa(vp: &mut Vp, vm: VmIndex, insn: &Insn) -> Result<(u64, u64), Verdict> {
    let guest = &vp.l2_ref(vm).guest;
    let linear = insn.memory.map_or(0, |memory| {
        memory.linear_address(insn.len_bytes, &guest.gprs, &guest.vmcb.save)
    });
    match translate(guest, &vp.platform.memory, linear) {
        Some(gpa) => Ok((linear, gpa)),
        None => Err(page_fault(vp, vm, linear)),
    }
}

fn page_fault(vp: &mut Vp, vm: VmIndex, linear: u64) -> Verdict {
    vp.l2_mut(vm).guest.vmcb.save.cr2 = linear;
    event::raise(vp, vm, VECTOR_PF, 0)
}

fn lmsw(vp: &mut Vp, vm: VmIndex, insn: &Insn, modrm: ModRm) -> Verdict {
    const WRITABLE: u64 = 0xf;
    const MEMORY: u64 = 1 << 6;
    let (source, form) = if modrm.is_register() {
        (register(vp, vm, modrm.rm) & 0xffff, 0)
    } else {
        let (linear, gpa) = match operand_gpa(vp, vm, insn) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        let mut bytes = [0; 2];
        if !vp.platform.memory.read(gpa, &mut bytes) {
            return page_fault(vp, vm, linear);
        }
        (u64::from(u16::from_le_bytes(bytes)), MEMORY)
    };
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let (mask, shadow) = (vmcs.effective_cr0_mask(), vmcs.effective_cr0_shadow());
    // LMSW sets PE but never clears it.
    let wanted = (source & WRITABLE) | (vmcs.visible_cr0() & CR0_PE);
    if (wanted ^ shadow) & mask & WRITABLE != 0 {
        return exit(
            vp,
            vm,
            insn,
            qualification(0, LMSW, 0) | form | (source << 16),
        );
    }
    let loaded = WRITABLE & !mask;
    let cr0 = vmcs.get(Field::GuestCr0);
    vmcs.set(Field::GuestCr0, (cr0 & !loaded) | (wanted & loaded));
    done(vp, vm, insn)
}

fn smsw(vp: &mut Vp, vm: VmIndex, insn: &Insn, modrm: ModRm) -> Verdict {
    let visible = vp.model.l2(vm).vmcs.visible_cr0();
    if !modrm.is_register() {
        let (linear, gpa) = match operand_gpa(vp, vm, insn) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        let rights = vp.platform.world().spaces.l2_rights(vm, gpa);
        let is_writable = rights.is_some_and(|rights| rights.is_writable);
        let word = (visible as u16).to_le_bytes(); // CAST: the instruction stores 16 bits
        if !is_writable || !vp.platform.memory.write(gpa, &word) {
            return page_fault(vp, vm, linear);
        }
        return done(vp, vm, insn);
    }
    let old = vp.l2_ref(vm).guest.gprs.get(modrm.rm);
    // The prefix selects the size that the code segment does not have.
    let is_code_16 = Mode::of(&vp.l2_ref(vm).guest.vmcb.save) == Mode::Code16;
    let value = match (insn.has_rex_w, insn.has_operand_size != is_code_16) {
        (true, _) => visible,
        (false, true) => (old & !0xffff) | (visible & 0xffff),
        (false, false) => visible & 0xffff_ffff,
    };
    set_register(vp, vm, modrm.rm, value);
    done(vp, vm, insn)
}
