// SPDX-License-Identifier: GPL-2.0
//! Which hypercalls userspace may make, and with which operands.
//!
//! An allow-list, as `policy` is for TDCALLs. The host is not trusted with VTL2's memory and can't
//! access it; but a hypercall can have the host take a page away from this kernel, or write to one
//! that the kernel shares with it, and the next access would end the TD. So an address in an
//! operand must be memory of a lower VTL. A hypercall can also have the host send an interrupt, so
//! a vector must not be that of an exception.

use super::hv_call::Control;
use super::lower::LowerRange;

/// Page numbers below this many bits give an address that does not overflow.
const PAGE_NUMBER_BITS: u32 = 40;
const PAGE_SHIFT: u32 = 12;
const HEADER_BYTES: usize = 16;

/// Tells what a guest-physical address belongs to.
pub trait MemoryFacts {
    /// The pages of a range, given without its SHARED bit, if all of it is memory of lower VTLs.
    fn lower(&self, start_gpa: u64, len_bytes: u64) -> Option<LowerRange>;
    /// Returns true if any part of a range, given without its SHARED bit, is System RAM of this
    /// Linux.
    fn has_system_ram(&self, start_gpa: u64, len_bytes: u64) -> bool;
    /// The address without its SHARED bit.
    fn without_shared(&self, gpa: u64) -> u64;
}

/// How the operands of a call are checked.
#[derive(Clone, Copy, Debug)]
enum HvCallCheck {
    /// Not at all.
    Nothing,
    /// Each register may be set, and to the given value.
    Registers,
    /// Each element is the number of a page of a lower VTL.
    Visibility,
    /// The vector is not that of an exception.
    Vector,
    /// The address is not memory of this kernel.
    Device,
}

/// An allowed call. A call that is not in [`POLICY`] is refused.
pub struct HvCallRule {
    /// Its code.
    pub code: u16,
    /// Its name in the specification.
    pub name: &'static str,
    check: HvCallCheck,
    /// What is allowed, and why it can't harm VTL2.
    pub reason: &'static str,
}

/// The whole policy: one line for each call that userspace may make.
#[rustfmt::skip]
pub static POLICY: [HvCallRule; 13] = [
    HvCallRule { code: 0x0d, name: "EnablePartitionVtl", check: HvCallCheck::Nothing,
        reason: "no address: only the TDX module enters a lower VTL" },
    HvCallRule { code: 0x0f, name: "EnableVpVtl", check: HvCallCheck::Nothing,
        reason: "no address: the host does not set the state of an L2 VM" },
    HvCallRule { code: 0x50, name: "GetVpRegisters", check: HvCallCheck::Nothing,
        reason: "every register: what the host knows is no secret of VTL2" },
    HvCallRule { code: 0x51, name: "SetVpRegisters", check: HvCallCheck::Registers,
        reason: "SINTs, message and event page of VTL0, in memory of lower VTLs; VSM configuration, PM timer assist" },
    HvCallRule { code: 0x5c, name: "PostMessage", check: HvCallCheck::Nothing,
        reason: "a message for a connection: the host is its reader" },
    HvCallRule { code: 0x5d, name: "SignalEvent", check: HvCallCheck::Nothing,
        reason: "a signal for a connection: no address" },
    HvCallRule { code: 0x7e, name: "RetargetDeviceInterrupt", check: HvCallCheck::Vector,
        reason: "vectors from 32 on: none looks like an exception" },
    HvCallRule { code: 0x9a, name: "GetVpIndexFromApicId", check: HvCallCheck::Nothing,
        reason: "numbers of processors: no secret of VTL2" },
    HvCallRule { code: 0xc0, name: "SignalEventDirect", check: HvCallCheck::Nothing,
        reason: "a flag in a page that SetVpRegisters has let through, or in one shared anyway" },
    HvCallRule { code: 0xc1, name: "PostMessageDirect", check: HvCallCheck::Nothing,
        reason: "a message, likewise" },
    HvCallRule { code: 0xdb, name: "ModifyHostVisibility", check: HvCallCheck::Visibility,
        reason: "memory of lower VTLs without struct page; what is mapped of it is unmapped first" },
    HvCallRule { code: 0x106, name: "MemoryMappedIoRead", check: HvCallCheck::Device,
        reason: "addresses outside System RAM: registers of the host's devices" },
    HvCallRule { code: 0x107, name: "MemoryMappedIoWrite", check: HvCallCheck::Device,
        reason: "addresses outside System RAM, likewise" },
];

/// Effect of an allowed call on memory of lower VTLs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HvCallPermit {
    /// Nothing.
    Plain,
    /// Its pages become shared with the host.
    ToShared,
    /// Its pages become private, and have to be accepted.
    ToPrivate,
}

/// Input of a call as the host reads it: padded with zeros.
#[derive(Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        let given = self.0.get(at..).unwrap_or(&[]);
        for (to, from) in bytes.iter_mut().zip(given) {
            *to = *from;
        }
        bytes
    }

    fn word(self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    fn half(self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
}

/// The pages that a call changes; `None` for each page that is not a lower VTL's.
pub fn pages<'a>(
    control: Control,
    input: Input<'a>,
    memory: &'a impl MemoryFacts,
) -> impl Iterator<Item = Option<LowerRange>> + 'a {
    let elements = usize::from(control.rep_start())..usize::from(control.rep_count());
    let numbers = elements.map(move |index| input.word(HEADER_BYTES + index * size_of::<u64>()));
    numbers.map(|page| {
        let is_number = page >> PAGE_NUMBER_BITS == 0;
        let range = || memory.lower(page << PAGE_SHIFT, 1 << PAGE_SHIFT);
        is_number.then(range).flatten()
    })
}

/// Decides about a call. `None` refuses it.
pub fn decide(
    control: Control,
    input: Input<'_>,
    memory: &impl MemoryFacts,
) -> Option<HvCallPermit> {
    let entry = POLICY.iter().find(|entry| entry.code == control.code())?;
    match entry.check {
        HvCallCheck::Nothing => Some(HvCallPermit::Plain),
        HvCallCheck::Registers => registers(control, input, memory),
        HvCallCheck::Visibility => visibility(control, input, memory),
        HvCallCheck::Vector => vector(input),
        HvCallCheck::Device => device(input, memory),
    }
}

mod register {
    pub(super) const PM_TIMER_ASSIST: u32 = 0x9_0032;
    pub(super) const SINT0: u32 = 0xa_0000;
    pub(super) const SINT15: u32 = 0xa_000f;
    pub(super) const SIFP: u32 = 0xa_0012;
    pub(super) const SIPP: u32 = 0xa_0013;
    pub(super) const VSM_PARTITION_CONFIG: u32 = 0xd_0007;
}

/// Elements of 32 bytes, `{ u32 name, padding, u128 value }`, after a header that names the VTL.
fn registers(
    control: Control,
    input: Input<'_>,
    memory: &impl MemoryFacts,
) -> Option<HvCallPermit> {
    const VTL_AT: usize = 12;
    /// The encoding of "VTL0" as opposed to "the caller's own VTL".
    const VTL0: u8 = 0x10;
    const ELEMENT_BYTES: usize = 32;
    const VALUE_AT: usize = 16;
    let [vtl] = input.bytes(VTL_AT);
    if control.has_variable_header() {
        return None;
    }
    for index in usize::from(control.rep_start())..usize::from(control.rep_count()) {
        let at = HEADER_BYTES + index * ELEMENT_BYTES;
        let value = input.word(at + VALUE_AT);
        let is_allowed = match input.half(at) {
            register::VSM_PARTITION_CONFIG | register::PM_TIMER_ASSIST => true,
            register::SINT0..=register::SINT15 => vtl == VTL0,
            register::SIFP | register::SIPP => vtl == VTL0 && is_page(value, memory),
            _ => false,
        };
        if !is_allowed {
            return None;
        }
    }
    Some(HvCallPermit::Plain)
}

/// Returns true if a SynIC page is disabled, or is in memory of a lower VTL by either alias.
fn is_page(value: u64, memory: &impl MemoryFacts) -> bool {
    const IS_ENABLED: u64 = 1 << 0;
    let gpa = memory.without_shared(value & !0xfff);
    value & IS_ENABLED == 0 || memory.lower(gpa, 1 << PAGE_SHIFT).is_some()
}

/// `{ u64 partition, u32 visibility }`, then page numbers.
fn visibility(
    control: Control,
    input: Input<'_>,
    memory: &impl MemoryFacts,
) -> Option<HvCallPermit> {
    const VISIBILITY_AT: usize = 8;
    if control.has_variable_header() {
        return None;
    }
    if pages(control, input, memory).any(|page| page.is_none()) {
        return None;
    }
    match input.half(VISIBILITY_AT) {
        0 => Some(HvCallPermit::ToPrivate),
        1 | 3 => Some(HvCallPermit::ToShared),
        // A host might treat other values as either of the two.
        _ => None,
    }
}

fn vector(input: Input<'_>) -> Option<HvCallPermit> {
    const VECTOR_AT: usize = 40;
    match input.half(VECTOR_AT) {
        32..=255 => Some(HvCallPermit::Plain),
        _ => None,
    }
}

/// Input `{ u64 gpa, u32 bytes }`: the host reads or writes up to 64 bytes at `gpa`.
fn device(input: Input<'_>, memory: &impl MemoryFacts) -> Option<HvCallPermit> {
    const MAX_BYTES: u64 = 64;
    let gpa = memory.without_shared(input.word(0));
    let is_sound = gpa >> (PAGE_NUMBER_BITS + PAGE_SHIFT) == 0;
    (is_sound && !memory.has_system_ram(gpa, MAX_BYTES)).then_some(HvCallPermit::Plain)
}

#[cfg(test)]
#[path = "hv_policy_tests.rs"]
mod tests;
