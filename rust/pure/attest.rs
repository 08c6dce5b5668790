// SPDX-License-Identifier: GPL-2.0
//! Attestation of the audit: which records are hashed together and when, how far a writer may go, and what
//! follows from the answers of the TDX module.
//!
//! `attest_event.rs` has what is signed for, Documentation/audit-format.rst the formats of both.

use super::audit::{is_ring_size, RECORD_WORDS};

/// SHA-256.
pub type Hash = [u8; 32];
/// SHA-384, and what a register holds.
pub type Digest = [u8; 48];

/// Id of the control plane's stream. A CPU's is its number.
pub const CONTROL_ID: u32 = 0xffff;
/// Most records of a segment: those of a page.
pub const SEGMENT_RECORDS: u64 = 64;
/// What is hashed into a chain with each segment.
pub const LINK_BYTES: usize = 96;

const LINK_TAG: &[u8; 16] = b"VTLAUDIT-CHAIN\0\0";
const COMMIT_TAG: &[u8; 16] = b"VTLAUDIT-COMMIT\0";

/// Whether there is attestation, by the parameter `attest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// None.
    Off,
    /// Without it the lower VTLs run, too.
    Try,
    /// Without it no lower VTL runs.
    Require,
}

impl Mode {
    /// From the number that C makes of the parameter.
    pub const fn new(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Off),
            1 => Some(Self::Try),
            2 => Some(Self::Require),
            _ => None,
        }
    }

    /// That number, which userspace sees, too.
    pub const fn number(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Try => 1,
            Self::Require => 2,
        }
    }
}

/// The other parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Register that is extended.
    pub register: u32,
    /// Seconds from one checkpoint to the next; 0: none but those that are asked for.
    pub interval_s: u32,
    /// Pages of records after which a VP has them hashed.
    pub batch_pages: u32,
    /// Slots of each ring of leaves.
    pub leaves: u32,
}

impl Parameters {
    /// Returns true if the module can do what they say.
    pub const fn are_valid(&self) -> bool {
        matches!(self.register, 2 | 3)
            && self.interval_s <= 86_400
            && self.batch_pages >= 1
            && self.batch_pages <= 1024
            && is_ring_size(self.leaves)
    }
}

/// How much of a stream is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Whose it is.
    pub id: u32,
    /// Number of the first record that is not hashed.
    pub next: u64,
    /// Segments so far.
    pub segments: u64,
    /// Chain over them.
    pub chain: Hash,
}

/// Records of one page that are hashed together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Number of the first.
    pub first: u64,
    /// How many, from 1 to [`SEGMENT_RECORDS`].
    pub count: u32,
}

/// Up to where a stream is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Whole pages only.
    Pages,
    /// To the newest record.
    Newest,
}

impl Stream {
    /// One without records.
    pub const fn new(id: u32) -> Self {
        Self {
            id,
            next: 1,
            segments: 0,
            chain: [0; 32],
        }
    }

    /// The next segment, if it is complete when `newest` is the number of the newest record.
    pub const fn segment(&self, newest: u64, cut: Cut) -> Option<Segment> {
        let first = self.next;
        let page_last = first | (SEGMENT_RECORDS - 1);
        let last = match cut {
            _ if page_last <= newest => page_last,
            Cut::Newest if first <= newest => newest,
            _ => return None,
        };
        let count = (last - first + 1) as u32; // CAST: at most `SEGMENT_RECORDS`
        Some(Segment { first, count })
    }

    /// What the chain after a segment with this leaf is the hash of.
    pub fn link(&self, segment: Segment, leaf: &Hash) -> [u8; LINK_BYTES] {
        let mut link = [0; LINK_BYTES];
        put(&mut link, 0, LINK_TAG);
        put(&mut link, 16, &self.id.to_le_bytes());
        put(&mut link, 20, &segment.count.to_le_bytes());
        put(&mut link, 24, &segment.first.to_le_bytes());
        put(&mut link, 32, &self.chain);
        put(&mut link, 64, leaf);
        link
    }

    /// Notes that a segment is hashed, and `chain` is the chain after it.
    pub const fn advance(&mut self, segment: Segment, chain: Hash) {
        self.next = segment.first + segment.count as u64;
        self.segments += 1;
        self.chain = chain;
    }

    /// Number of the record that a writer may come to before it has to have pages hashed, when `count`
    /// are written and all whole pages are hashed. It is above `count`, and no record that is not hashed
    /// is overwritten by those up to it.
    pub const fn limit(&self, count: u64, records: u32, batch_pages: u32) -> u64 {
        let kept = self.next.saturating_add(records as u64 - 1);
        let batch = count.saturating_add(batch_pages as u64 * SEGMENT_RECORDS);
        if kept < batch {
            kept
        } else {
            batch
        }
    }
}

impl Segment {
    /// The words of its slot in the ring of leaves, after the number of the segment.
    pub fn leaf_words(&self, id: u32, leaf: &Hash) -> [u64; RECORD_WORDS - 1] {
        let mut words = [0; RECORD_WORDS - 1];
        let [first, numbers, _, hash @ ..] = &mut words;
        *first = self.first;
        *numbers = u64::from(self.count) | (u64::from(id) << 32);
        for (word, bytes) in hash.iter_mut().zip(leaf.chunks_exact(8)) {
            *word = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        }
        words
    }
}

/// What the commitment to a secret is the hash of.
pub fn commitment(secret: &Hash) -> [u8; 48] {
    let mut input = [0; 48];
    put(&mut input, 0, COMMIT_TAG);
    put(&mut input, 16, secret);
    input
}

/// What a register is the hash of after it was extended by a digest.
pub fn extended(register: &Digest, digest: &Digest) -> [u8; 96] {
    let mut input = [0; 96];
    put(&mut input, 0, register);
    put(&mut input, 48, digest);
    input
}

/// How many events are kept, so that they take no more than some megabytes.
pub const fn kept_events(streams: u32) -> u64 {
    const ROOM_BYTES: u64 = 4 << 20;
    const MOST: u64 = 4096;
    const FEWEST: u64 = 16;
    let event_bytes = 256 + 64 * streams as u64;
    match ROOM_BYTES / event_bytes {
        MOST.. => MOST,
        ..FEWEST => FEWEST,
        kept => kept,
    }
}

/// Copies bytes to an offset, as far as there is room; offsets are constants, and there is.
pub fn put(to: &mut [u8], offset: usize, from: &[u8]) {
    for (to, from) in to.iter_mut().skip(offset).zip(from) {
        *to = *from;
    }
}

/// What became of a TDCALL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// Another processor had what it needs.
    Busy,
    /// It was refused, for good.
    Refused,
}

/// What to do after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Go on.
    Go,
    /// The same again, after a while.
    Again {
        /// How long.
        wait_us: u32,
    },
    /// There is no attestation any more.
    Break,
}

/// Attempts at a TDCALL that finds its operand busy: the last pause is half a second long.
pub const ATTEMPTS: u32 = 14;

/// The step after an attempt, of which the first is 1.
pub const fn step(answer: Answer, attempt: u32) -> Step {
    match answer {
        Answer::Done => Step::Go,
        Answer::Busy if attempt < ATTEMPTS => Step::Again {
            wait_us: 64 << attempt,
        },
        Answer::Busy | Answer::Refused => Step::Break,
    }
}

/// Why there is a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The module is loaded.
    Open,
    /// Time has passed.
    Interval,
    /// Userspace asks for it.
    Asked(Hash),
    /// The module goes, or this Linux ends.
    Close,
}

/// How attestation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// There is no event yet.
    Opening,
    /// Events can be made.
    Open,
    /// The register could not be extended, or somebody else has extended it. No event is made any more.
    Broken,
    /// The last event is made.
    Closed,
}

impl State {
    /// The number, as userspace sees it.
    pub const fn number(self) -> u32 {
        match self {
            Self::Opening => 0,
            Self::Open => 1,
            Self::Broken => 2,
            Self::Closed => 3,
        }
    }

    /// Returns true if an event may be made for this reason.
    pub const fn takes(self, reason: Reason) -> bool {
        match self {
            Self::Opening => matches!(reason, Reason::Open),
            Self::Open => !matches!(reason, Reason::Open),
            Self::Broken | Self::Closed => false,
        }
    }

    /// The state after an event that is in the register.
    pub const fn after(self, reason: Reason, is_foreign: bool) -> Self {
        match (reason, is_foreign) {
            (_, true) => Self::Broken,
            (Reason::Close, false) => Self::Closed,
            _ => Self::Open,
        }
    }

    /// Returns true if no lower VTL may run.
    pub const fn refuses(self, mode: Mode) -> bool {
        matches!((self, mode), (Self::Broken, Mode::Require))
    }
}

#[cfg(test)]
#[path = "attest_tests.rs"]
mod tests;
