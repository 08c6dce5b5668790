// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The checks a processor makes at VM entry on the fields L1 controls [SDM3 26.2, 26.3].
//!
//! Done here because AMD's VMRUN checks other things, or the same things differently. Called at
//! each TDG.VP.ENTER, before the L2 runs.

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
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_VM: u64 = 1 << 17;
/// RFLAGS: 63:22, 15, 5 and 3 must be 0, bit 1 must be 1.
const RFLAGS_RESERVED: u64 = 0xffff_ffff_ffc0_8028;

/// All checks. `vtpr` is the task-priority register of the L2's virtual-APIC page.
pub(crate) fn check(config: &TdConfig, l2: &L2Vm, vtpr: u8) -> Result<(), Refusal> {
    check_controls(&l2.vmcs, vtpr)?;
    check_registers(config, &l2.vmcs)?;
    check_segments(&l2.vmcs)?;
    check_rest(&l2.vmcs)
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
    let are_control = are_control_registers_valid(config, v);
    require(are_control, INVALID, "CR0, CR4 or DR7", &CONTROL)?;
    require(are_msrs_valid(v), INVALID, "EFER, PAT or SYSENTER", &MSRS)
}

fn check_rest(v: &Vmcs) -> Result<(), Refusal> {
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
    require(are_tables_valid(v), INVALID, "GDTR or IDTR", &TABLES)?;
    require(
        are_rip_and_rflags_valid(v),
        INVALID,
        "RIP or RFLAGS",
        &FLAGS,
    )?;
    check_blocking(v)?;
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

/// One segment register.
#[derive(Clone, Copy)]
struct Segment {
    selector: u64,
    base: u64,
    limit: u64,
    access: u64,
}

impl Segment {
    fn read(v: &Vmcs, fields: [Field; 4]) -> Self {
        let [selector, base, limit, access] = fields.map(|f| v.get(f));
        Self {
            selector,
            base,
            limit,
            access,
        }
    }

    const fn kind(self) -> u64 {
        self.access & 0xf
    }

    const fn dpl(self) -> u64 {
        self.access >> 5 & 3
    }

    const fn is_usable(self) -> bool {
        self.access & 1 << 16 == 0
    }

    /// Present, of the given S bit, reserved bits clear, granularity in line with the limit.
    const fn is_well_formed(self, is_code_or_data: bool) -> bool {
        let is_s = self.access >> 4 & 1 != 0;
        let is_present = self.access >> 7 & 1 != 0;
        let is_granular = self.access >> 15 & 1 != 0;
        let is_limit_sane = if is_granular {
            self.limit & 0xfff == 0xfff
        } else {
            self.limit >> 20 == 0
        };
        is_s == is_code_or_data && is_present && self.access & 0xfffe_0f00 == 0 && is_limit_sane
    }

    const fn is_base_low(self) -> bool {
        self.base >> 32 == 0
    }
}

/// The fields of a segment register.
macro_rules! fields {
    ($selector:ident, $base:ident, $limit:ident, $access:ident) => {
        [
            Field::$selector,
            Field::$base,
            Field::$limit,
            Field::$access,
        ]
    };
}

const ES: [Field; 4] = fields!(GuestEsSelector, GuestEsBase, GuestEsLimit, GuestEsAccess);
const CS: [Field; 4] = fields!(GuestCsSelector, GuestCsBase, GuestCsLimit, GuestCsAccess);
const SS: [Field; 4] = fields!(GuestSsSelector, GuestSsBase, GuestSsLimit, GuestSsAccess);
const DS: [Field; 4] = fields!(GuestDsSelector, GuestDsBase, GuestDsLimit, GuestDsAccess);
const FS: [Field; 4] = fields!(GuestFsSelector, GuestFsBase, GuestFsLimit, GuestFsAccess);
const GS: [Field; 4] = fields!(GuestGsSelector, GuestGsBase, GuestGsLimit, GuestGsAccess);
const TR: [Field; 4] = fields!(GuestTrSelector, GuestTrBase, GuestTrLimit, GuestTrAccess);
const LDTR: [Field; 4] = fields!(
    GuestLdtrSelector,
    GuestLdtrBase,
    GuestLdtrLimit,
    GuestLdtrAccess
);
/// CS and the privilege level that it has to agree with.
const CS_AND_SS: [Field; 6] = [
    Field::GuestCsSelector,
    Field::GuestCsBase,
    Field::GuestCsLimit,
    Field::GuestCsAccess,
    Field::GuestSsAccess,
    Field::EntryControls,
];

fn check_segments(v: &Vmcs) -> Result<(), Refusal> {
    const NOT_CANONICAL: &str = "a base that is not canonical";
    const ABOVE_4G: &str = "a base above 4 GiB";
    let read = |fields| Segment::read(v, fields);
    for fields in [&FS, &GS, &TR] {
        let is_base = is_canonical(v, read(*fields).base);
        require(is_base, INVALID, NOT_CANONICAL, fields)?;
    }
    let ldtr = read(LDTR);
    let is_base = !ldtr.is_usable() || is_canonical(v, ldtr.base);
    require(is_base, INVALID, NOT_CANONICAL, &LDTR)?;
    if has(v, Field::GuestRflags, RFLAGS_VM) {
        for fields in [&ES, &CS, &SS, &DS, &FS, &GS] {
            let s = read(*fields);
            let is_valid = s.base == s.selector << 4 && s.limit == 0xffff && s.access == 0xf3;
            require(is_valid, INVALID, "a segment of virtual-8086 mode", fields)?;
        }
    } else {
        let (cs, ss) = (read(CS), read(SS));
        require(cs.is_base_low(), INVALID, ABOVE_4G, &CS)?;
        let is_code = is_code_segment_valid(v, cs, ss);
        require(is_code, INVALID, "a code segment", &CS_AND_SS)?;
        let is_stack = is_stack_segment_valid(v, cs, ss);
        require(is_stack, INVALID, "a stack segment", &SS)?;
        for fields in [&ES, &DS] {
            let s = read(*fields);
            require(!s.is_usable() || s.is_base_low(), INVALID, ABOVE_4G, fields)?;
        }
        for fields in [&ES, &DS, &FS, &GS] {
            let is_data = is_data_segment_valid(read(*fields));
            require(is_data, INVALID, "a data segment", fields)?;
        }
    }
    let is_task = is_task_register_valid(v, read(TR));
    require(is_task, INVALID, "the busy task-state segment", &TR)?;
    let is_ldtr_valid = ldtr.kind() == 2 && ldtr.is_well_formed(false) && ldtr.selector & 4 == 0;
    let is_table = !ldtr.is_usable() || is_ldtr_valid;
    require(is_table, INVALID, "the local descriptor table", &LDTR)
}

fn is_code_segment_valid(v: &Vmcs, cs: Segment, ss: Segment) -> bool {
    let is_dpl_valid = match cs.kind() {
        // Unrestricted guest allows a writable data segment.
        3 => cs.dpl() == 0,
        9 | 11 => cs.dpl() == ss.dpl(),
        13 | 15 => cs.dpl() <= ss.dpl(),
        _ => false,
    };
    let is_long = cs.access >> 13 & 1 != 0;
    let is_default_big = cs.access >> 14 & 1 != 0;
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_width_valid = !(is_ia32e && is_long && is_default_big);
    cs.is_usable() && cs.is_well_formed(true) && is_dpl_valid && is_width_valid
}

fn is_stack_segment_valid(v: &Vmcs, cs: Segment, ss: Segment) -> bool {
    let needs_dpl_0 = cs.kind() == 3 || !has(v, Field::GuestCr0, CR0_PE);
    let is_dpl_valid = !needs_dpl_0 || ss.dpl() == 0;
    let is_shape_valid = matches!(ss.kind(), 3 | 7) && ss.is_well_formed(true) && ss.is_base_low();
    is_dpl_valid && (!ss.is_usable() || is_shape_valid)
}

/// Accessed, and readable if it is code.
fn is_data_segment_valid(s: Segment) -> bool {
    let is_kind_valid = s.kind() & 1 != 0 && (s.kind() & 8 == 0 || s.kind() & 2 != 0);
    !s.is_usable() || (is_kind_valid && s.is_well_formed(true))
}

fn is_task_register_valid(v: &Vmcs, tr: Segment) -> bool {
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_busy = tr.kind() == 11 || (!is_ia32e && tr.kind() == 3);
    is_busy && tr.is_usable() && tr.is_well_formed(false) && tr.selector & 4 == 0
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
