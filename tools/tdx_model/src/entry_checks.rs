// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The checks a processor makes at VM entry on the fields L1 controls [SDM3 26.2, 26.3].
//!
//! Done here because AMD's VMRUN checks other things, or the same things differently. Called at
//! each TDG.VP.ENTER, before the L2 runs.

mod segments;

use crate::Field;
use crate::td::{TdConfig, xfam};
use crate::vcpu::L2Vm;
use crate::vmcs::Vmcs;

/// Why the L2 can not be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryFailure {
    /// VMLAUNCH itself fails.
    ControlFields,
    /// The entry succeeds and a monitor trap exits at once, which the module treats as an error.
    MonitorTrap,
    /// Exit with reason 33.
    GuestState {
        /// 2 for bad PDPTEs, 3 for NMI blocking, otherwise 0.
        qualification: u64,
    },
}

/// An entry that is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// What becomes of it.
    pub(crate) failure: EntryFailure,
    /// What is wrong, for a log.
    pub(crate) what: &'static str,
    /// With which fields.
    pub(crate) fields: &'static [Field],
}

const INVALID: EntryFailure = EntryFailure::GuestState { qualification: 0 };

const VALID: u32 = 1 << 31;
const IA32E_MODE: u64 = 1 << 9;
const VIRTUAL_INTERRUPT_DELIVERY: u64 = 1 << 9;

const CR0_PE: u64 = 1 << 0;
const CR0_PG: u64 = 1 << 31;
const CR0_WP: u64 = 1 << 16;
const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_CET: u64 = 1 << 23;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_DEFINED: u64 = 0xd01;
const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_VM: u64 = 1 << 17;
/// RFLAGS: 63:22, 15, 5 and 3 must be 0, bit 1 must be 1.
const RFLAGS_RESERVED: u64 = 0xffff_ffff_ffc0_8028;

/// All checks. `vtpr` is the task-priority register of the L2's virtual-APIC page.
pub(crate) fn check(config: &TdConfig, l2: &L2Vm, vtpr: u8) -> Result<(), Refusal> {
    check_controls(&l2.vmcs, vtpr)?;
    check_registers(config, &l2.vmcs)?;
    segments::check(&l2.vmcs)?;
    check_rest(config, &l2.vmcs)
}

const fn require(
    is_met: bool,
    failure: EntryFailure,
    what: &'static str,
    fields: &'static [Field],
) -> Result<(), Refusal> {
    if is_met {
        return Ok(());
    }
    Err(Refusal {
        failure,
        what,
        fields,
    })
}

fn check_controls(v: &Vmcs, vtpr: u8) -> Result<(), Refusal> {
    use EntryFailure::ControlFields;
    const EVENT: [Field; 3] = [
        Field::EntryInterruptionInfo,
        Field::EntryErrorCode,
        Field::EntryInstructionLength,
    ];
    let is_event = is_event_well_formed(v);
    require(is_event, ControlFields, "the event to inject", &EVENT)?;
    let is_hlat = is_hlat_pointer_valid(v);
    require(is_hlat, ControlFields, "HLATP", &[Field::HlatPointer])?;
    let count = Field::Cr3TargetCount;
    let few = v.get(count) <= 4;
    require(
        few,
        ControlFields,
        "the CR3-target count",
        &[Field::Cr3TargetCount],
    )?;
    let is_threshold = is_tpr_threshold_possible(v, vtpr);
    let fields = &[Field::TprThreshold];
    require(is_threshold, ControlFields, "the TPR threshold", fields)
}

fn check_registers(config: &TdConfig, v: &Vmcs) -> Result<(), Refusal> {
    const CONTROL: [Field; 4] = [
        Field::GuestCr0,
        Field::GuestCr4,
        Field::GuestDr7,
        Field::EntryControls,
    ];
    const MSRS: [Field; 5] = [
        Field::GuestEfer,
        Field::EntryControls,
        Field::GuestPat,
        Field::GuestSysenterEsp,
        Field::GuestSysenterEip,
    ];
    const LOADED: [Field; 7] = [
        Field::GuestSCet,
        Field::GuestInterruptSspTable,
        Field::EntryControls,
        Field::GuestPkrs,
        Field::GuestLbrCtl,
        Field::GuestRtitCtl,
        Field::GuestUinv,
    ];
    let are_control = are_control_registers_valid(config, v);
    require(are_control, INVALID, "CR0, CR4 or DR7", &CONTROL)?;
    require(are_msrs_valid(v), INVALID, "EFER, PAT or SYSENTER", &MSRS)?;
    let are_loaded = are_loaded_msrs_valid(v);
    let what = "CET, PKRS, LBR, PT or user interrupts";
    require(are_loaded, INVALID, what, &LOADED)
}

fn check_rest(config: &TdConfig, v: &Vmcs) -> Result<(), Refusal> {
    const TABLES: [Field; 4] = [
        Field::GuestGdtrBase,
        Field::GuestGdtrLimit,
        Field::GuestIdtrBase,
        Field::GuestIdtrLimit,
    ];
    const FLAGS: [Field; 4] = [
        Field::GuestRip,
        Field::GuestRflags,
        Field::EntryControls,
        Field::EntryInterruptionInfo,
    ];
    const PENDING: [Field; 4] = [
        Field::GuestPendingDebug,
        Field::GuestInterruptibility,
        Field::GuestRflags,
        Field::GuestDebugctl,
    ];
    require(are_tables_valid(v), INVALID, "GDTR or IDTR", &TABLES)?;
    require(
        are_rip_and_rflags_valid(v),
        INVALID,
        "RIP or RFLAGS",
        &FLAGS,
    )?;
    require(is_ssp_valid(v), INVALID, "SSP", &[Field::GuestSsp])?;
    check_blocking(v)?;
    let is_pending = are_pending_debug_exceptions_valid(config, v);
    require(is_pending, INVALID, "pending debug exceptions", &PENDING)?;
    let bad_pdptes = EntryFailure::GuestState { qualification: 2 };
    require(are_pdptes_valid(v), bad_pdptes, "a PDPTE", &PDPTES)?;
    let is_trap = event_kind(v) == Some(7);
    require(!is_trap, EntryFailure::MonitorTrap, "a monitor trap", &[])
}

fn has(v: &Vmcs, field: Field, bits: u64) -> bool {
    v.get(field) & bits == bits
}

/// Returns true if an address is canonical for 48 linear address bits; 57 with CR4.LA57.
fn is_canonical(v: &Vmcs, address: u64) -> bool {
    let unused = if has(v, Field::GuestCr4, 1 << 12) {
        7
    } else {
        16
    };
    // CAST: arithmetic shifts extend the top linear bit.
    ((address << unused) as i64 >> unused) as u64 == address
}

/// The event to inject: type 10:8, vector 7:0, error code bit 11.
fn is_event_well_formed(v: &Vmcs) -> bool {
    let info = v.get32(Field::EntryInterruptionInfo);
    if info & VALID == 0 {
        return true;
    }
    let (kind, vector) = (info >> 8 & 7, info & 0xff);
    let is_vector_valid = match kind {
        2 => vector == 2,
        3 => vector <= 31,
        // "Other event", which is a pending monitor trap.
        7 => vector == 0,
        1 => false,
        _ => true,
    };
    let has_error_code = info & (1 << 11) != 0;
    let is_error_code_valid = !has_error_code
        || (kind == 3
            && has(v, Field::GuestCr0, CR0_PE)
            && v.get(Field::EntryErrorCode) >> 16 == 0);
    let is_length_valid = !matches!(kind, 4..=6) || v.get(Field::EntryInstructionLength) <= 15;
    info & 0x7fff_f000 == 0 && is_vector_valid && is_error_code_valid && is_length_valid
}

/// Bits 2:0 and 11:5 are reserved, as are those above the processor's physical address width. CPUID
/// tells a TD 52 bits on every processor; 46 is the smallest real width.
fn is_hlat_pointer_valid(v: &Vmcs) -> bool {
    const ENABLE_HLAT: u64 = 1 << 1;
    const RESERVED: u64 = !((1 << 46) - 1) | 0xfe7;
    !has(v, Field::TertiaryControls, ENABLE_HLAT) || v.get(Field::HlatPointer) & RESERVED == 0
}

fn is_tpr_threshold_possible(v: &Vmcs, vtpr: u8) -> bool {
    let threshold = v.get(Field::TprThreshold);
    has(v, Field::SecondaryControls, VIRTUAL_INTERRUPT_DELIVERY)
        || threshold <= u64::from(vtpr >> 4)
}

fn are_control_registers_valid(config: &TdConfig, v: &Vmcs) -> bool {
    let (cr0, cr4) = (v.get(Field::GuestCr0), v.get(Field::GuestCr4));
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_paging_sane = cr0 & CR0_PG == 0 || cr0 & CR0_PE != 0;
    let is_cet_sane = cr4 & CR4_CET == 0 || cr0 & CR0_WP != 0;
    let is_mode_sane = if is_ia32e {
        cr0 & CR0_PG != 0 && cr4 & CR4_PAE != 0
    } else {
        cr4 & CR4_PCIDE == 0
    };
    let is_granted = cr4 & CR4_CET == 0 || config.has_xfam(xfam::CET_S | xfam::CET_U);
    is_paging_sane && is_cet_sane && is_mode_sane && is_granted && v.get(Field::GuestDr7) >> 32 == 0
}

fn are_msrs_valid(v: &Vmcs) -> bool {
    let efer = v.get(Field::GuestEfer);
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_lma_sane = (efer & EFER_LMA != 0) == is_ia32e;
    let is_lme_sane =
        !has(v, Field::GuestCr0, CR0_PG) || (efer & EFER_LMA != 0) == (efer & EFER_LME != 0);
    let is_pat_valid = v
        .get(Field::GuestPat)
        .to_le_bytes()
        .iter()
        .all(|t| matches!(t, 0 | 1 | 4..=7));
    efer & !EFER_DEFINED == 0
        && is_lma_sane
        && is_lme_sane
        && is_pat_valid
        && is_canonical(v, v.get(Field::GuestSysenterEsp))
        && is_canonical(v, v.get(Field::GuestSysenterEip))
}

/// MSRs that an entry loads in every TD, whether it has the feature or not [SDM3 26.3.1.1].
fn are_loaded_msrs_valid(v: &Vmcs) -> bool {
    /// IA32_S_CET: 9:6 are reserved, SUPPRESS and TRACKER exclude each other.
    const S_CET_RESERVED: u64 = 0x3c0;
    const S_CET_SUPPRESS_TRACKER: u64 = 3 << 10;
    /// IA32_LBR_CTL: 15:4 and 63:23.
    const LBR_CTL_RESERVED: u64 = 0xffff_ffff_ff80_fff0;
    /// IA32_RTIT_CTL: 18, 23, 30:28, 54:48 and 63:57.
    const RTIT_CTL_RESERVED: u64 = 0xfe7f_0000_7084_0000;
    const UINV_RESERVED: u64 = 0xff00;
    const LOAD_PKRS: u64 = 1 << 22;
    let s_cet = v.get(Field::GuestSCet);
    let is_cet_valid = s_cet & S_CET_RESERVED == 0
        && s_cet & S_CET_SUPPRESS_TRACKER != S_CET_SUPPRESS_TRACKER
        && is_canonical(v, s_cet)
        && is_canonical(v, v.get(Field::GuestInterruptSspTable));
    let is_pkrs_valid =
        !has(v, Field::EntryControls, LOAD_PKRS) || v.get(Field::GuestPkrs) >> 32 == 0;
    is_cet_valid
        && is_pkrs_valid
        && v.get(Field::GuestLbrCtl) & LBR_CTL_RESERVED == 0
        && v.get(Field::GuestRtitCtl) & RTIT_CTL_RESERVED == 0
        && v.get(Field::GuestUinv) & UINV_RESERVED == 0
}

/// SSP is aligned to 4 bytes and canonical [SDM3 26.3.1.4].
fn is_ssp_valid(v: &Vmcs) -> bool {
    let ssp = v.get(Field::GuestSsp);
    ssp & 3 == 0 && is_canonical(v, ssp)
}

/// Pending debug exceptions have no reserved bits; after STI or MOV SS, single-step is pending if and
/// only if the L2 steps [SDM3 26.3.1.5].
fn are_pending_debug_exceptions_valid(config: &TdConfig, v: &Vmcs) -> bool {
    /// 10:4, 13, 15 and 63:17.
    const RESERVED: u64 = 0xffff_ffff_fffe_a7f0;
    const ENABLED: u64 = 1 << 12;
    const BS: u64 = 1 << 14;
    const RTM: u64 = 1 << 16;
    const DEBUGCTL_BTF: u64 = 1 << 1;
    let pending = v.get(Field::GuestPendingDebug);
    let blocking = v.get(Field::GuestInterruptibility);
    let steps =
        has(v, Field::GuestRflags, RFLAGS_TF) && !has(v, Field::GuestDebugctl, DEBUGCTL_BTF);
    let is_bs_valid = blocking & 3 == 0 || (pending & BS != 0) == steps;
    let is_rtm_valid = pending & RTM == 0
        || (pending & !RTM == ENABLED && config.cpu.has_tsx && blocking & 2 == 0);
    pending & RESERVED == 0 && is_bs_valid && is_rtm_valid
}

fn are_tables_valid(v: &Vmcs) -> bool {
    let is_base_valid = |f| is_canonical(v, v.get(f));
    let is_limit_valid = |f| v.get(f) >> 16 == 0;
    is_base_valid(Field::GuestGdtrBase)
        && is_base_valid(Field::GuestIdtrBase)
        && is_limit_valid(Field::GuestGdtrLimit)
        && is_limit_valid(Field::GuestIdtrLimit)
}

fn are_rip_and_rflags_valid(v: &Vmcs) -> bool {
    let rflags = v.get(Field::GuestRflags);
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_64_bit = is_ia32e && has(v, Field::GuestCsAccess, 1 << 13);
    let rip = v.get(Field::GuestRip);
    let is_rip_valid = if is_64_bit {
        is_canonical(v, rip)
    } else {
        rip >> 32 == 0
    };
    let allows_v86 = !is_ia32e && has(v, Field::GuestCr0, CR0_PE);
    let is_vm_valid = rflags & RFLAGS_VM == 0 || allows_v86;
    let needs_if = event_kind(v) == Some(0);
    is_rip_valid
        && rflags & RFLAGS_RESERVED == 0
        && rflags & 2 != 0
        && is_vm_valid
        && (!needs_if || rflags & RFLAGS_IF != 0)
}

/// The type of the event to inject.
fn event_kind(v: &Vmcs) -> Option<u32> {
    let info = v.get32(Field::EntryInterruptionInfo);
    (info & VALID != 0).then_some(info >> 8 & 7)
}

fn check_blocking(v: &Vmcs) -> Result<(), Refusal> {
    const WHAT: &str = "the interruptibility state";
    const FIELDS: [Field; 3] = [
        Field::GuestInterruptibility,
        Field::GuestRflags,
        Field::EntryInterruptionInfo,
    ];
    let blocking = v.get(Field::GuestInterruptibility);
    let (by_sti, by_mov_ss, by_nmi) = (blocking & 1 != 0, blocking & 2 != 0, blocking & 8 != 0);
    let kind = event_kind(v);
    // Bit 2, blocking by SMI, and bits above 4 can not be.
    let is_shape_valid = blocking & !0x1b == 0 && !(by_sti && by_mov_ss);
    let is_sti_valid = !by_sti || has(v, Field::GuestRflags, RFLAGS_IF);
    let is_interrupt_valid = kind != Some(0) || !(by_sti || by_mov_ss);
    let is_valid = is_shape_valid && is_sti_valid && is_interrupt_valid;
    require(is_valid, INVALID, WHAT, &FIELDS)?;
    let is_nmi_valid = kind != Some(2) || !(by_mov_ss || by_nmi);
    let failure = EntryFailure::GuestState { qualification: 3 };
    require(is_nmi_valid, failure, WHAT, &FIELDS)
}

const PDPTES: [Field; 4] = [Field::Pdpte0, Field::Pdpte1, Field::Pdpte2, Field::Pdpte3];

fn are_pdptes_valid(v: &Vmcs) -> bool {
    const PRESENT: u64 = 1;
    const RESERVED: u64 = 0xffff_0000_0000_01e6;
    let is_pae = has(v, Field::GuestCr0, CR0_PG)
        && has(v, Field::GuestCr4, CR4_PAE)
        && !has(v, Field::EntryControls, IA32E_MODE);
    let is_valid = |f| v.get(f) & PRESENT == 0 || v.get(f) & RESERVED == 0;
    !is_pae || PDPTES.into_iter().all(is_valid)
}

#[cfg(test)]
mod tests;
