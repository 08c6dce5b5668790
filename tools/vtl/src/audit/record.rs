// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A record of the audit ring, and kinds of exit. Part of [`crate::audit`].

use crate::reason;
use crate::status::Status;

/// 8-byte words of a record.
pub const RECORD_WORDS: usize = 8;
/// Bytes of a record.
pub const RECORD_LEN: usize = RECORD_WORDS * 8;

/// Kind of an exit, as audit records and statistics distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitKind(pub u8);

impl ExitKind {
    /// Name of the kind; `None` if this crate does not know it.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            reason @ 0..=95 => reason::name(u16::from(reason)),
            96 => Some("HOST_ROUTED"),
            97 => Some("INTERRUPTED"),
            98 => Some("NOT_ENTERED"),
            99 => Some("REFUSED"),
            100 => Some("OTHER"),
            _ => None,
        }
    }
}

impl core::fmt::Display for ExitKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("KIND_{}", self.0)),
        }
    }
}

/// Why a lower VTL was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryReason {
    /// Userspace called.
    Userspace,
    /// The kernel handled an exit of this kind by itself.
    After(ExitKind),
}

/// One switch to a lower VTL and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the switch on its virtual processor, from 1.
    pub sequence: u64,
    /// TSC before the entry.
    pub entry_tsc: u64,
    /// TSC ticks from there to after the exit.
    pub cycles: u64,
    /// Completion status and raw exit reason.
    pub status: Status,
    /// Exit qualification.
    pub qualification: u64,
    /// Instruction pointer of the lower VTL after the exit.
    pub rip: u64,
    /// Thread that ran the virtual processor.
    pub thread: u32,
    /// CPU of the virtual processor.
    pub vp: u16,
    /// VM that was entered.
    pub vm: u8,
    /// Why.
    pub entry_reason: EntryReason,
    /// Kind of the exit.
    pub exit_kind: ExitKind,
    /// Bit 0: it may have run; bit 1: an event was cut off; bit 2: the entry
    /// was to invalidate translations.
    pub flags: u8,
}

impl Record {
    /// Decodes a record; its reserved fields are ignored.
    pub fn from_words(words: [u64; RECORD_WORDS]) -> Self {
        let [
            sequence,
            entry_tsc,
            cycles,
            rax,
            qualification,
            rip,
            who,
            what,
        ] = words;
        let [exit_kind, flags, ..] = what.to_le_bytes();
        let [thread0, thread1, thread2, thread3, vp0, vp1, vm, reason] = who.to_le_bytes();
        Self {
            sequence,
            entry_tsc,
            cycles,
            status: Status::from_raw(rax),
            qualification,
            rip,
            thread: u32::from_le_bytes([thread0, thread1, thread2, thread3]),
            vp: u16::from_le_bytes([vp0, vp1]),
            vm,
            entry_reason: match reason {
                0 => EntryReason::Userspace,
                kind => EntryReason::After(ExitKind(kind - 1)),
            },
            exit_kind: ExitKind(exit_kind),
            flags,
        }
    }

    /// The words as the kernel wrote them.
    pub fn to_words(&self) -> [u64; RECORD_WORDS] {
        let reason = match self.entry_reason {
            EntryReason::Userspace => 0,
            EntryReason::After(kind) => u64::from(kind.0) + 1,
        };
        [
            self.sequence,
            self.entry_tsc,
            self.cycles,
            self.status.raw(),
            self.qualification,
            self.rip,
            u64::from(self.thread)
                | (u64::from(self.vp) << 32)
                | (u64::from(self.vm) << 48)
                | (reason << 56),
            u64::from(self.exit_kind.0) | (u64::from(self.flags) << 8),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_become_a_record_and_the_same_words_again(words: [u64; 8]) {
            let mut words = words;
            // Only the low two bytes of the last word are defined.
            words[7] &= 0xffff;
            prop_assert_eq!(Record::from_words(words).to_words(), words);
        }
    }

    #[test]
    fn kinds_have_names() {
        assert_eq!(ExitKind(10).to_string(), "CPUID");
        assert_eq!(ExitKind(97).to_string(), "INTERRUPTED");
        assert_eq!(ExitKind(103).to_string(), "KIND_103");
    }
}
