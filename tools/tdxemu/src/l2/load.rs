// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VMCS to VMCB, before each run of an L2: controls become intercepts, guest state is copied.

use super::{event, msr, vapic};
use crate::cpu;
use crate::l1;
use crate::run::not_modelled;
use crate::vp::Vp;
use svm::intercept::{Exceptions, Misc1, Misc2};
use svm::segment;
use svm::vmcb::{Control, INTERRUPT_SHADOW, Save, Segment};
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::vmcs::Vmcs;

/// Primary processor-based controls the emulator acts on. [SDM3 24.6.2]
pub(super) mod primary {
    pub(in crate::l2) const INTERRUPT_WINDOW: u32 = 1 << 2;
    pub(in crate::l2) const INVLPG: u32 = 1 << 9;
    pub(in crate::l2) const RDPMC: u32 = 1 << 11;
    pub(in crate::l2) const RDTSC: u32 = 1 << 12;
    pub(in crate::l2) const CR3_LOAD: u32 = 1 << 15;
    pub(in crate::l2) const CR3_STORE: u32 = 1 << 16;
    pub(in crate::l2) const CR8_LOAD: u32 = 1 << 19;
    pub(in crate::l2) const CR8_STORE: u32 = 1 << 20;
    pub(in crate::l2) const NMI_WINDOW: u32 = 1 << 22;
    pub(in crate::l2) const MOV_DR: u32 = 1 << 23;
    pub(in crate::l2) const MONITOR_TRAP: u32 = 1 << 27;
    pub(in crate::l2) const PAUSE: u32 = 1 << 30;
}

/// Secondary processor-based controls the emulator acts on.
pub(super) mod secondary {
    pub(in crate::l2) const DESCRIPTOR_TABLES: u32 = 1 << 2;
    pub(in crate::l2) const VIRTUAL_INTERRUPT_DELIVERY: u32 = 1 << 9;
    /// Exits on RDRAND and RDSEED, for which SVM has no intercept.
    pub(in crate::l2) const RANDOM: u32 = (1 << 11) | (1 << 16);
}

/// Tertiary processor-based controls the emulator cannot follow.
mod tertiary {
    /// HLAT, EPT paging-write control, guest-paging verification.
    pub(super) const LINEAR_TRANSLATION: u64 = 7 << 1;
}

/// CR4.VMXE is set in an L2, as in any VMX guest; SVM has no such bit.
pub(super) const CR4_VMXE: u64 = 1 << 13;
/// Interruptibility: blocking by STI and by MOV SS.
pub(super) const BLOCKING_STI_MOV_SS: u64 = 3;
/// Interruptibility: blocking by NMI.
pub(super) const BLOCKING_NMI: u64 = 1 << 3;

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;

/// Fills the VMCB and the registers of an L2.
pub fn load(vp: &mut Vp, vm: VmIndex) {
    let vmcs = &vp.model.l2(vm).vmcs;
    if vmcs.get32(Field::SecondaryControls) & secondary::RANDOM != 0 {
        not_modelled(vp, format_args!("exiting on RDRAND or RDSEED"));
    }
    if vmcs.get(Field::TertiaryControls) & tertiary::LINEAR_TRANSLATION != 0 {
        not_modelled(vp, format_args!("translation of linear addresses by L1"));
    }
    msr::refresh_msrpm(vp, vm);
    let l2 = vp.model.l2(vm);
    let (vmcs, gprs) = (&l2.vmcs, l2.gprs);
    let context = &mut vp.l2[usize::from(vm.number() - 1)];
    context.guest.gprs = l1::from_model(&gprs);
    context.guest.gprs.rsp = vmcs.get(Field::GuestRsp);
    load_state(vmcs, &mut context.guest.vmcb.save);
    load_controls(vmcs, &mut context.guest.vmcb.control);
    let base_pa = vp.nested_base_pa(vm);
    let nested_cr3 = vp.overlay.root_pa(base_pa, vp.shared.flushes());
    vp.l2_mut(vm).guest.vmcb.control.nested_cr3 = nested_cr3;
    vapic::load(vp, vm);
    event::load(vp, vm);
}

macro_rules! segment {
    ($vmcs:expr, $selector:ident, $access:ident, $limit:ident, $base:ident) => {
        Segment {
            // CAST: the field is 16 bits wide.
            selector: $vmcs.get(Field::$selector) as u16,
            attributes: segment::attributes($vmcs.get32(Field::$access)),
            limit: $vmcs.get32(Field::$limit),
            base: $vmcs.get(Field::$base),
        }
    };
}

fn load_state(vmcs: &Vmcs, save: &mut Save) {
    save.es = segment!(
        vmcs,
        GuestEsSelector,
        GuestEsAccess,
        GuestEsLimit,
        GuestEsBase
    );
    save.cs = segment!(
        vmcs,
        GuestCsSelector,
        GuestCsAccess,
        GuestCsLimit,
        GuestCsBase
    );
    save.ss = segment!(
        vmcs,
        GuestSsSelector,
        GuestSsAccess,
        GuestSsLimit,
        GuestSsBase
    );
    save.ds = segment!(
        vmcs,
        GuestDsSelector,
        GuestDsAccess,
        GuestDsLimit,
        GuestDsBase
    );
    save.fs = segment!(
        vmcs,
        GuestFsSelector,
        GuestFsAccess,
        GuestFsLimit,
        GuestFsBase
    );
    save.gs = segment!(
        vmcs,
        GuestGsSelector,
        GuestGsAccess,
        GuestGsLimit,
        GuestGsBase
    );
    save.ldtr = segment!(
        vmcs,
        GuestLdtrSelector,
        GuestLdtrAccess,
        GuestLdtrLimit,
        GuestLdtrBase
    );
    save.tr = segment!(
        vmcs,
        GuestTrSelector,
        GuestTrAccess,
        GuestTrLimit,
        GuestTrBase
    );
    save.gdtr.base = vmcs.get(Field::GuestGdtrBase);
    save.gdtr.limit = vmcs.get32(Field::GuestGdtrLimit);
    save.idtr.base = vmcs.get(Field::GuestIdtrBase);
    save.idtr.limit = vmcs.get32(Field::GuestIdtrLimit);
    save.cr0 = vmcs.get(Field::GuestCr0);
    save.cr3 = vmcs.get(Field::GuestCr3);
    save.cr4 = vmcs.get(Field::GuestCr4) & !CR4_VMXE;
    save.efer = vmcs.get(Field::GuestEfer) | cpu::msr::EFER_SVME;
    save.dr7 = vmcs.get(Field::GuestDr7);
    save.rip = vmcs.get(Field::GuestRip);
    save.rflags = vmcs.get(Field::GuestRflags);
    save.g_pat = vmcs.get(Field::GuestPat);
    save.sysenter_cs = vmcs.get(Field::GuestSysenterCs);
    save.sysenter_esp = vmcs.get(Field::GuestSysenterEsp);
    save.sysenter_eip = vmcs.get(Field::GuestSysenterEip);
    // VMX derives the privilege level from SS; SVM has a field for it.
    save.cpl = if save.cr0 & CR0_PE == 0 {
        0
    } else if save.rflags & RFLAGS_VM != 0 {
        3
    } else {
        ((vmcs.get(Field::GuestSsAccess) >> 5) & 3) as u8 // CAST: two bits
    };
}

fn load_controls(vmcs: &Vmcs, control: &mut Control) {
    let (first, second) = (
        vmcs.get32(Field::PrimaryControls),
        vmcs.get32(Field::SecondaryControls),
    );
    let bitmap = vmcs.get32(Field::ExceptionBitmap);
    let has_pf_filter = vmcs.get32(Field::PfErrorMask) != 0 || vmcs.get32(Field::PfErrorMatch) != 0;
    // #UD is how VMCALL and TDCALL arrive.
    let mut exceptions = Exceptions::from_bits_retain(bitmap) | Exceptions::UD;
    exceptions.set(
        Exceptions::PF,
        exceptions.contains(Exceptions::PF) || has_pf_filter,
    );
    control.intercept_exceptions = exceptions;

    const SOFTWARE_EXCEPTIONS: u32 = (1 << 3) | (1 << 4);
    let mut misc1 = Misc1::INTR
        | Misc1::NMI
        | Misc1::CPUID
        | Misc1::HLT
        | Misc1::IOIO
        | Misc1::MSR
        | Misc1::INVD
        | Misc1::RSM
        | Misc1::TASK_SWITCH
        | Misc1::SHUTDOWN;
    let is_nmi_blocked = vmcs.get(Field::GuestInterruptibility) & BLOCKING_NMI != 0;
    let tables = Misc1::IDTR_READ
        | Misc1::IDTR_WRITE
        | Misc1::GDTR_READ
        | Misc1::GDTR_WRITE
        | Misc1::LDTR_READ
        | Misc1::LDTR_WRITE
        | Misc1::TR_READ
        | Misc1::TR_WRITE;
    misc1.set(Misc1::RDTSC, first & primary::RDTSC != 0);
    misc1.set(Misc1::RDPMC, first & primary::RDPMC != 0);
    misc1.set(Misc1::INVLPG, first & primary::INVLPG != 0);
    misc1.set(Misc1::PAUSE, first & primary::PAUSE != 0);
    misc1.set(Misc1::IRET, is_nmi_blocked);
    misc1.set(Misc1::INTN, bitmap & SOFTWARE_EXCEPTIONS != 0);
    misc1.set(tables, second & secondary::DESCRIPTOR_TABLES != 0);
    control.intercept_misc1 = misc1;
    control.intercept_misc2 =
        Misc2::SVM_INSTRUCTIONS | Misc2::WBINVD | Misc2::MONITOR | Misc2::MWAIT | Misc2::XSETBV;
    control
        .intercept_misc2
        .set(Misc2::RDTSCP, first & primary::RDTSC != 0);
    load_register_intercepts(vmcs, control, first, second);
    let blocking = vmcs.get(Field::GuestInterruptibility) & BLOCKING_STI_MOV_SS;
    control.int_state = if blocking != 0 { INTERRUPT_SHADOW } else { 0 };
}

fn load_register_intercepts(vmcs: &Vmcs, control: &mut Control, first: u32, second: u32) {
    const CR0: u16 = 1;
    const CR3: u16 = 1 << 3;
    const CR4: u16 = 1 << 4;
    const CR8: u16 = 1 << 8;
    let reads_differ = vmcs.visible_cr0() != vmcs.get(Field::GuestCr0)
        || vmcs.visible_cr4() != vmcs.get(Field::GuestCr4) & !CR4_VMXE;
    let wants_read = first & (primary::CR3_STORE | primary::CR8_STORE) != 0;
    // TCG checks only bit 0, for reads of any register.
    control.intercept_cr_read = if reads_differ || wants_read {
        CR0 | CR3 | CR4 | CR8
    } else {
        0
    };
    let has_vid = second & secondary::VIRTUAL_INTERRUPT_DELIVERY != 0;
    let has_threshold = !has_vid && vmcs.get(Field::TprThreshold) != 0;
    let mut writes = CR0 | CR4;
    if first & primary::CR3_LOAD != 0 {
        writes |= CR3;
    }
    if first & primary::CR8_LOAD != 0 || has_threshold {
        writes |= CR8;
    }
    control.intercept_cr_write = writes;
    let debug_registers = if first & primary::MOV_DR != 0 {
        0xffff
    } else {
        0
    };
    control.intercept_dr_read = debug_registers;
    control.intercept_dr_write = debug_registers;
}
