// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The state of an L2 as it travels: L2_ENTER_GUEST_STATE, the register image of an exit, the exit
//! information in the VMCS [ABI TDG.VP.ENTER].
//!
//! Loaded by `leaf/tdg_vp_enter.rs`, stored by `l2_exit.rs`.

use crate::Field;
use crate::gpa::Gpa;
use crate::gprs::Gprs;
use crate::l2_exit::L2Exit;
use crate::machine::Machine;
use crate::vcpu::L2Vm;

/// Interruption information: valid.
const VALID: u32 = 1 << 31;
/// Interruptibility: blocking by STI and by MOV SS.
const BLOCKING_STI_MOV_SS: u64 = 3;

/// Reads L2_ENTER_GUEST_STATE.
pub(crate) fn load_guest_state<M: Machine>(l2: &mut L2Vm, gpa: Gpa, machine: &mut M) {
    let mut bytes = [0; STATE_BYTES];
    machine.read_memory(gpa, &mut bytes);
    let mut words = [0_u64; 19];
    for (word, slot) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = slot.try_into().map_or(0, u64::from_le_bytes);
    }
    let status = bytes.last_chunk().copied().unwrap_or_default();
    let [
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rest @ ..,
    ] = words;
    let [rflags, rip, ssp] = rest;
    l2.gprs = Gprs {
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    };
    l2.vmcs.set(Field::GuestRsp, rsp);
    l2.vmcs.set(Field::GuestRflags, rflags);
    l2.vmcs.set(Field::GuestRip, rip);
    l2.vmcs.set(Field::GuestSsp, ssp);
    l2.vmcs.set(
        Field::GuestInterruptStatus,
        u64::from(u16::from_le_bytes(status)),
    );
}

/// Writes L2_ENTER_GUEST_STATE back to where it was read from.
pub(crate) fn store_guest_state<M: Machine>(l2: &L2Vm, machine: &mut M) {
    let Some(gpa) = l2.state_gpa else {
        return;
    };
    let gprs = Gprs {
        rsp: l2.vmcs.get(Field::GuestRsp),
        ..l2.gprs
    };
    let tail = [Field::GuestRflags, Field::GuestRip, Field::GuestSsp].map(|f| l2.vmcs.get(f));
    let mut bytes = [0; STATE_BYTES];
    let words = gprs.to_array().into_iter().chain(tail);
    for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    // CAST: the field is 16 bits wide.
    let status = l2.vmcs.get(Field::GuestInterruptStatus) as u16;
    if let Some(slot) = bytes.last_chunk_mut() {
        *slot = status.to_le_bytes();
    }
    machine.write_memory(gpa, &bytes);
}

/// Bytes of L2_ENTER_GUEST_STATE up to the interrupt status, which is the last.
const STATE_BYTES: usize = 0x9a;

/// Puts the exit into the VMCS, where L1 can read it too. Of an entry that failed there is only the
/// reason and the qualification: the rest stays as the exit before it left it, and so does the event
/// to inject [SDM3 VM-entry failures during or after loading guest state].
pub(crate) fn record(l2: &mut L2Vm, exit: &L2Exit) {
    let L2Exit {
        reason,
        qualification,
        gla,
        gpa,
        cpl,
        ..
    } = *exit;
    l2.vmcs.set(Field::ExitReason, u64::from(reason));
    l2.vmcs.set(Field::ExitQualification, qualification);
    l2.last_cpl = cpl;
    if reason >> 31 != 0 {
        return;
    }
    let fields = [
        (Field::ExitInterruptionInfo, exit.interruption_info),
        (Field::ExitErrorCode, exit.interruption_error),
        (Field::IdtVectoringInfo, exit.idt_vectoring_info),
        (Field::IdtVectoringErrorCode, exit.idt_vectoring_error),
        (Field::ExitInstructionLength, exit.instruction_length),
        (Field::ExitInstructionInfo, exit.instruction_info),
    ];
    for (field, value) in fields {
        l2.vmcs.set(field, u64::from(value));
    }
    l2.vmcs.set(Field::GuestLinearAddress, gla);
    if matches!(reason & 0xffff, 48 | 49) {
        l2.vmcs.set(Field::GuestPhysicalAddress, gpa);
    }
    let info = l2.vmcs.get(Field::EntryInterruptionInfo);
    l2.vmcs
        .set(Field::EntryInterruptionInfo, info & !u64::from(VALID));
}

/// L1's registers after an exit, RAX excepted. RSP is L1's own.
pub(crate) fn exit_image(l2: &L2Vm, l1_rsp: u64, eeq_type: u64) -> Gprs {
    let get = |field| l2.vmcs.get(field);
    let pair = |low, high| get(low) | get(high) << 32;
    let access_and_limit =
        (get(Field::GuestCsAccess) & 0xffff) << 16 | get(Field::GuestCsLimit) << 32;
    Gprs {
        rax: 0,
        rcx: get(Field::ExitQualification),
        rdx: get(Field::GuestLinearAddress),
        rbx: 0,
        rsp: l1_rsp,
        rbp: l2.gprs.rbp,
        rsi: get(Field::GuestCsSelector) | access_and_limit,
        rdi: get(Field::GuestCsBase),
        r8: get(Field::GuestPhysicalAddress),
        r9: pair(Field::ExitInterruptionInfo, Field::ExitErrorCode),
        r10: pair(Field::IdtVectoringInfo, Field::IdtVectoringErrorCode),
        r11: pair(Field::ExitInstructionInfo, Field::ExitInstructionLength),
        r12: u64::from(l2.last_cpl & 3),
        r13: eeq_type,
        r14: 0,
        r15: 0,
    }
}

/// Steps the L2 over the instruction that exited.
pub(crate) fn step_rip(l2: &mut L2Vm) {
    /// RFLAGS.TF, and single-step in the pending debug exceptions.
    const TF: u64 = 1 << 8;
    const PENDING_BS: u64 = 1 << 14;
    /// DEBUGCTL.BTF.
    const BTF: u64 = 1 << 1;
    let next = l2
        .vmcs
        .get(Field::GuestRip)
        .wrapping_add(l2.vmcs.get(Field::ExitInstructionLength));
    l2.vmcs.set(
        Field::GuestRip,
        if is_64_bit(l2) {
            next
        } else {
            next & 0xffff_ffff
        },
    );
    let blocking = l2.vmcs.get(Field::GuestInterruptibility);
    l2.vmcs.set(
        Field::GuestInterruptibility,
        blocking & !BLOCKING_STI_MOV_SS,
    );
    let steps =
        l2.vmcs.get(Field::GuestRflags) & TF != 0 && l2.vmcs.get(Field::GuestDebugctl) & BTF == 0;
    let others = l2.vmcs.get(Field::GuestPendingDebug) & !PENDING_BS;
    let pending = if steps { others | PENDING_BS } else { others };
    l2.vmcs.set(Field::GuestPendingDebug, pending);
}

/// Returns true if the L2 runs 64-bit code: IA-32e mode and CS.L.
pub(crate) fn is_64_bit(l2: &L2Vm) -> bool {
    l2.vmcs.get(Field::EntryControls) & 0x200 != 0
        && l2.vmcs.get(Field::GuestCsAccess) & 0x2000 != 0
}
