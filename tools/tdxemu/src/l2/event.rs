// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Events of an L2: injection by L1, interrupted deliveries, NMI blocking.

use super::load::{BLOCKING_NMI, BLOCKING_STI_MOV_SS, primary};
use super::{Verdict, plain_exit};
use crate::vp::Vp;
use svm::vmcb::Event;
use svm::vmx_names::{self, reason};
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::l2_exit::L2Exit;
use tdx_model::vcpu::Vcpu;

const VALID: u32 = 1 << 31;
const HAS_ERROR: u32 = 1 << 11;
const TYPE_NMI: u32 = 2;
const TYPE_EXCEPTION: u32 = 3;

const fn event_type(info: u32) -> u32 {
    (info >> 8) & 7
}

/// INT n, INT1, INT3 and INTO: the pushed RIP is after the instruction.
const fn is_software(info: u32) -> bool {
    matches!(event_type(info), 4..=6)
}

/// Returns true if an event waits for the next entry.
pub fn has_entry_event(model: &Vcpu, vm: VmIndex) -> bool {
    model.l2(vm).vmcs.get32(Field::EntryInterruptionInfo) & VALID != 0
}

/// Puts the event of the VM-entry interruption-information field into the VMCB.
pub fn load(vp: &mut Vp, vm: VmIndex) {
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let info = vmcs.get32(Field::EntryInterruptionInfo);
    let context = &mut vp.l2[usize::from(vm.number() - 1)];
    context.injected_software = None;
    if info & VALID == 0 {
        return;
    }
    // The model's VM-entry checks allow only those types that SVM has, too.
    let event = vmx_names::event_of(info, vmcs.get32(Field::EntryErrorCode));
    context.guest.inject(event.unwrap_or_default());
    if is_software(info) {
        // SVM without next-RIP save pushes the RIP of the VMCB.
        let len_bytes = vmcs.get32(Field::EntryInstructionLength);
        let start = context.guest.vmcb.save.rip;
        context.guest.vmcb.save.rip = start.wrapping_add(u64::from(len_bytes));
        context.injected_software = Some((start, len_bytes));
    }
    if event_type(info) == TYPE_NMI {
        let blocking = vmcs.get(Field::GuestInterruptibility) | BLOCKING_NMI;
        vmcs.set(Field::GuestInterruptibility, blocking);
    }
    vmcs.set(Field::EntryInterruptionInfo, u64::from(info & !VALID));
}

/// After a run: a software event whose delivery failed leaves RIP at its instruction.
pub fn store(vp: &mut Vp, vm: VmIndex) {
    let context = vp.l2_mut(vm);
    if let (Some((start, _)), Some(_)) =
        (context.injected_software, context.guest.interrupted_event())
    {
        context.guest.vmcb.save.rip = start;
    }
}

/// IDT-vectoring information, its error code, and the length of a software event's instruction.
pub fn vectoring(vp: &Vp, vm: VmIndex) -> (u32, u32, Option<u32>) {
    let context = vp.l2_ref(vm);
    match context.guest.interrupted_event() {
        Some(event) => {
            let is_trap = event.kind() == Event::EXCEPTION && matches!(event.vector(), 3 | 4);
            let (info, error) = vmx_names::event_info(event, is_trap);
            (info, error, context.injected_software.map(|(_, len)| len))
        }
        None => (0, 0, None),
    }
}

/// Resumes the L2 after an exit that it must not notice: an event whose delivery was interrupted is
/// injected again, unless another one has replaced it.
pub fn deliver_again(vp: &mut Vp, vm: VmIndex) {
    if has_entry_event(vp.model, vm) {
        return;
    }
    let (info, error, len_bytes) = vectoring(vp, vm);
    // Consume it: the word in the VMCB stays there until the next run.
    vp.l2_mut(vm).guest.vmcb.control.exit_int_info = Event::new();
    if info & VALID == 0 {
        return;
    }
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    vmcs.set(Field::EntryInterruptionInfo, u64::from(info));
    vmcs.set(Field::EntryErrorCode, u64::from(error));
    vmcs.set(
        Field::EntryInstructionLength,
        u64::from(len_bytes.unwrap_or(0)),
    );
    if event_type(info) == TYPE_NMI {
        let blocking = vmcs.get(Field::GuestInterruptibility) & !BLOCKING_NMI;
        vmcs.set(Field::GuestInterruptibility, blocking);
    }
}

/// An exception that an emulated instruction of the L2 raises.
pub fn raise(vp: &mut Vp, vm: VmIndex, vector: u8, error: u32) -> Verdict {
    let has_error = vmx_names::has_error_code(vector);
    let flag = if has_error { HAS_ERROR } else { 0 };
    let info = VALID | flag | (TYPE_EXCEPTION << 8) | u32::from(vector);
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    if vmcs.intercepts_exception(vector, error) {
        return Verdict::Exit(L2Exit {
            interruption_info: info,
            interruption_error: error,
            ..plain_exit(vp, vm, reason::EXCEPTION_OR_NMI)
        });
    }
    vmcs.set(Field::EntryInterruptionInfo, u64::from(info));
    vmcs.set(Field::EntryErrorCode, u64::from(error));
    Verdict::Internal
}

/// NMI-window exiting: an exit as soon as NMIs are not blocked.
pub fn nmi_window(vp: &Vp, vm: VmIndex) -> Option<L2Exit> {
    let vmcs = &vp.model.l2(vm).vmcs;
    let is_wanted = vmcs.get32(Field::PrimaryControls) & primary::NMI_WINDOW != 0;
    let blocking = vmcs.get(Field::GuestInterruptibility) & (BLOCKING_NMI | BLOCKING_STI_MOV_SS);
    let is_open = blocking == 0 && !has_entry_event(vp.model, vm);
    (is_wanted && is_open).then(|| plain_exit(vp, vm, reason::NMI_WINDOW))
}

/// IRET ends the blocking of NMIs. The intercept precedes the instruction, so an NMI may
/// come one instruction early.
pub fn unblock_nmi(vp: &mut Vp, vm: VmIndex) {
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let blocking = vmcs.get(Field::GuestInterruptibility) & !BLOCKING_NMI;
    vmcs.set(Field::GuestInterruptibility, blocking);
}
