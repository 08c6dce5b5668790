// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! SVM exits of an L2 in the words of VMX: reason, qualification, addresses, instruction.

use super::load::primary;
use super::undefined::{self, VECTOR_UD};
use super::{NOTIFICATION_VECTOR, Verdict, cr, event, msr, plain_exit, stale};
use crate::fetch::decode;
use crate::log;
use crate::run::not_modelled;
use crate::vp::Vp;
use svm::SvmExit;
use svm::exit::{IoInfo, NpfError, Table};
use svm::insn::{Insn, Map, Mode};
use svm::msrpm::Access;
use svm::vmx_names::{self, reason};
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::l2_exit::L2Exit;

const VECTOR_DB: u8 = 1;
const VECTOR_BP: u8 = 3;
const VECTOR_OF: u8 = 4;
const VECTOR_PF: u8 = 14;

const VALID: u32 = 1 << 31;
const HAS_ERROR: u32 = 1 << 11;
const TYPE_NMI: u32 = 2 << 8;
const TYPE_EXCEPTION: u32 = 3 << 8;
const TYPE_SOFTWARE_INTERRUPT: u32 = 4 << 8;
const TYPE_SOFTWARE_EXCEPTION: u32 = 6 << 8;

/// Says what an exit means.
pub fn translate(vp: &mut Vp, vm: VmIndex, exit: SvmExit) -> Verdict {
    let verdict = match exit {
        SvmExit::Vintr => interrupt_window(vp, vm),
        SvmExit::Nmi => nmi(vp, vm),
        SvmExit::Iret => {
            event::unblock_nmi(vp, vm);
            Verdict::Internal
        }
        SvmExit::CrRead | SvmExit::CrWrite(_) => cr::access(vp, vm),
        SvmExit::Msr(access) => msr::access(vp, vm, access, instruction_length(vp, vm)),
        SvmExit::Exception {
            vector: VECTOR_UD, ..
        } => undefined::opcode(vp, vm),
        SvmExit::Exception { vector, error } => exception(vp, vm, vector, error),
        SvmExit::IntN => software_interrupt(vp, vm),
        SvmExit::Vmmcall | SvmExit::SvmInstruction | SvmExit::Rsm | SvmExit::Invlpga => {
            event::raise(vp, vm, VECTOR_UD, 0)
        }
        SvmExit::Npf { error, gpa } if stale::serve(vp, vm, error, gpa) => Verdict::Internal,
        SvmExit::Npf { error, gpa } => ept_violation(vp, vm, error, gpa),
        SvmExit::Io { info, next_rip } => io(vp, vm, info, next_rip),
        SvmExit::DrRead(number) => debug_register(vp, vm, number, 1 << 4),
        SvmExit::DrWrite(number) => debug_register(vp, vm, number, 0),
        SvmExit::Invlpg => invlpg(vp, vm),
        SvmExit::TaskSwitch => task_switch(vp, vm),
        SvmExit::TableRead(table) => descriptor_table(vp, vm, &exit, table, Access::Read),
        SvmExit::TableWrite(table) => descriptor_table(vp, vm, &exit, table, Access::Write),
        SvmExit::Invalid => {
            log!(Warn, "VMRUN refused the state of {vm:?}");
            Verdict::Exit(plain_exit(
                vp,
                vm,
                reason::ENTRY_FAILURE | reason::INVALID_GUEST_STATE,
            ))
        }
        // Exits acknowledge the interrupt, and this one posts another to L1.
        SvmExit::Intr => Verdict::Exit(L2Exit {
            interruption_info: VALID | u32::from(NOTIFICATION_VECTOR),
            ..plain_exit(vp, vm, reason::EXTERNAL_INTERRUPT)
        }),
        SvmExit::Shutdown => {
            let save = &vp.l2_ref(vm).guest.vmcb.save;
            // No handler was reached since the first exception, so this is where it came from.
            log!(
                Info,
                "{vm:?} shuts down (triple fault): exception at rip {:#x}, cr2 {:#x}, cs {:x?}",
                save.rip,
                save.cr2,
                save.cs
            );
            Verdict::Exit(plain_exit(vp, vm, reason::TRIPLE_FAULT))
        }
        SvmExit::Cpuid
        | SvmExit::Hlt
        | SvmExit::Invd
        | SvmExit::Wbinvd
        | SvmExit::Pause
        | SvmExit::Rdtsc
        | SvmExit::Rdtscp
        | SvmExit::Rdpmc
        | SvmExit::Monitor
        | SvmExit::Mwait
        | SvmExit::Xsetbv => instruction(vp, vm, &exit),
        SvmExit::Smi
        | SvmExit::Init
        | SvmExit::Pushf
        | SvmExit::Popf
        | SvmExit::Icebp
        | SvmExit::Unknown(_) => not_modelled(vp, format_args!("L2 exit {exit:x?}")),
    };
    match verdict {
        Verdict::Exit(exit) => Verdict::Exit(with_vectoring(vp, vm, exit)),
        Verdict::Internal => Verdict::Internal,
    }
}

/// Adds the event whose delivery the exit interrupted.
fn with_vectoring(vp: &Vp, vm: VmIndex, mut exit: L2Exit) -> L2Exit {
    let (info, error, len_bytes) = event::vectoring(vp, vm);
    exit.idt_vectoring_info = info;
    exit.idt_vectoring_error = error;
    if let Some(len_bytes) = len_bytes {
        exit.instruction_length = len_bytes;
    }
    exit
}

fn insn(vp: &Vp, vm: VmIndex) -> Option<Insn> {
    decode(&vp.l2_ref(vm).guest, &vp.platform.memory)
}

fn instruction_length(vp: &Vp, vm: VmIndex) -> u32 {
    insn(vp, vm).map_or(0, |insn| u32::from(insn.len_bytes))
}

fn instruction(vp: &Vp, vm: VmIndex, exit: &SvmExit) -> Verdict {
    // RDTSC is 0F 31, RDTSCP 0F 01 F9.
    const SECOND_BYTE_OF_RDTSCP: u8 = 0x01;
    let insn = insn(vp, vm);
    let is_rdtscp = insn.is_some_and(|insn| insn.opcode == SECOND_BYTE_OF_RDTSCP);
    // TCG reports both as RDTSC.
    let exit = match exit {
        SvmExit::Rdtsc if is_rdtscp => &SvmExit::Rdtscp,
        exit => exit,
    };
    let Some(reason) = vmx_names::basic_reason(exit) else {
        not_modelled(vp, format_args!("L2 exit {exit:x?}"))
    };
    let instruction_length = insn.map_or(0, |insn| u32::from(insn.len_bytes));
    Verdict::Exit(L2Exit {
        instruction_length,
        ..plain_exit(vp, vm, reason)
    })
}

fn interrupt_window(vp: &Vp, vm: VmIndex) -> Verdict {
    let controls = vp.model.l2(vm).vmcs.get32(Field::PrimaryControls);
    if controls & primary::INTERRUPT_WINDOW != 0 {
        Verdict::Exit(plain_exit(vp, vm, reason::INTERRUPT_WINDOW))
    } else {
        // A virtual interrupt became deliverable: the next entry delivers it.
        Verdict::Internal
    }
}

fn nmi(vp: &Vp, vm: VmIndex) -> Verdict {
    if !vp.take_nmi() {
        return Verdict::Internal;
    }
    Verdict::Exit(L2Exit {
        interruption_info: VALID | TYPE_NMI | 2,
        ..plain_exit(vp, vm, reason::EXCEPTION_OR_NMI)
    })
}

/// An intercepted exception other than #UD.
fn exception(vp: &mut Vp, vm: VmIndex, vector: u8, error: u32) -> Verdict {
    let control = &vp.l2_ref(vm).guest.vmcb.control;
    let address = control.exit_info_2;
    let vmcs = &vp.model.l2(vm).vmcs;
    if vector == VECTOR_PF && !vmcs.intercepts_exception(vector, error) {
        // Only the error-code filter of L1 made the emulator look.
        vp.l2_mut(vm).guest.vmcb.save.cr2 = address;
        return event::raise(vp, vm, vector, error);
    }
    let has_error = vmx_names::has_error_code(vector);
    let flag = if has_error { HAS_ERROR } else { 0 };
    let qualification = match vector {
        VECTOR_PF => address,
        // SVM has updated DR6 already; VMX puts the causes here and leaves DR6 alone.
        VECTOR_DB => vp.l2_ref(vm).guest.vmcb.save.dr6 & 0x600f,
        _ => 0,
    };
    Verdict::Exit(L2Exit {
        qualification,
        interruption_info: VALID | flag | TYPE_EXCEPTION | u32::from(vector),
        interruption_error: if has_error { error } else { 0 },
        ..plain_exit(vp, vm, reason::EXCEPTION_OR_NMI)
    })
}

/// INT n, INT3 and INTO, intercepted only if L1 intercepts #BP or #OF.
fn software_interrupt(vp: &mut Vp, vm: VmIndex) -> Verdict {
    // If the code changed after the exit, let the L2 execute it again.
    let Some(insn) = insn(vp, vm) else {
        return Verdict::Internal;
    };
    let length = u32::from(insn.len_bytes);
    let (vector, kind) = match (insn.map, insn.opcode) {
        (Map::Primary, 0xcc) => (VECTOR_BP, TYPE_SOFTWARE_EXCEPTION),
        (Map::Primary, 0xce) => (VECTOR_OF, TYPE_SOFTWARE_EXCEPTION),
        (Map::Primary, 0xcd) => (insn.immediate, TYPE_SOFTWARE_INTERRUPT),
        _ => return Verdict::Internal,
    };
    let info = VALID | kind | u32::from(vector);
    let vmcs = &mut vp.model.l2_mut(vm).vmcs;
    let is_l1s = kind == TYPE_SOFTWARE_EXCEPTION && vmcs.intercepts_exception(vector, 0);
    if is_l1s {
        return Verdict::Exit(L2Exit {
            interruption_info: info,
            instruction_length: length,
            ..plain_exit(vp, vm, reason::EXCEPTION_OR_NMI)
        });
    }
    vmcs.set(Field::EntryInterruptionInfo, u64::from(info));
    vmcs.set(Field::EntryInstructionLength, u64::from(length));
    Verdict::Internal
}

fn ept_violation(vp: &Vp, vm: VmIndex, error: NpfError, gpa: u64) -> Verdict {
    let insn = insn(vp, vm);
    let guest = &vp.l2_ref(vm).guest;
    let rip = guest.vmcb.save.rip;
    let rip = match Mode::of(&guest.vmcb.save) {
        Mode::Code64 => rip,
        Mode::Code16 | Mode::Code32 => rip.wrapping_add(guest.vmcb.save.cs.base) & 0xffff_ffff,
    };
    // SVM does not report the linear address. An access that is not a fetch is the instruction's
    // memory operand, or its stack access, whose page offset has to match.
    let operand = insn.and_then(|insn| {
        insn.memory
            .map(|m| m.linear_address(insn.len_bytes, &guest.gprs, &guest.vmcb.save))
    });
    let gla = match (error.is_fetch(), error.is_table_walk()) {
        (true, _) => Some(rip),
        (false, true) => Some(operand.unwrap_or(rip)),
        (false, false) => operand.filter(|gla| gla & 0xfff == gpa & 0xfff),
    };
    let entry = vp.platform.world().spaces.l2_rights(vm, gpa);
    Verdict::Exit(L2Exit {
        qualification: vmx_names::ept_qualification(error, entry, gla.is_some()),
        gla: gla.unwrap_or(0),
        gpa,
        instruction_length: insn.map_or(0, |insn| u32::from(insn.len_bytes)),
        ..plain_exit(vp, vm, reason::EPT_VIOLATION)
    })
}

fn io(vp: &Vp, vm: VmIndex, info: IoInfo, next_rip: u64) -> Verdict {
    let guest = &vp.l2_ref(vm).guest;
    let insn = insn(vp, vm);
    // For string instructions SVM reports the address; bits 9:7 of the information are the address
    // size (0 for 16, 1 for 32, 2 for 64 bits), bits 17:15 the segment. TCG leaves the
    // corresponding SVM bits clear.
    let (gla, instruction_info) = match insn.and_then(|insn| insn.memory) {
        Some(memory) if info.is_string() => {
            let size = u32::from(memory.address_bits() / 32);
            let segment = memory.segment() as u32;
            (
                memory.linear_address(0, &guest.gprs, &guest.vmcb.save),
                (size << 7) | (segment << 15),
            )
        }
        _ => (0, 0),
    };
    Verdict::Exit(L2Exit {
        qualification: vmx_names::io_qualification(info, insn.map(|insn| insn.opcode)),
        gla,
        instruction_info,
        // CAST: an instruction has at most 15 bytes.
        instruction_length: next_rip.wrapping_sub(guest.vmcb.save.rip) as u32,
        ..plain_exit(vp, vm, reason::IO_INSTRUCTION)
    })
}

fn debug_register(vp: &Vp, vm: VmIndex, number: u8, direction: u64) -> Verdict {
    let insn = insn(vp, vm);
    let gpr = insn.and_then(|insn| insn.modrm).map_or(0, |modrm| modrm.rm);
    Verdict::Exit(L2Exit {
        qualification: u64::from(number & 7) | direction | (u64::from(gpr) << 8),
        instruction_length: insn.map_or(0, |insn| u32::from(insn.len_bytes)),
        ..plain_exit(vp, vm, reason::DR_ACCESS)
    })
}

fn invlpg(vp: &Vp, vm: VmIndex) -> Verdict {
    let guest = &vp.l2_ref(vm).guest;
    let insn = insn(vp, vm);
    let address = insn.and_then(|insn| {
        insn.memory
            .map(|m| m.linear_address(insn.len_bytes, &guest.gprs, &guest.vmcb.save))
    });
    Verdict::Exit(L2Exit {
        qualification: address.unwrap_or(0),
        instruction_length: insn.map_or(0, |insn| u32::from(insn.len_bytes)),
        ..plain_exit(vp, vm, reason::INVLPG)
    })
}

/// SGDT, SIDT, LGDT, LIDT, SLDT, STR, LLDT and LTR: the operand is described in the instruction
/// information, bits 29:28 say which of a group of four it is.
fn descriptor_table(vp: &Vp, vm: VmIndex, exit: &SvmExit, table: Table, access: Access) -> Verdict {
    const REGISTER: u32 = 1 << 10;
    let reason = vmx_names::basic_reason(exit).unwrap_or(reason::GDTR_OR_IDTR);
    let Some(insn) = insn(vp, vm) else {
        return Verdict::Internal;
    };
    let save = &vp.l2_ref(vm).guest.vmcb.save;
    let (operand, qualification) = match (insn.memory, insn.modrm) {
        (Some(memory), _) => (
            memory.vmx_instruction_info(),
            memory.vmx_displacement(insn.len_bytes, save),
        ),
        (None, Some(modrm)) => (REGISTER | (u32::from(modrm.rm) << 3), 0),
        (None, None) => (0, 0),
    };
    let group = u32::from(matches!(table, Table::Idtr | Table::Tr));
    let loads = u32::from(access == Access::Write) << 1;
    Verdict::Exit(L2Exit {
        qualification,
        instruction_info: operand | ((loads | group) << 28),
        instruction_length: u32::from(insn.len_bytes),
        ..plain_exit(vp, vm, reason)
    })
}

fn task_switch(vp: &Vp, vm: VmIndex) -> Verdict {
    const BY_IRET: u64 = 1 << 36;
    const BY_JMP: u64 = 1 << 38;
    let control = &vp.l2_ref(vm).guest.vmcb.control;
    let selector = control.exit_info_1 & 0xffff;
    let is_gate = vp.l2_ref(vm).guest.interrupted_event().is_some();
    let source = match control.exit_info_2 {
        info if info & BY_IRET != 0 => 1,
        info if info & BY_JMP != 0 => 2,
        _ if is_gate => 3,
        _ => 0,
    };
    Verdict::Exit(L2Exit {
        qualification: selector | (source << 30),
        instruction_length: instruction_length(vp, vm),
        ..plain_exit(vp, vm, reason::TASK_SWITCH)
    })
}
