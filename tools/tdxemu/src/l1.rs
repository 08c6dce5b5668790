// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What L1 stopped for: TDCALL, which arrives as #UD, and everything a TD gets a #VE for.
//!
//! [ABI "What L1 itself experiences"]

use crate::console::End;
use crate::cpu::{self, msr};
use crate::extra_msrs;
use crate::fetch::{decode, fetch};
use crate::host;
use crate::l1_apic;
use crate::log;
use crate::machine::Processor;
use crate::run::{end_by_l1, not_modelled};
use crate::setup::World;
use crate::smp;
use crate::stats;
use crate::vp::Vp;
use crate::xfd;
use svm::SvmExit;
use svm::exit::{IoInfo, NpfError};
use svm::msrpm::Access;
use svm::vmx_names::{self, reason};
use tdx_model::cpuid::{CpuidOutcome, CpuidRequest, CpuidResult};
use tdx_model::dispatch::{self, Caller, Outcome};
use tdx_model::gprs::Gprs;
use tdx_model::msr::{Direction, MsrAction};
use tdx_model::status::{Operand, Status};
use tdx_model::ve::{Category, L1EptOutcome, L1EptViolation, VeInfo};

const TDCALL: [u8; 4] = [0x66, 0x0f, 0x01, 0xcc];
/// RAX of TDG.MR.RTMR.EXTEND.
const RTMR_EXTEND: u64 = 2;
const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];

/// Runs L1 once and handles its exit.
pub fn step(vp: &mut Vp) {
    let exit = vp.run_guest(None);
    let interrupted = vp.l1.interrupted_event();
    match exit {
        SvmExit::Exception { vector: 6, .. } => undefined_opcode(vp),
        SvmExit::Cpuid => cpuid(vp),
        SvmExit::Io { info, next_rip } => io(vp, info, next_rip),
        SvmExit::Msr(access) => msr(vp, access),
        SvmExit::Npf { error, gpa } => ept_violation(vp, error, gpa),
        SvmExit::Hlt | SvmExit::Wbinvd | SvmExit::Invd | SvmExit::Monitor | SvmExit::Mwait => {
            plain_ve(vp, &exit)
        }
        SvmExit::Nmi => {
            if vp.take_nmi() {
                vp.inject_nmi();
            }
        }
        SvmExit::Vmmcall | SvmExit::SvmInstruction | SvmExit::Rsm => vp.inject_ud(),
        SvmExit::Shutdown => shutdown(vp),
        _ => not_modelled(vp, format_args!("L1 exit {exit:x?}")),
    }
    // An event whose delivery was interrupted is delivered again, unless the cause of the
    // interruption turned into an event itself.
    if let Some(event) = interrupted {
        let ours = vp.l1.vmcb.control.event_inj;
        if ours.is_valid() {
            not_modelled(
                vp,
                format_args!("{ours:x?} during the delivery of {event:x?}"),
            );
        }
        vp.l1.inject(event);
    }
}

/// A kernel that does not know TDX gets its first #VE before it has a handler.
fn shutdown(vp: &Vp) -> ! {
    let hint = match stats::has_tdcalls() {
        true => "",
        false => "; it has made no TDCALL: is it a Linux with CONFIG_INTEL_TDX_GUEST=y?",
    };
    end_by_l1(
        End::L1,
        format_args!("L1 shut down (triple fault) at {:#x}{hint}", vp.rip()),
    )
}

/// L1's registers in the model's form.
pub fn gprs(vp: &Vp) -> Gprs {
    let g = &vp.l1.gprs;
    to_model(g)
}

/// Converts between the two register files, field by field: each exit does this.
macro_rules! convert {
    ($from:expr, $to:ident) => {{
        let g = $from;
        $to {
            rax: g.rax,
            rcx: g.rcx,
            rdx: g.rdx,
            rbx: g.rbx,
            rsp: g.rsp,
            rbp: g.rbp,
            rsi: g.rsi,
            rdi: g.rdi,
            r8: g.r8,
            r9: g.r9,
            r10: g.r10,
            r11: g.r11,
            r12: g.r12,
            r13: g.r13,
            r14: g.r14,
            r15: g.r15,
        }
    }};
}

/// The model's form of a register file.
pub fn to_model(g: &svm::Gprs) -> Gprs {
    convert!(g, Gprs)
}

/// The other way round.
pub fn from_model(g: &Gprs) -> svm::Gprs {
    use svm::Gprs as Svm;
    convert!(g, Svm)
}

fn undefined_opcode(vp: &mut Vp) {
    let fetched = fetch(&vp.l1, &vp.platform.memory);
    if fetched.bytes().starts_with(&TDCALL) {
        tdcall(vp);
    } else if fetched.bytes().starts_with(&VMCALL) {
        let instruction_length = VMCALL.len() as u32;
        vp.raise_ve(VeInfo {
            reason: reason::VMCALL,
            instruction_length,
            category: Category::NonConfigParavirt,
            ..VeInfo::default()
        });
    } else {
        vp.inject_ud();
    }
}

/// Completes a TDCALL of L1.
pub fn complete_tdcall(vp: &mut Vp, gprs: &Gprs) {
    vp.l1.gprs = from_model(gprs);
    vp.l1.skip_instruction(TDCALL.len() as u64);
}

fn tdcall(vp: &mut Vp) {
    let mut gprs = gprs(vp);
    vp.shared.stats.count_leaf(gprs.rax);
    let caller = Caller {
        cpl: vp.l1.vmcb.save.cpl,
        long_mode_64: vp.l1.is_64_bit(),
    };
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    let mut processor = Processor::new(vp, spaces);
    let outcome = match gprs.rax {
        RTMR_EXTEND if host::debug_port::refuses_extend() => {
            gprs.rax = Status::invalid(Operand::Rax).0;
            Outcome::Complete
        }
        _ => dispatch::tdcall(td, vp.model, &mut gprs, caller, &mut processor),
    };
    processor.finish();
    drop(world);
    match outcome {
        Outcome::Complete => {
            let leaf = vp.l1.gprs.rax;
            if gprs.rax >> 63 != 0 {
                log!(
                    Debug,
                    "{} refused with {:#x} at {:#x}",
                    dispatch::leaf_name(leaf as u16).unwrap_or("unknown leaf"), // CAST: leaf
                    gprs.rax,
                    vp.rip()
                );
            }
            complete_tdcall(vp, &gprs);
        }
        Outcome::InjectGp => vp.inject_gp(),
        Outcome::InjectVe => vp.inject_ve(),
        Outcome::InjectDf => vp.inject_df(),
        // RIP stays: L1 takes its interrupt, then executes the call again.
        Outcome::Interrupted => vp.l1.gprs = from_model(&gprs),
        Outcome::Vmcall { mask } => {
            let mut view = gprs.selected(mask);
            host::vmcall(vp, &mut view);
            gprs.merge(&view, mask);
            dispatch::vmcall_done(&mut gprs);
            complete_tdcall(vp, &gprs);
        }
        Outcome::TdExit(exit) => host::l1_td_exit(vp, exit),
        Outcome::Fatal(why) => end_by_l1(End::L1, format_args!("{why}, at {:#x}", vp.rip())),
        Outcome::EnterL2(vm) => crate::l2::enter(vp, vm),
    }
}

fn cpuid(vp: &mut Vp) {
    let cpl = vp.l1.vmcb.save.cpl;
    // CAST: CPUID takes 32-bit inputs.
    let (leaf, subleaf) = (vp.l1.gprs.rax as u32, vp.l1.gprs.rcx as u32);
    let request = CpuidRequest {
        leaf,
        subleaf,
        native: native_cpuid(vp, tdx_model::cpuid::effective_leaf(leaf), subleaf),
        native_max_basic: cpu::cpuid(0, 0).eax,
        cpl,
    };
    let world = vp.platform.world();
    let outcome = tdx_model::cpuid::l1_cpuid(&world.td, vp.model, &request);
    drop(world);
    let len_bytes = decode(&vp.l1, &vp.platform.memory).map_or(2, |insn| insn.len_bytes);
    match outcome {
        CpuidOutcome::Value(mut value) => {
            fix_up_cpuid(vp, leaf, &mut value);
            l1_apic::renumber_cpuid(leaf, vp.index, smp::count(), &mut value);
            let gprs = &mut vp.l1.gprs;
            gprs.rax = u64::from(value.eax);
            gprs.rbx = u64::from(value.ebx);
            gprs.rcx = u64::from(value.ecx);
            gprs.rdx = u64::from(value.edx);
            vp.l1.skip_instruction(u64::from(len_bytes));
        }
        CpuidOutcome::Ve(category) => vp.raise_ve(VeInfo {
            reason: reason::CPUID,
            instruction_length: u32::from(len_bytes),
            category,
            ..VeInfo::default()
        }),
    }
}

/// What the processor answers, with the registers that the emulator adds to it.
fn native_cpuid(vp: &Vp, leaf: u32, subleaf: u32) -> CpuidResult {
    let native = cpu::cpuid(leaf, subleaf);
    let mut native = CpuidResult {
        eax: native.eax,
        ebx: native.ebx,
        ecx: native.ecx,
        edx: native.edx,
    };
    if vp.platform.config.has_extra_msrs {
        extra_msrs::announce(leaf, subleaf, &mut native);
    }
    native
}

/// Bits of CPUID that mirror L1's control registers; the emulator's own were read natively.
fn fix_up_cpuid(vp: &Vp, leaf: u32, value: &mut CpuidResult) {
    const OSXSAVE: u32 = 1 << 27;
    const OSPKE: u32 = 1 << 4;
    let cr4 = vp.l1.vmcb.save.cr4;
    let mirror = |word: u32, mask: u32, cr4_bit: u32| {
        if (cr4 >> cr4_bit) & 1 != 0 {
            word | mask
        } else {
            word & !mask
        }
    };
    match leaf {
        1 => value.ecx = mirror(value.ecx, OSXSAVE, 18),
        7 => value.ecx = mirror(value.ecx, OSPKE, 22),
        _ => {}
    }
}

/// A #VE that carries nothing but its reason.
fn plain_ve(vp: &mut Vp, exit: &SvmExit) {
    let Some(reason) = vmx_names::basic_reason(exit) else {
        not_modelled(vp, format_args!("L1 exit {exit:x?}"))
    };
    let insn = decode(&vp.l1, &vp.platform.memory);
    let instruction_length = insn.map_or(0, |insn| u32::from(insn.len_bytes));
    vp.raise_ve(VeInfo {
        reason,
        instruction_length,
        category: Category::NonConfigParavirt,
        ..VeInfo::default()
    });
}

fn io(vp: &mut Vp, info: IoInfo, next_rip: u64) {
    let opcode = decode(&vp.l1, &vp.platform.memory).map(|insn| insn.opcode);
    // CAST: an instruction has at most 15 bytes.
    let instruction_length = next_rip.wrapping_sub(vp.rip()) as u32;
    vp.raise_ve(VeInfo {
        reason: reason::IO_INSTRUCTION,
        qualification: vmx_names::io_qualification(info, opcode),
        instruction_length,
        category: Category::NonConfigParavirt,
        ..VeInfo::default()
    });
}

fn msr(vp: &mut Vp, access: Access) {
    let gprs = &vp.l1.gprs;
    // CAST: RDMSR and WRMSR use the low halves.
    let (index, low) = (gprs.rcx as u32, gprs.rax as u32);
    let value = (gprs.rdx << 32) | u64::from(low);
    let direction = match access {
        Access::Read => Direction::Read,
        Access::Write => Direction::Write(value),
    };
    let len_bytes = decode(&vp.l1, &vp.platform.memory).map_or(2, |insn| insn.len_bytes);
    let efer = vp.l1.vmcb.save.efer & !msr::EFER_SVME;
    let world = vp.platform.world();
    let action = tdx_model::msr::l1_msr(&world.td, vp.model, index, direction, efer);
    drop(world);
    let done = match action {
        MsrAction::Native => native_msr(vp, index, direction),
        MsrAction::Value(value) => Some(value),
        MsrAction::SetEfer(value) => {
            let lma = vp.l1.vmcb.save.efer & msr::EFER_LMA;
            vp.l1.vmcb.save.efer = (value & !msr::EFER_LMA) | lma | msr::EFER_SVME;
            Some(0)
        }
        MsrAction::SetXss(value) if vp.extra_msrs.has(index) => {
            vp.extra_msrs.write(index, value).map(|()| 0)
        }
        MsrAction::SetXss(value) => host::msr::write_natively(index, value).map(|()| 0),
        MsrAction::Gp => None,
        MsrAction::Written => Some(0),
        MsrAction::Ve(category) => {
            let reason = match access {
                Access::Read => reason::RDMSR,
                Access::Write => reason::WRMSR,
            };
            let instruction_length = u32::from(len_bytes);
            return vp.raise_ve(VeInfo {
                reason,
                instruction_length,
                category,
                ..VeInfo::default()
            });
        }
    };
    match done {
        Some(value) => {
            if access == Access::Read {
                vp.l1.gprs.rax = value & 0xffff_ffff;
                vp.l1.gprs.rdx = value >> 32;
            }
            vp.l1.skip_instruction(u64::from(len_bytes));
        }
        None => vp.inject_gp(),
    }
}

/// What the processor would have done, for registers that SVM makes the emulator intercept.
fn native_msr(vp: &mut Vp, index: u32, direction: Direction) -> Option<u64> {
    match (index, direction) {
        (msr::EFER, Direction::Read) => Some(vp.l1.vmcb.save.efer & !msr::EFER_SVME),
        (_, Direction::Read) if vp.extra_msrs.has(index) => vp.extra_msrs.read(index),
        (_, Direction::Write(value)) if vp.extra_msrs.has(index) => {
            xfd::write_extra_msr(vp, index, value).map(|()| 0)
        }
        (_, Direction::Read) => msr::try_read(index),
        (_, Direction::Write(value)) => host::msr::write_natively(index, value).map(|()| 0),
    }
}

fn ept_violation(vp: &mut Vp, error: NpfError, gpa: u64) {
    let insn = decode(&vp.l1, &vp.platform.memory);
    let save = &vp.l1.vmcb.save;
    let gla = match insn {
        _ if error.is_fetch() => Some(save.rip),
        // SVM does not report the linear address; the operand of the instruction gives it.
        Some(insn) if !error.is_table_walk() => insn
            .memory
            .map(|m| m.linear_address(insn.len_bytes, &vp.l1.gprs, save)),
        _ => None,
    };
    let violation = L1EptViolation {
        gpa,
        gla,
        qualification: vmx_names::ept_qualification(error, None, gla.is_some()),
        instruction_length: insn.map_or(0, |insn| u32::from(insn.len_bytes)),
        instruction_info: 0,
    };
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    let outcome = tdx_model::ve::l1_ept_violation(td, vp.model, &violation);
    if outcome == L1EptOutcome::Retry {
        host::map_again(td, spaces, gpa);
    }
    drop(world);
    match outcome {
        L1EptOutcome::Retry => {}
        L1EptOutcome::InjectPfReserved => {
            const PRESENT_RESERVED: u32 = 1 | (1 << 3);
            let write = u32::from(error.is_write()) << 1;
            let user = u32::from(vp.l1.vmcb.save.cpl == 3) << 2;
            vp.inject_pf(PRESENT_RESERVED | write | user, gla.unwrap_or(0));
        }
        L1EptOutcome::InjectVe => vp.inject_ve(),
        L1EptOutcome::InjectDf => vp.inject_df(),
        L1EptOutcome::TdExit(exit) => host::l1_td_exit(vp, exit),
    }
}
