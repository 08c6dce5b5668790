// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! #UD of an L2: instructions that AMD processors do not have and that leave a VMX guest, and real
//! undefined opcodes, which the L2 gets back.

use super::{Verdict, event, plain_exit};
use crate::fetch::{decode, fetch};
use crate::vp::Vp;
use svm::insn::Insn;
use svm::vmx_names::{self, reason};
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::l2_exit::L2Exit;

/// #UD.
pub const VECTOR_UD: u8 = 6;

/// Secondary control: VM functions.
const VM_FUNCTIONS: u32 = 1 << 13;

/// Says what a #UD means.
pub fn opcode(vp: &mut Vp, vm: VmIndex) -> Verdict {
    let fetched = fetch(&vp.l2_ref(vm).guest, &vp.platform.memory);
    // The two common ones, which guests use for calls, as they are usually encoded.
    let (reason, instruction_length) = match fetched.bytes() {
        [0x66, 0x0f, 0x01, 0xcc, ..] => (reason::TDCALL, 4),
        [0x0f, 0x01, 0xc1, ..] => (reason::VMCALL, 3),
        _ => return other(vp, vm),
    };
    Verdict::Exit(L2Exit {
        instruction_length,
        ..plain_exit(vp, vm, reason)
    })
}

fn other(vp: &mut Vp, vm: VmIndex) -> Verdict {
    let insn = decode(&vp.l2_ref(vm).guest, &vp.platform.memory);
    let found = insn.and_then(|insn| {
        let reason = vmx_names::undefined_opcode_reason(&insn)?;
        leaves(vp, vm, reason).then_some((insn, reason))
    });
    let Some((insn, reason)) = found else {
        return event::raise(vp, vm, VECTOR_UD, 0);
    };
    let (qualification, instruction_info) = operand(vp, vm, &insn, reason);
    Verdict::Exit(L2Exit {
        qualification,
        instruction_info,
        instruction_length: u32::from(insn.len_bytes),
        ..plain_exit(vp, vm, reason)
    })
}

/// Returns true if the instruction exits in the L2's mode, before any fault. [SDM3 26.1.1, 31.3]
fn leaves(vp: &Vp, vm: VmIndex, reason: u32) -> bool {
    const PE: u64 = 1;
    const VIRTUAL_8086: u64 = 1 << 17;
    const LMA: u64 = 1 << 10;
    let guest = &vp.l2_ref(vm).guest;
    let save = &guest.vmcb.save;
    let controls = vp.model.l2(vm).vmcs.get32(Field::SecondaryControls);
    match reason {
        // With a prefix: see `opcode`.
        reason::VMCALL => true,
        reason::VMFUNC => controls & VM_FUNCTIONS != 0,
        reason::SEAMCALL => guest.is_64_bit(),
        _ => {
            save.cr0 & PE != 0
                && save.rflags & VIRTUAL_8086 == 0
                && (save.efer & LMA == 0 || guest.is_64_bit())
        }
    }
}

/// Qualification and instruction information: the memory operand, and the registers of those that
/// have two operands.
fn operand(vp: &Vp, vm: VmIndex, insn: &Insn, reason: u32) -> (u64, u32) {
    const REGISTER: u32 = 1 << 10;
    let has_two = matches!(
        reason,
        reason::VMREAD | reason::VMWRITE | reason::INVEPT | reason::INVVPID
    );
    let (reg, rm) = insn.modrm.map_or((0, 0), |modrm| (modrm.reg, modrm.rm));
    let second = if has_two { u32::from(reg) << 28 } else { 0 };
    let save = &vp.l2_ref(vm).guest.vmcb.save;
    match insn.memory {
        Some(memory) => (
            memory.vmx_displacement(insn.len_bytes, save),
            memory.vmx_instruction_info() | second,
        ),
        None if has_two => (0, REGISTER | (u32::from(rm) << 3) | second),
        None => (0, 0),
    }
}
