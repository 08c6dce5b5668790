// SPDX-License-Identifier: GPL-2.0
//! What userspace may write to the VMCS of an L2 VM, and what must hold before the next entry.
//!
//! The processor checks a VMCS at VM entry. Invalid *guest state* causes exit reason 33, which is
//! userspace's own problem. An invalid *control* fails the instruction, which version 1.5 of the
//! TDX module does not handle: it runs into an undefined opcode, and the host loses the module with
//! all of its TDs. So controls are checked here on each write, and [`check_entry`] checks before an
//! entry what depends on several fields. A field that is not in [`FIELDS`] is refused. [SDM3 28.2]
//! [TDP 2.8, 4.6]

use super::field::{vmcs, FieldId, VmIndex};
use super::status::{Operand, Status};
use super::tdcall::{tdg_vp_rd, Registers, Tdcall, NOWHERE};

/// What may be written to a field.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Any value.
    Any,
    /// These bits may be set, others may only be cleared.
    Within(u64),
    /// These bits may change, others must keep their values.
    Change(u64),
    /// Written completely, with a value for which the function returns true.
    Whole(fn(u64) -> bool),
    /// The address of a virtual-APIC page: `policy.rs` checks to whom it belongs.
    ApicPage,
}

/// What has to be checked again after a write to a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// Nothing: the field can't make an entry fail, whatever the others are.
    Once,
    /// The intercepts (`intercepts.rs`); it can't make an entry fail either.
    Intercepts,
    /// The next entry ([`check_entry`]): together with others, the field can make it fail.
    AtEntry,
}

/// Fields with the same rule: all even encodings of a range.
pub struct Fields {
    /// Lowest encoding.
    pub first: u16,
    /// Highest encoding.
    pub last: u16,
    /// What may be written.
    pub rule: Rule,
    /// What a write makes necessary.
    pub look: Look,
    /// Which fields, and why writing them can do no harm.
    pub reason: &'static str,
}

const fn row(first: u16, last: u16, rule: Rule, look: Look, reason: &'static str) -> Fields {
    Fields {
        first,
        last,
        rule,
        look,
        reason,
    }
}

/// Interrupt-window and NMI-window exiting, and exiting on INVLPG, RDPMC, RDTSC, CR3, CR8, DR and
/// PAUSE. Not the monitor trap flag, whose exit ends a production TD; not the TPR shadow, on which
/// other controls depend.
const PRIMARY: u64 = 0x40d9_9a04;
/// Descriptor tables, RDTSCP, virtual-interrupt delivery, PAUSE-loop exiting, RDRAND, INVPCID, VM
/// functions, RDSEED, XSAVES, mode-based execute control, user wait and pause.
const SECONDARY: u64 = 0x0451_3e0c;
const IA32E_MODE: u64 = 1 << 9;
/// Blocking by STI, by MOV SS, by NMI. Nothing may set blocking by SMI or "enclave interruption".
const BLOCKING: u64 = 0xb;
/// LBR and BTF. None of the bits that make the processor store to memory.
const DEBUGCTL: u64 = 0x3;

/// Every field that may be written, in ascending order. Not listed:
///
/// * HLAT (0006, 2034, 2040): a pointer above the processor's physical address width fails the
///   entry, and that width is hidden from a TD;
/// * UINV (0814), PERF_GLOBAL_CTRL (2808): user interrupts and counters use further registers,
///   which are not switched;
/// * EPTP (201A), PLE gap and window (4020, 4022): of no use without controls that the TDX module
///   keeps to itself;
/// * exit information (2400, 4400 to 440E, 6400 to 640A): the TDX module reads it again when it
///   resumes an exit of the host.
#[rustfmt::skip]
pub static FIELDS: [Fields; 34] = [
    row(0x0800, 0x080e, Rule::Any, Look::Once, "selectors: guest state"),
    row(0x0810, 0x0810, Rule::Any, Look::Once, "interrupt status: the run page's at each entry"),
    row(0x2012, 0x2012, Rule::ApicPage, Look::Once, "virtual APIC page: has the task priority, which is looked at with each threshold"),
    row(0x201c, 0x2022, Rule::Any, Look::Once, "EOI-exit bitmaps: exits to userspace"),
    row(0x202c, 0x202c, Rule::Any, Look::Once, "XSS-exiting bitmap: exits to userspace"),
    row(0x2802, 0x2802, Rule::Within(DEBUGCTL), Look::Once, "DEBUGCTL: guest state"),
    row(0x2804, 0x2804, Rule::Any, Look::Once, "PAT: guest state"),
    row(0x2806, 0x2806, Rule::Any, Look::Once, "EFER: guest state"),
    row(0x280a, 0x2810, Rule::Any, Look::Once, "PDPTEs: guest state, private addresses"),
    row(0x2814, 0x2816, Rule::Within(0), Look::Once, "RTIT_CTL, LBR_CTL: stay off, nobody switches trace and branch records"),
    row(0x2818, 0x2818, Rule::Any, Look::Once, "PKRS: guest state"),
    row(0x4002, 0x4002, Rule::Change(PRIMARY), Look::Intercepts, "primary controls: exits to userspace"),
    row(0x4004, 0x4008, Rule::Any, Look::Once, "exception bitmap: exits to userspace"),
    row(0x400a, 0x400a, Rule::Whole(is_target_count), Look::AtEntry, "CR3-target count: at most 4"),
    row(0x4012, 0x4012, Rule::Change(IA32E_MODE), Look::Once, "entry controls: a mode that CR0, CR4 and EFER must match as guest state"),
    row(0x4016, 0x4016, Rule::Whole(is_event), Look::AtEntry, "event to deliver: of a sound form"),
    row(0x4018, 0x4018, Rule::Whole(is_error_code), Look::AtEntry, "error code: 16 bits"),
    row(0x401a, 0x401a, Rule::Whole(is_length), Look::AtEntry, "instruction length: at most 15"),
    row(0x401c, 0x401c, Rule::Whole(is_threshold), Look::AtEntry, "TPR threshold: at most 15"),
    row(0x401e, 0x401e, Rule::Change(SECONDARY), Look::AtEntry, "secondary controls: the guest's instructions"),
    row(0x4800, 0x4812, Rule::Any, Look::Once, "limits: guest state"),
    row(0x4814, 0x4822, Rule::Any, Look::Once, "access rights: guest state"),
    row(0x4824, 0x4824, Rule::Within(BLOCKING), Look::Once, "interruptibility: guest state"),
    row(0x482a, 0x482a, Rule::Any, Look::Once, "SYSENTER_CS: guest state"),
    row(0x6000, 0x6006, Rule::Any, Look::Once, "masks and shadows of CR0 and CR4: the TDX module adds its own"),
    row(0x6008, 0x600e, Rule::Any, Look::Once, "CR3 targets: exits to userspace"),
    row(0x6800, 0x6800, Rule::Any, Look::AtEntry, "CR0: guest state; an error code needs protection"),
    row(0x6802, 0x6804, Rule::Any, Look::Once, "CR3, CR4: guest state"),
    row(0x6806, 0x6818, Rule::Any, Look::Once, "bases: guest state"),
    row(0x681a, 0x681a, Rule::Any, Look::Intercepts, "DR7: guest state"),
    row(0x681c, 0x6820, Rule::Any, Look::Once, "RSP, RIP, RFLAGS: the run page's at each entry"),
    row(0x6822, 0x6822, Rule::Any, Look::Once, "pending debug exceptions: guest state"),
    row(0x6824, 0x6826, Rule::Any, Look::Once, "SYSENTER_ESP and _EIP: guest state"),
    row(0x6828, 0x682c, Rule::Any, Look::Once, "S_CET, SSP, table of interrupt SSPs: guest state"),
];

impl Look {
    /// Returns true if the next entry has to check the VMCS.
    pub const fn is_at_entry(self) -> bool {
        matches!(self, Self::AtEntry)
    }

    /// Returns true if a write changes what L1 intercepts.
    pub const fn is_of_intercepts(self) -> bool {
        matches!(self, Self::Intercepts)
    }
}

/// A write that is allowed as far as its value alone tells.
#[derive(Clone, Copy, Debug)]
pub struct FieldWrite {
    /// The rule for the field.
    pub rule: Rule,
    /// Bits that the write names but may not change: the field must already hold them.
    pub kept: u64,
    /// What the write makes necessary.
    pub look: Look,
}

/// Checks one write to the VMCS of an L2 VM.
///
/// # Errors
///
/// RDX if the field may not be written, R8 if its value, or a part of it, is refused.
pub fn check_write(request: &Registers) -> Result<FieldWrite, Operand> {
    let code = FieldId(request.rdx).code();
    let fields = fields_of(code).ok_or(Operand::Rdx)?;
    let (value, mask) = (request.r8, request.r9);
    let kept = match fields.rule {
        Rule::Any => 0,
        Rule::Within(bits) if value & mask & !bits == 0 => 0,
        Rule::Change(bits) => mask & !bits & ELEMENT_4,
        // The bits that are not written would keep old values, which nothing checks here.
        Rule::Whole(is_good) if mask & ELEMENT_4 == ELEMENT_4 && is_good(value) => 0,
        Rule::ApicPage if mask == u64::MAX => 0,
        Rule::Within(_) | Rule::Whole(_) | Rule::ApicPage => return Err(Operand::R8),
    };
    Ok(FieldWrite {
        rule: fields.rule,
        kept,
        look: fields.look,
    })
}

/// Mask of all bits of a 4-byte field.
const ELEMENT_4: u64 = 0xffff_ffff;

/// The row of a field. Odd encodings name the high half of a field and have no row.
fn fields_of(code: u64) -> Option<&'static Fields> {
    let code = u16::try_from(code).ok().filter(|code| code & 1 == 0)?;
    let covers = |fields: &&Fields| (fields.first..=fields.last).contains(&code);
    FIELDS.iter().find(covers)
}

const VALID: u64 = 1 << 31;
const HAS_ERROR_CODE: u64 = 1 << 11;
const RESERVED: u64 = !(VALID | 0xfff);
const NMI: u64 = 2;
const HARDWARE_EXCEPTION: u64 = 3;

const fn event_type(event: u64) -> u64 {
    (event >> 8) & 7
}

/// Returns true for software interrupts and exceptions: events of an instruction, which has a
/// length.
const fn is_software(event: u64) -> bool {
    matches!(event_type(event), 4..=6)
}

/// Returns true if nothing is to be injected, or an event that can be. Type 1 is reserved; type 7
/// pends a monitor trap, whose exit ends a production TD.
const fn is_event(event: u64) -> bool {
    let vector = event & 0xff;
    let is_vector_good = match event_type(event) {
        NMI => vector == 2,
        HARDWARE_EXCEPTION => vector < 32,
        1 | 7 => false,
        _ => true,
    };
    let is_error_code_good = event & HAS_ERROR_CODE == 0 || event_type(event) == HARDWARE_EXCEPTION;
    event >> 32 == 0
        && (event & VALID == 0 || event & RESERVED == 0 && is_vector_good && is_error_code_good)
}

const fn is_error_code(value: u64) -> bool {
    value >> 16 == 0
}

const fn is_length(value: u64) -> bool {
    value <= 15
}

const fn is_threshold(value: u64) -> bool {
    value <= 15
}

const fn is_target_count(value: u64) -> bool {
    value <= 4
}

/// When a VMCS that can be entered has to be checked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// After the next write.
    AfterWrite,
    /// At each entry, because the guest and userspace may change the task priority.
    EachEntry,
}

/// Checks, right before an entry, that `vm` has a virtual-APIC page, and what depends on several
/// fields of its VMCS. `task_priority` is read from that page; `None` if the kernel can't see it.
///
/// The TDX module only checks that an address was written once, and [`NOWHERE`] is one: if there is
/// no page, the entry never ends, and if there is one, the VM reads and writes another's memory.
///
/// # Errors
///
/// OPERAND_INVALID as the TDX module has it if no address was ever written; L2_VM_ENTRY_FAILED, with
/// which later TDX modules report a refusal of the processor; or the status of a field that could
/// not be read.
pub fn check_entry(
    tdcall: &mut impl Tdcall,
    vm: VmIndex,
    task_priority: impl FnOnce() -> Option<u8>,
) -> Result<Again, Status> {
    if let u64::MAX | NOWHERE = tdg_vp_rd(tdcall, FieldId::virtual_apic_address(vm))? {
        return Err(Status::operand_invalid(Operand::L2VapicGpa));
    }
    let mut read = |code| tdg_vp_rd(tdcall, FieldId::l2_vmcs(vm, code));
    let event = read(vmcs::ENTRY_EVENT)?;
    let mut is_good = is_event(event) && is_target_count(read(vmcs::CR3_TARGET_COUNT)?);
    if event & VALID != 0 && event & HAS_ERROR_CODE != 0 {
        is_good &= is_error_code(read(vmcs::ENTRY_ERROR_CODE)?)
            && read(vmcs::GUEST_CR0)? & vmcs::CR0_PE != 0;
    }
    if event & VALID != 0 && is_software(event) {
        is_good &= is_length(read(vmcs::ENTRY_INSTRUCTION_LENGTH)?);
    }
    let threshold = read(vmcs::TPR_THRESHOLD)?;
    let mut again = Again::AfterWrite;
    if threshold != 0 && read(vmcs::SECONDARY_CONTROLS)? & vmcs::INTERRUPT_DELIVERY == 0 {
        again = Again::EachEntry;
        let class = u64::from(task_priority().unwrap_or(0) >> 4);
        is_good &= threshold <= class;
    }
    if is_good {
        Ok(again)
    } else {
        Err(Status::new(Status::L2_VM_ENTRY_FAILED, 0))
    }
}

#[cfg(test)]
#[path = "vmcs_write_tests.rs"]
mod tests;
