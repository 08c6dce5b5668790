// SPDX-License-Identifier: GPL-2.0
//! What userspace may write to the VMCS of an L2 VM, and what must hold before the next entry.
//!
//! The processor checks a VMCS at VM entry. A wrong *guest state* ends as exit reason 33, which is
//! userspace's own affair. A wrong *control* fails the instruction, for which version 1.5 of the TDX
//! module has no answer: it runs into an invalid opcode, and the host loses the module with all of its
//! TDs. So controls are checked here; what must fit together is looked at again by [`check_entry`].
//! A field that is not in [`FIELDS`] is refused. [SDM3 28.2] [TDP 2.8, 4.6]

use super::field::{vmcs, FieldId, VmIndex};
use super::status::{Operand, Status};
use super::tdcall::{tdg_vp_rd, Registers, Tdcall};

/// What may be written to a field.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Any value.
    Any,
    /// These bits may be set, others only cleared.
    Within(u64),
    /// These bits may change, others stay as they are.
    Change(u64),
    /// All bits at once, to a value that passes.
    Whole(fn(u64) -> bool),
    /// The address of a virtual APIC page: `policy.rs` looks whose it is.
    ApicPage,
}

/// Whether a field belongs to what [`check_entry`] looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// It can't make an entry fail, whatever the others say.
    Once,
    /// Neither, but `intercepts.rs` has to ask again.
    Intercepts,
    /// It can.
    AtEntry,
}

/// Fields with the same rule: every even encoding of a range.
pub struct Fields {
    /// Lowest encoding.
    pub first: u16,
    /// Highest encoding.
    pub last: u16,
    /// What may be written.
    pub rule: Rule,
    /// Whether a write makes the next entry look again.
    pub look: Look,
    /// Which fields, and why that is harmless.
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

/// Windows for interrupts and NMIs, and exits of INVLPG, RDPMC, RDTSC, CR3, CR8, DR and PAUSE. Not the
/// monitor trap flag, whose exit ends a production TD; not the TPR shadow, on which others depend.
const PRIMARY: u64 = 0x40d9_9a04;
/// Descriptor tables, RDTSCP, virtual-interrupt delivery, PAUSE loops, RDRAND, INVPCID, VMFUNC, RDSEED,
/// XSAVES, mode-based execution, user wait.
const SECONDARY: u64 = 0x0451_3e0c;
const IA32E_MODE: u64 = 1 << 9;
/// Blocking by STI, by MOV SS, by NMI. Blocking by SMI and "enclave" are nobody's to set.
const BLOCKING: u64 = 0xb;
/// Last branch records, and single steps on branches. Nothing that stores to memory.
const DEBUGCTL: u64 = 0x3;

/// Every field that may be written, in ascending order. Those that are missing:
///
/// * HLAT (0006, 2034, 2040): a pointer beyond the processor's physical addresses fails the entry, and
///   how many bits those have is hidden from a TD;
/// * UINV (0814), PERF_GLOBAL_CTRL (2808): user interrupts and counters use further registers, which
///   are not switched;
/// * EPTP (201A), PLE gap and window (4020, 4022): no use without what the TDX module keeps;
/// * exit information (2400, 4400 to 440E, 6400 to 640A): what the TDX module reads again when it goes
///   on with an exit of the host.
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
    /// Returns true if the next entry has to look.
    pub const fn is_at_entry(self) -> bool {
        matches!(self, Self::AtEntry)
    }

    /// Returns true if a write changes what a lower VTL can do without an exit.
    pub const fn is_of_intercepts(self) -> bool {
        matches!(self, Self::Intercepts)
    }
}

/// A write that is allowed as far as its value tells.
#[derive(Clone, Copy, Debug)]
pub struct FieldWrite {
    /// By which rule.
    pub rule: Rule,
    /// Bits that the write names but may not change: it is allowed if they are as they were.
    pub kept: u64,
    /// Whether the next entry has to look at the VMCS.
    pub look: Look,
}

/// Looks at one write to the VMCS of an L2 VM.
///
/// # Errors
///
/// RDX for a field that may not be written, R8 for the value or a part of it.
pub fn check_write(request: &Registers) -> Result<FieldWrite, Operand> {
    let code = FieldId(request.rdx).code();
    let fields = fields_of(code).ok_or(Operand::Rdx)?;
    let (value, mask) = (request.r8, request.r9);
    let kept = match fields.rule {
        Rule::Any => 0,
        Rule::Within(bits) if value & mask & !bits == 0 => 0,
        Rule::Change(bits) => mask & !bits & ELEMENT_4,
        // What is not written of the value would be old, and not looked at.
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

/// All bits of a field of 4 bytes.
const ELEMENT_4: u64 = 0xffff_ffff;

/// The row of a field. An odd encoding names the high half of a field: there is none.
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

/// Software interrupts and exceptions: the event of an instruction, which has a length.
const fn is_software(event: u64) -> bool {
    matches!(event_type(event), 4..=6)
}

/// Returns true if nothing is to be delivered, or something that can be. Type 1 is reserved; type 7
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

/// Whether a VMCS that can be entered has to be looked at again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// After the next write.
    AfterWrite,
    /// At each entry: the guest and userspace may change the task priority.
    EachEntry,
}

/// Looks at what must fit together in the VMCS of `vm`, right before an entry. `task_priority` is that
/// of its virtual APIC page, `None` where the kernel can't see it.
///
/// # Errors
///
/// The status that a later TDX module answers with when the processor refuses, or the one with which a
/// field could not be read.
pub fn check_entry(
    tdcall: &mut impl Tdcall,
    vm: VmIndex,
    task_priority: impl FnOnce() -> Option<u8>,
) -> Result<Again, Status> {
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
