// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VMCB to VMCS, after each run of an L2.

use super::load::BLOCKING_STI_MOV_SS;
use super::{event, vapic};
use crate::cpu::msr::EFER_SVME;
use crate::l1;
use crate::vp::Vp;
use svm::segment::{self, UNUSABLE};
use svm::vmcb::{INTERRUPT_SHADOW, Save, Segment};
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::vmcs::Vmcs;

const CR0_PE: u64 = 1;

/// Takes over what the L2 left in the VMCB and in the registers.
pub fn store(vp: &mut Vp, vm: VmIndex) {
    event::store(vp, vm);
    vapic::store(vp, vm);
    let context = &vp.l2[usize::from(vm.number() - 1)];
    let l2 = vp.model.l2_mut(vm);
    l2.gprs = l1::to_model(&context.guest.gprs);
    l2.vmcs.set(Field::GuestRsp, context.guest.gprs.rsp);
    store_state(&context.guest.vmcb.save, &mut l2.vmcs);
    let is_in_shadow = context.guest.vmcb.control.int_state & INTERRUPT_SHADOW != 0;
    let kept = l2.vmcs.get(Field::GuestInterruptibility) & !BLOCKING_STI_MOV_SS;
    let blocking = match is_in_shadow {
        true => blocking(l2.vmcs.get(Field::GuestRflags)),
        false => 0,
    };
    l2.vmcs.set(Field::GuestInterruptibility, kept | blocking);
    store_pending_step(is_in_shadow, &mut l2.vmcs);
}

/// Which blocking the shadow of an instruction is. SVM has one for both: with interrupts disabled, the
/// instruction was no STI.
const fn blocking(rflags: u64) -> u64 {
    const IF: u64 = 1 << 9;
    const BY_STI: u64 = 1;
    const BY_MOV_SS: u64 = 1 << 1;
    if rflags & IF != 0 { BY_STI } else { BY_MOV_SS }
}

/// An exit behind STI or MOV SS leaves a single step pending if the L2 is stepped: an entry expects
/// that. SVM has no field for it.
fn store_pending_step(is_in_shadow: bool, vmcs: &mut Vmcs) {
    const TF: u64 = 1 << 8;
    const BTF: u64 = 1 << 1;
    const BS: u64 = 1 << 14;
    if !is_in_shadow {
        return;
    }
    let steps = vmcs.get(Field::GuestRflags) & TF != 0 && vmcs.get(Field::GuestDebugctl) & BTF == 0;
    let others = vmcs.get(Field::GuestPendingDebug) & !BS;
    vmcs.set(
        Field::GuestPendingDebug,
        if steps { others | BS } else { others },
    );
}

fn store_segment(vmcs: &mut Vmcs, from: &Segment, fields: [Field; 4]) {
    let [selector, access, limit, base] = fields;
    vmcs.set(selector, u64::from(from.selector));
    vmcs.set(access, u64::from(segment::access_rights(from)));
    vmcs.set(limit, u64::from(from.limit));
    vmcs.set(base, from.base);
}

fn store_state(save: &Save, vmcs: &mut Vmcs) {
    use Field as F;
    let segments = [
        (
            &save.es,
            [
                F::GuestEsSelector,
                F::GuestEsAccess,
                F::GuestEsLimit,
                F::GuestEsBase,
            ],
        ),
        (
            &save.cs,
            [
                F::GuestCsSelector,
                F::GuestCsAccess,
                F::GuestCsLimit,
                F::GuestCsBase,
            ],
        ),
        (
            &save.ss,
            [
                F::GuestSsSelector,
                F::GuestSsAccess,
                F::GuestSsLimit,
                F::GuestSsBase,
            ],
        ),
        (
            &save.ds,
            [
                F::GuestDsSelector,
                F::GuestDsAccess,
                F::GuestDsLimit,
                F::GuestDsBase,
            ],
        ),
        (
            &save.fs,
            [
                F::GuestFsSelector,
                F::GuestFsAccess,
                F::GuestFsLimit,
                F::GuestFsBase,
            ],
        ),
        (
            &save.gs,
            [
                F::GuestGsSelector,
                F::GuestGsAccess,
                F::GuestGsLimit,
                F::GuestGsBase,
            ],
        ),
        (
            &save.tr,
            [
                F::GuestTrSelector,
                F::GuestTrAccess,
                F::GuestTrLimit,
                F::GuestTrBase,
            ],
        ),
        (
            &save.ldtr,
            [
                F::GuestLdtrSelector,
                F::GuestLdtrAccess,
                F::GuestLdtrLimit,
                F::GuestLdtrBase,
            ],
        ),
    ];
    for (from, fields) in segments {
        store_segment(vmcs, from, fields);
    }
    store_stack_privilege(save, vmcs);
    // CR0, CR4 and EFER change only where an intercept makes the emulator change them.
    let values = [
        (F::GuestGdtrBase, save.gdtr.base),
        (F::GuestGdtrLimit, u64::from(save.gdtr.limit)),
        (F::GuestIdtrBase, save.idtr.base),
        (F::GuestIdtrLimit, u64::from(save.idtr.limit)),
        (F::GuestCr3, save.cr3),
        (F::GuestDr7, save.dr7),
        (F::GuestRip, save.rip),
        (F::GuestRflags, save.rflags),
        (F::GuestSysenterCs, save.sysenter_cs),
        (F::GuestSysenterEsp, save.sysenter_esp),
        (F::GuestSysenterEip, save.sysenter_eip),
        (F::GuestEfer, save.efer & !EFER_SVME),
    ];
    for (field, value) in values {
        vmcs.set(field, value);
    }
}

/// VMX keeps the privilege level in SS, even if SS is unusable; SVM keeps it separately and does
/// not change SS at SYSCALL.
fn store_stack_privilege(save: &Save, vmcs: &mut Vmcs) {
    if save.cr0 & CR0_PE == 0 {
        return;
    }
    let access = vmcs.get32(Field::GuestSsAccess) & !(3 << 5) | (u32::from(save.cpl) << 5);
    let access = if access & UNUSABLE != 0 {
        UNUSABLE | (access & 0x60)
    } else {
        access
    };
    vmcs.set(Field::GuestSsAccess, u64::from(access));
}
