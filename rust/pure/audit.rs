// SPDX-License-Identifier: GPL-2.0
//! What is recorded about each switch: the exit kinds by which statistics count, the reason why a
//! lower VTL was entered, and the 64-byte record of the audit ring.
//!
//! `rust/run/record.rs` writes the records, `rust/observe/stats.rs` counts by kind.

use super::exit::{Exit, RawExit};
use super::field::VmIndex;
use super::vp_enter::EntryRcx;
use super::vtl_switch::REASON_VMCALL;

/// Index into the statistics: the basic reason of an exit that is L1's to handle, otherwise the
/// outcome of the entry. Always below [`ExitKind::COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExitKind(u8);

impl ExitKind {
    /// External interrupt while the lower VTL ran: VMX exit reason 1.
    pub const EXTERNAL_INTERRUPT: Self = Self(1);
    /// An exit that the host took first and then routed to L1.
    pub const HOST_ROUTED: Self = Self(96);
    /// The lower VTL stopped because VTL2 has an interrupt pending.
    pub const INTERRUPTED: Self = Self(97);
    /// The lower VTL was not entered, without an error.
    pub const NOT_ENTERED: Self = Self(98);
    /// The TDX module refused the entry.
    pub const REFUSED: Self = Self(99);
    /// An exit with a basic reason above 95.
    pub const OTHER: Self = Self(100);
    /// Number of kinds, with room for further ones.
    pub const COUNT: usize = 104;

    /// Returns the kind of an exit of `class`.
    pub const fn new(class: Exit, exit: &RawExit) -> Self {
        match class {
            Exit::ForL1 => match exit.status().details() & 0xffff {
                reason @ 0..=95 => Self(reason as u8), // CAST: at most 95
                _ => Self::OTHER,
            },
            Exit::HostRouted | Exit::HostCalled => Self::HOST_ROUTED,
            Exit::Interrupted => Self::INTERRUPTED,
            Exit::NotEntered => Self::NOT_ENTERED,
            Exit::Refused => Self::REFUSED,
        }
    }

    /// The number under which userspace sees it.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Why a lower VTL is entered. The number in a record is 0 for an ioctl of userspace, otherwise the
/// previous exit's kind plus one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryReason(u8);

impl EntryReason {
    /// Userspace made the ioctl.
    pub const USERSPACE: Self = Self(0);

    /// The kernel handled an exit of this kind by itself and enters again.
    pub const fn after(kind: ExitKind) -> Self {
        Self(kind.0.wrapping_add(1)) // does not wrap: kinds are below `COUNT`
    }

    /// Returns true for the first entry after a VTL call or return that the kernel carried out.
    pub const fn is_switch(self) -> bool {
        self.0 as u32 == REASON_VMCALL + 1 // CAST: widening
    }

    /// Returns the kind of the exit that the kernel handled, if that is the reason.
    pub const fn handled(self) -> Option<ExitKind> {
        match self.0.checked_sub(1) {
            Some(kind) => Some(ExitKind(kind)),
            None => None,
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Thread, VP and VM of a switch: bits 0 to 31, 32 to 47 and 48 to 55 of a word of the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who(u64);

impl Who {
    const VM_SHIFT: u32 = 48;

    /// The thread with this ID runs a VM on the VP of this CPU.
    pub const fn new(thread: u32, vp: u16, vm: VmIndex) -> Self {
        Self(thread as u64 | ((vp as u64) << 32)).in_vm(vm)
    }

    /// The same thread, in another VM.
    pub const fn in_vm(self, vm: VmIndex) -> Self {
        let others = self.0 & !(0xff << Self::VM_SHIFT);
        Self(others | ((vm.get() as u64) << Self::VM_SHIFT))
    }

    /// ID of the thread.
    pub const fn thread(self) -> u32 {
        self.0 as u32 // CAST: the low half
    }
}

/// One switch to a lower VTL and back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwitchRecord<'a> {
    /// TSC before the entry.
    pub entry_tsc: u64,
    /// TSC ticks from `entry_tsc` to after the exit.
    pub cycles: u64,
    /// Instruction pointer of the lower VTL after the exit.
    pub rip: u64,
    /// Who switched.
    pub who: Who,
    /// RCX of TDG.VP.ENTER.
    pub entry_rcx: EntryRcx,
    /// Why it was entered.
    pub reason: EntryReason,
    /// What TDG.VP.ENTER returned.
    pub exit: &'a RawExit,
    /// Class of `exit`.
    pub class: Exit,
    /// Kind of `exit`.
    pub kind: ExitKind,
}

/// Flags of a record.
pub mod flag {
    /// Instructions of the lower VTL may have run.
    pub const HAS_RUN: u64 = 1 << 0;
    /// The exit interrupted the delivery of an event.
    pub const EVENT_CUT_OFF: u64 = 1 << 1;
    /// The entry asked the TDX module to invalidate translations.
    pub const INVALIDATED: u64 = 1 << 2;
}

/// 8-byte words of a record. The first one is the sequence number.
pub const RECORD_WORDS: usize = 8;

impl SwitchRecord<'_> {
    /// The words of the record that follow the sequence number.
    #[inline]
    pub const fn words(&self) -> [u64; RECORD_WORDS - 1] {
        let kind = self.kind.number() as u64;
        let mut flags = 0;
        let mut qualification = 0;
        if self.class.has_run() {
            flags |= flag::HAS_RUN;
            qualification = self.exit.rcx;
            // CAST: 0 or 1. Without a branch.
            flags |= self.exit.has_event_to_redeliver() as u64 * flag::EVENT_CUT_OFF;
        }
        if self.entry_rcx.invalidates() {
            flags |= flag::INVALIDATED;
        }
        let reason = self.reason.number() as u64;
        [
            self.entry_tsc,
            self.cycles,
            self.exit.rax,
            qualification,
            self.rip,
            self.who.0 | (reason << 56),
            kind | (flags << 8),
        ]
    }
}

/// Returns the slot of the record with a sequence number: `sequence` modulo `records`, which
/// [`is_ring_size`] restricts to powers of two.
pub const fn slot(sequence: u64, records: u32) -> usize {
    let mask = (records as u64).wrapping_sub(1);
    (sequence & mask) as usize // CAST: usize has 64 bits
}

/// Returns true if a ring can have this many records: they fill whole pages, and are at most 65536.
pub const fn is_ring_size(records: u32) -> bool {
    records.is_power_of_two() && records >= 64 && records <= 1 << 16
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
