// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the module's audit records of a finding: kind and processor, and the hash of the line that the
//! monitor's log has of it. [Documentation/audit-format.rst]

use sha2::{Digest as _, Sha256};
use vtlvmm::monitor::{Finding, Kind};

/// Upper half of the first word: "MONI".
const TAG: u64 = 0x4d4f_4e49 << 32;
const TAG_MASK: u64 = 0xffff_ffff << 32;
/// In place of a processor's number.
const NO_PROCESSOR: u16 = u16::MAX;

/// A note, as read from a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) kind: &'static str,
    pub(crate) processor: Option<u16>,
    /// The first half of the hash.
    pub(crate) line: [u8; 16],
}

/// The words of a note of `finding`, of which the log has `line`, without its end.
pub(super) fn words(finding: &Finding, line: &str) -> [u64; 3] {
    let processor = finding.key.processor.map(u16::try_from);
    let processor = processor.and_then(Result::ok).unwrap_or(NO_PROCESSOR);
    let hash: [u8; 32] = Sha256::digest(line.as_bytes()).into();
    let half = |at: usize| {
        let bytes = hash.get(at..).and_then(|it| it.first_chunk());
        bytes.copied().map_or(0, u64::from_le_bytes)
    };
    let about = (u64::from(processor) << 16) | u64::from(finding.key.kind.number());
    [TAG | about, half(0), half(8)]
}

impl Note {
    /// `None` if it is not one of the monitor's.
    pub(crate) fn read([about, first, second]: [u64; 3]) -> Option<Self> {
        // CAST: parts of a word.
        let (number, processor) = (about as u16, (about >> 16) as u16);
        let kind = Kind::ALL.iter().find(|kind| kind.number() == number);
        if about & TAG_MASK != TAG {
            return None;
        }
        let mut line = [0; 16];
        let (low, high) = line.split_at_mut(8);
        low.copy_from_slice(&first.to_le_bytes());
        high.copy_from_slice(&second.to_le_bytes());
        Some(Self {
            kind: kind?.name(),
            processor: (processor != NO_PROCESSOR).then_some(processor),
            line,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtlvmm::monitor::finding::Key;

    fn finding(kind: Kind, processor: Option<usize>) -> Finding {
        Finding {
            key: Key {
                kind,
                place: 0,
                processor,
                name: "",
                gpa: None,
            },
            place: String::new(),
            expected: String::new(),
            found: String::new(),
        }
    }

    #[test]
    fn a_note_says_kind_and_processor_and_has_the_hash_of_the_line() {
        // SHA-256 of "abc" [FIPS 180-4].
        let words = words(&finding(Kind::Gate, Some(3)), "abc");
        assert_eq!(words[0], 0x4d4f_4e49_0003_0002);
        assert_eq!(words[1].to_le_bytes(), *b"\xba\x78\x16\xbf\x8f\x01\xcf\xea");
        let note = Note::read(words).expect("ours");
        assert_eq!((note.kind, note.processor), ("gate", Some(3)));
        assert_eq!(note.line[8..], *b"\x41\x41\x40\xde\x5d\xae\x22\x23");
    }

    #[test]
    fn each_kind_is_read_back_and_other_notes_are_not() {
        for kind in Kind::ALL {
            let words = words(&finding(kind, None), "");
            let note = Note::read(words).expect("ours");
            assert_eq!((note.kind, note.processor), (kind.name(), None));
        }
        assert_eq!(Note::read([1, 2, 3]), None);
        assert_eq!(Note::read([TAG, 2, 3]), None);
        assert_eq!(Note::read([TAG | 11, 2, 3]), None);
    }
}
