// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! MSR accesses of an L2: the permission map, and registers that SVM makes the emulator intercept
//! although VMX would not.

use super::{Verdict, event, plain_exit, vapic};
use crate::cpu::msr::{self, EFER, PAT};
use crate::extra_msrs::ExtraMsrs;
use crate::vp::{ACCESSES, L2Context, Vp};
use crate::xfd;
use svm::msrpm::{Access, Intercept, Msrpm};
use svm::vmx_names::reason;
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::l2_exit::L2Exit;
use tdx_model::msr::Access as ModelAccess;

const VECTOR_GP: u8 = 13;
const X2APIC: core::ops::RangeInclusive<u32> = 0x800..=0x8ff;

/// Registers that always leave the L2: EFER holds SVME, PAT is not switched by TCG, the x2APIC ones
/// would reach L1's interrupt controller, and the processor lacks the others.
fn is_always_intercepted(extra_msrs: &ExtraMsrs, index: u32) -> bool {
    index == EFER || index == PAT || X2APIC.contains(&index) || extra_msrs.has(index)
}

/// Makes the permission map follow L1's bitmap, if that has changed.
pub fn refresh_msrpm(vp: &mut Vp, vm: VmIndex) {
    let l2 = vp.model.l2(vm);
    let context = &mut vp.l2[usize::from(vm.number() - 1)];
    if context.msr_bitmap_writes == l2.msr_bitmap_writes {
        return;
    }
    context.msr_bitmap_writes = l2.msr_bitmap_writes;
    let world = vp.platform.world();
    let td = &world.td;
    for word in 0..l2.msr_bitmap.len() {
        if context.msr_bitmap[word] != l2.msr_bitmap[word] {
            for_each_msr(word, |index| {
                let is_always = is_always_intercepted(&vp.extra_msrs, index);
                for (access, model_access) in ACCESSES {
                    let is_intercepted = is_always || l2.intercepts_msr(td, index, model_access);
                    set(context.msrpm, index, access, is_intercepted);
                }
            });
            context.msr_bitmap[word] = l2.msr_bitmap[word];
        }
    }
}

fn set(msrpm: &mut Msrpm, index: u32, access: Access, is_intercepted: bool) {
    let intercept = if is_intercepted {
        Intercept::Yes
    } else {
        Intercept::No
    };
    msrpm.set(index, access, intercept);
}

/// The 64 registers of a word of the bitmap: quarters for reads low, reads high, writes low,
/// writes high. [SDM3 24.6.9]
fn for_each_msr(word: usize, mut action: impl FnMut(u32)) {
    const QUARTER: usize = 128;
    let base = if (word / QUARTER) % 2 == 0 {
        0
    } else {
        0xc000_0000
    };
    let first = base + 64 * (word % QUARTER) as u32; // CAST: below 128
    (first..first + 64).for_each(&mut action);
}

/// An intercepted access.
pub fn access(vp: &mut Vp, vm: VmIndex, access: Access, len_bytes: u32) -> Verdict {
    let l2 = vp.model.l2(vm);
    // CAST: RDMSR and WRMSR use the low halves.
    let (index, low) = (l2.gprs.rcx as u32, l2.gprs.rax as u32);
    let value = (l2.gprs.rdx << 32) | u64::from(low);
    let model_access = match access {
        Access::Read => ModelAccess::Read,
        Access::Write => ModelAccess::Write,
    };
    let would_exit = l2.intercepts_msr(&vp.platform.world().td, index, model_access);
    if would_exit {
        let reason = match access {
            Access::Read => reason::RDMSR,
            Access::Write => reason::WRMSR,
        };
        let exit = plain_exit(vp, vm, reason);
        return Verdict::Exit(L2Exit {
            instruction_length: len_bytes,
            ..exit
        });
    }
    if vp.l2_ref(vm).guest.vmcb.save.cpl != 0 {
        return event::raise(vp, vm, VECTOR_GP, 0);
    }
    match access {
        Access::Read => read(vp, vm, index, len_bytes),
        Access::Write => write(vp, vm, index, value, len_bytes),
    }
}

fn read(vp: &mut Vp, vm: VmIndex, index: u32, len_bytes: u32) -> Verdict {
    let vmcs = &vp.model.l2(vm).vmcs;
    let own = vp.extra_msrs.field(index, 0);
    let value = match index {
        _ if own.is_some() => own.map(|(field, _)| vmcs.get(field)),
        EFER => Some(vmcs.get(Field::GuestEfer)),
        PAT => Some(vmcs.get(Field::GuestPat)),
        index if X2APIC.contains(&index) => Some(vapic::read_register(vp, vm, index)),
        index if vp.extra_msrs.has(index) => vp.extra_msrs.read(index),
        index => msr::try_read(index),
    };
    let Some(value) = value else {
        return event::raise(vp, vm, VECTOR_GP, 0);
    };
    let gprs = &mut vp.model.l2_mut(vm).gprs;
    gprs.rax = value & 0xffff_ffff;
    gprs.rdx = value >> 32;
    skip(vp, vm, len_bytes);
    Verdict::Internal
}

fn write(vp: &mut Vp, vm: VmIndex, index: u32, value: u64, len_bytes: u32) -> Verdict {
    let is_pat = index == PAT
        && value
            .to_le_bytes()
            .iter()
            .all(|t| matches!(t, 0 | 1 | 4..=7));
    if is_pat {
        vp.model.l2_mut(vm).vmcs.set(Field::GuestPat, value);
        skip(vp, vm, len_bytes);
        return Verdict::Internal;
    }
    if let Some((field, takes)) = vp.extra_msrs.field(index, value) {
        if !takes {
            return event::raise(vp, vm, VECTOR_GP, 0);
        }
        vp.model.l2_mut(vm).vmcs.set(field, value);
        skip(vp, vm, len_bytes);
        return Verdict::Internal;
    }
    if xfd::write_extra_msr(vp, index, value).is_some() {
        skip(vp, vm, len_bytes);
        return Verdict::Internal;
    }
    if X2APIC.contains(&index) {
        if let Some(verdict) = vapic::write_register(vp, vm, index, value) {
            skip(vp, vm, len_bytes);
            return verdict;
        }
    }
    event::raise(vp, vm, VECTOR_GP, 0)
}

/// Moves the L2 after an instruction that was emulated for it.
pub fn skip(vp: &mut Vp, vm: VmIndex, len_bytes: u32) {
    let L2Context { guest, .. } = &mut vp.l2[usize::from(vm.number() - 1)];
    guest.skip_instruction(u64::from(len_bytes));
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    vmcs.set(Field::GuestRip, guest.vmcb.save.rip);
    let blocking = vmcs.get(Field::GuestInterruptibility) & !super::load::BLOCKING_STI_MOV_SS;
    vmcs.set(Field::GuestInterruptibility, blocking);
}
