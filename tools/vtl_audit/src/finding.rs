// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a verifier found.

use alloc::vec::Vec;
use core::fmt;

use crate::event::{CONTROL, Session};
use crate::file::BadFile;
use crate::hash::{Digest, Hash};
use crate::record::Contradiction;

/// How much of a log is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record from the load of the module to the last event is there, unaltered.
    Attested,
    /// Some are missing, and named; the others are unaltered.
    WithGaps,
    /// Events before a certain one are missing. Those that are there have not been altered since,
    /// but whether the module made them is not proved.
    SuffixOnly,
    /// Nothing is.
    NotAttested,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Attested => "ATTESTED",
            Self::WithGaps => "ATTESTED WITH GAPS",
            Self::SuffixOnly => "SUFFIX ONLY",
            Self::NotAttested => "NOT ATTESTED",
        })
    }
}

/// A stream in words.
struct Name(u32);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CONTROL => f.write_str("the control plane"),
            cpu => write!(f, "CPU {cpu}"),
        }
    }
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// Records of a segment. Its hash is there and attested: if they turn up, they can be checked.
    Records {
        /// Stream.
        stream: u32,
        /// First record of the segment.
        first: u64,
        /// Last one.
        last: u64,
    },
    /// Records and the hash of their segment: what is there of these is not proved.
    Unproved {
        /// Stream.
        stream: u32,
        /// First record.
        first: u64,
        /// Last one.
        last: u64,
    },
    /// The module says that it lost records itself.
    Lost {
        /// Stream.
        stream: u32,
        /// How many.
        count: u64,
    },
    /// The file ends within a frame.
    Tail {
        /// What is left of it.
        bytes: usize,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Records {
                stream,
                first,
                last,
            } => {
                let name = Name(stream);
                write!(
                    f,
                    "{name}: records {first} to {last} are missing, their hash is attested"
                )
            }
            Self::Unproved {
                stream,
                first,
                last,
            } => {
                let name = Name(stream);
                write!(f, "{name}: of records {first} to {last} nothing is proved")
            }
            Self::Lost { stream, count } => {
                write!(f, "{}: the module lost {count} records", Name(stream))
            }
            Self::Tail { bytes } => write!(f, "the file ends with {bytes} odd bytes"),
        }
    }
}

/// Why nothing is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The file cannot be used.
    File(BadFile),
    /// It has no event.
    NoEvents,
    /// An event is missing between others.
    Missing {
        /// Its number.
        number: u64,
    },
    /// An event after the one that said that it was the last.
    AfterLast {
        /// Its number.
        number: u64,
    },
    /// The secret in an event is not the one that the event before has committed to.
    Reveal {
        /// Its number.
        number: u64,
    },
    /// The events before do not make the register what an event says it was.
    Before {
        /// Its number.
        number: u64,
    },
    /// An event is of another register than the one before.
    OtherRegister {
        /// Its number.
        number: u64,
    },
    /// An event has other streams than the one before.
    Streams {
        /// Its number.
        number: u64,
    },
    /// The log is of another register than the module was told to extend.
    NotAsked {
        /// Index of the log's register.
        register: u32,
    },
    /// The register had been used when the module was loaded.
    OpenRegister,
    /// Somebody else has extended the register.
    Foreign {
        /// The event that found it.
        number: u64,
    },
    /// No event of the file leads to the register of the evidence.
    Register,
    /// The host can read and change this trust domain.
    Debug,
    /// No event carries the nonce.
    Nonce,
    /// The evidence was not made for the nonce.
    ReportData,
    /// The log is of another session than the one that was known.
    OtherSession,
    /// The log ends before an event that was known.
    Older {
        /// Its last event.
        number: u64,
    },
    /// A stream has fewer records or segments in an event than in the one before.
    Backwards {
        /// Stream.
        stream: u32,
        /// The later event.
        number: u64,
    },
    /// The records up to an event are not those that it has hashed.
    Chain {
        /// Stream.
        stream: u32,
        /// The event.
        number: u64,
    },
    /// The file has another hash for a segment than its records have, or one for what is no segment.
    Leaf {
        /// Stream.
        stream: u32,
        /// First record of the segment.
        first: u64,
    },
    /// There are records of a stream that no event knows.
    NoStream {
        /// Stream.
        stream: u32,
    },
    /// A record makes no sense, although the kernel wrote it.
    Record {
        /// Stream.
        stream: u32,
        /// Number of the record.
        number: u64,
        /// Why.
        why: Contradiction,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::File(why) => why.fmt(f),
            Self::NoEvents => f.write_str("the file has no event"),
            Self::Missing { number } => write!(f, "event {number} is missing"),
            Self::AfterLast { number } => {
                write!(f, "event {number} comes after one that was the last")
            }
            Self::Reveal { number } => write!(
                f,
                "event {number} does not know the secret of the one before: the module did not make it"
            ),
            Self::Before { number } => write!(
                f,
                "the events before event {number} do not make the register what it says: one is changed"
            ),
            Self::OtherRegister { number } => {
                write!(
                    f,
                    "event {number} is of another register than the one before"
                )
            }
            Self::Streams { number } => {
                write!(f, "event {number} has other streams than the one before")
            }
            Self::NotAsked { register } => write!(
                f,
                "the log is of RTMR{register}, which is not the register that the module was to extend"
            ),
            Self::OpenRegister => f.write_str(
                "the register had another value than expected when the module was loaded: \
                 it was loaded before, or somebody else uses the register",
            ),
            Self::Foreign { number } => {
                write!(
                    f,
                    "somebody else has extended the register, which event {number} found"
                )
            }
            Self::Register => f.write_str(
                "the events do not lead to the register of the evidence: they are not complete, \
                 changed, of another trust domain, or somebody else has extended the register",
            ),
            Self::Debug => f.write_str("this is a debug TD: its host can read and change it"),
            Self::Nonce => f.write_str("no event carries the nonce"),
            Self::ReportData => f.write_str("the evidence was not made for this nonce"),
            Self::OtherSession => f.write_str("the log is of another session"),
            Self::Older { number } => write!(f, "the log ends with event {number}, it is older"),
            Self::Backwards { stream, number } => {
                write!(
                    f,
                    "{}: event {number} has less than the one before",
                    Name(stream)
                )
            }
            Self::Chain { stream, number } => write!(
                f,
                "{}: the records up to event {number} are not those of the module",
                Name(stream)
            ),
            Self::Leaf { stream, first } => write!(
                f,
                "{}: the hash from record {first} on is not that of a segment",
                Name(stream)
            ),
            Self::NoStream { stream } => write!(f, "no event knows {}", Name(stream)),
            Self::Record {
                stream,
                number,
                why,
            } => {
                write!(f, "{}: record {number}: {why}", Name(stream))
            }
        }
    }
}

/// What was found in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its id: a CPU, or [`CONTROL`].
    pub id: u32,
    /// Last record that the events cover; 0: none.
    pub last: u64,
    /// Records that are proved.
    pub proved: u64,
    /// Records in the file that are not: newer ones, and those of gaps.
    pub unproved: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much is proved.
    pub verdict: Verdict,
    /// The load of the module that the log is of.
    pub session: Option<Session>,
    /// RTMR0 to 2 when the module was loaded, if that is proved. Root can extend them later: evidence does
    /// not tell what the boot has measured.
    pub boot_registers: Option<[Digest; 3]>,
    /// First event of the file.
    pub first_event: u64,
    /// The event up to which it is proved.
    pub last_event: Option<u64>,
    /// Events of the file after that.
    pub later_events: u64,
    /// True if no event can follow.
    pub is_closed: bool,
    /// The newest event that carries the nonce: what it covers was recorded before it, and what is
    /// after it after the nonce was known.
    pub nonce_event: Option<u64>,
    /// The nonce that was asked for.
    pub nonce: Option<Hash>,
    /// By rising id.
    pub streams: Vec<Stream>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// Why nothing is proved; empty if something is.
    pub reasons: Vec<Reason>,
}

impl Finding {
    pub(crate) fn nothing_yet(nonce: Option<Hash>) -> Self {
        Self {
            verdict: Verdict::NotAttested,
            session: None,
            boot_registers: None,
            first_event: 0,
            last_event: None,
            later_events: 0,
            is_closed: false,
            nonce_event: None,
            nonce,
            streams: Vec::new(),
            gaps: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Draws the conclusion.
    pub(crate) fn conclude(mut self) -> Self {
        self.verdict = if !self.reasons.is_empty() || self.last_event.is_none() {
            Verdict::NotAttested
        } else if self.first_event != 0 {
            Verdict::SuffixOnly
        } else if !self.gaps.is_empty() {
            Verdict::WithGaps
        } else {
            Verdict::Attested
        };
        if self.verdict == Verdict::NotAttested {
            self.boot_registers = None;
        }
        self
    }
}
