// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a record says against itself, and, in the stream of a CPU, against the one before it.
//!
//! A chain of hashes says that the kernel wrote a record so. This says that it makes sense.

use core::fmt;

use crate::bytes::{is_zero, word16, word64};

/// Why a record makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contradiction {
    /// Its number is 0, which no record has.
    NoNumber,
    /// It is of a VM that cannot be.
    Vm(u8),
    /// The kind of its exit is not that of its status.
    Kind {
        /// Kind of the exit.
        kind: u8,
        /// Completion status.
        status: u64,
    },
    /// What is reserved is not zero.
    Reserved,
    /// It began before the one before had ended.
    Early,
    /// It was entered after another exit than the one before had.
    Reason {
        /// The exit after which it was entered, as it says.
        says: u8,
        /// The exit of the record before.
        was: u8,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("it has no number"),
            Self::Vm(vm) => write!(f, "there is no VM {vm}"),
            Self::Kind { kind, status } => write!(f, "exit of kind {kind} with status {status:#x}"),
            Self::Reserved => f.write_str("reserved bytes are not zero"),
            Self::Early => f.write_str("it began before the last one ended"),
            Self::Reason { says, was } => {
                write!(
                    f,
                    "it was entered after an exit of kind {says}, but that was {was}"
                )
            }
        }
    }
}

/// Offsets.
mod at {
    pub(super) const TSC: usize = 8;
    pub(super) const CYCLES: usize = 16;
    pub(super) const STATUS: usize = 24;
    pub(super) const VM: usize = 54;
    pub(super) const REASON: usize = 55;
    pub(super) const KIND: usize = 56;
    pub(super) const RESERVED: usize = 58;
}
/// Kinds of exit below this are basic exit reasons.
const REASONS: u8 = 96;

/// A record of a CPU's stream.
struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn word(&self, at: usize) -> u64 {
        word64(self.0, at).unwrap_or(0)
    }
}

/// What a record says against itself.
pub(crate) fn alone(bytes: &[u8]) -> Option<Contradiction> {
    let record = Record(bytes);
    let (vm, kind) = (record.byte(at::VM), record.byte(at::KIND));
    let status = record.word(at::STATUS);
    let reason = word16(bytes, at::STATUS).unwrap_or(0);
    if record.word(0) == 0 {
        Some(Contradiction::NoNumber)
    } else if !(1..=3).contains(&vm) {
        Some(Contradiction::Vm(vm))
    } else if kind < REASONS && (status >> 32 != 0 || reason != u16::from(kind)) {
        Some(Contradiction::Kind { kind, status })
    } else if !bytes.get(at::RESERVED..).is_some_and(is_zero) {
        Some(Contradiction::Reserved)
    } else {
        None
    }
}

/// What a record of the control plane says against itself. What an operation may say is not known here.
pub(crate) fn control(bytes: &[u8]) -> Option<Contradiction> {
    let is_zero = |range: core::ops::Range<usize>| bytes.get(range).is_some_and(is_zero);
    if Record(bytes).word(0) == 0 {
        Some(Contradiction::NoNumber)
    } else if !is_zero(54..56) || !is_zero(60..64) {
        Some(Contradiction::Reserved)
    } else {
        None
    }
}

/// What a record says against the one right before it.
pub(crate) fn after(before: &[u8], bytes: &[u8]) -> Option<Contradiction> {
    let (before, record) = (Record(before), Record(bytes));
    let end = before.word(at::TSC).wrapping_add(before.word(at::CYCLES));
    let was = before.byte(at::KIND);
    if record.word(at::TSC) < end {
        return Some(Contradiction::Early);
    }
    // One more than the kind; 0 is userspace.
    match record.byte(at::REASON).checked_sub(1) {
        Some(says) if says != was => Some(Contradiction::Reason { says, was }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn with(at: usize, byte: u8) -> [u8; 64] {
        let mut record = record(2, 0);
        record[at] = byte;
        record
    }

    #[test]
    fn records_of_the_module_make_sense() {
        assert_eq!(alone(&record(1, 0)), None);
        assert_eq!(after(&record(1, 0), &record(2, 0)), None);
    }

    #[test]
    fn a_record_that_contradicts_itself_says_how() {
        assert_eq!(alone(&with(0, 0)), Some(Contradiction::NoNumber));
        assert_eq!(alone(&with(at::VM, 0)), Some(Contradiction::Vm(0)));
        assert_eq!(alone(&with(at::VM, 4)), Some(Contradiction::Vm(4)));
        let kind = Contradiction::Kind {
            kind: 12,
            status: 10,
        };
        assert_eq!(alone(&with(at::KIND, 12)), Some(kind));
        // Those of the kernel's own have any status.
        assert_eq!(alone(&with(at::KIND, 97)), None);
        for byte in at::RESERVED..64 {
            assert_eq!(
                alone(&with(byte, 1)),
                Some(Contradiction::Reserved),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn a_record_of_the_control_plane_has_zeros_where_it_should() {
        let good = crate::testing::control_record(1);
        assert_eq!(control(&good), None);
        for byte in [54, 55, 60, 61, 62, 63] {
            let mut bad = good;
            bad[byte] = 1;
            assert_eq!(control(&bad), Some(Contradiction::Reserved), "byte {byte}");
        }
    }

    #[test]
    fn a_record_that_contradicts_the_one_before_says_how() {
        let first = record(1, 0);
        assert_eq!(
            after(&first, &with(at::TSC + 1, 0)),
            Some(Contradiction::Early)
        );
        let reason = Contradiction::Reason { says: 97, was: 10 };
        assert_eq!(after(&first, &with(at::REASON, 98)), Some(reason));
        assert_eq!(after(&first, &with(at::REASON, 11)), None);
    }
}
