// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Files of a log: a head that says where it comes from, then frames in any order.
//!
//! What stands here of a file was looked at as far as its form goes. Memory and time that
//! reading takes are bounded by its length: each record costs 32 bytes, and a sort.

mod frame;
pub mod write;

use alloc::vec::Vec;
use core::fmt;

use crate::bytes::{array, is_zero, length, word16, word32, word64};
use crate::event::{BadEvent, CONTROL, Event};
use crate::hash::Hash;

pub use frame::Frame;

/// Bytes of a record.
pub const RECORD_LEN: usize = 64;

const MAGIC: [u8; 8] = *b"VTLAUDIT";
/// The version that is read here. Files of version 1 and 2 have records after the head, and
/// nothing else.
pub const VERSION: u32 = 3;
const HEAD_LEN: usize = 24;
/// A longer text is no identity.
const IDENTITY_MAX: usize = 4096;

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadFile {
    /// It does not begin like one.
    Magic,
    /// A version without events (1, 2), or one that this program does not know.
    Version(u32),
    /// It is not even as long as its head, or the head is not as it is written.
    Head,
    /// A frame of a type that this program does not know.
    Frame {
        /// Where in the file.
        at: usize,
        /// The type.
        kind: u32,
    },
    /// A frame that is not as it is written.
    Form {
        /// Where in the file.
        at: usize,
    },
    /// A record that is not the one its place says.
    Record {
        /// Stream of the place.
        stream: u32,
        /// Number of the place.
        number: u64,
    },
    /// Something that is no event.
    Event {
        /// Where in the file.
        at: usize,
        /// What is wrong with it.
        why: BadEvent,
    },
    /// Two records that differ in one place.
    TwoRecords {
        /// Stream of the place.
        stream: u32,
        /// Number of the place.
        number: u64,
    },
    /// Two leaves that differ for one segment.
    TwoLeaves {
        /// Stream of the segment.
        stream: u32,
        /// Number of its first record.
        first: u64,
    },
    /// Two events that differ with one number.
    TwoEvents {
        /// The number.
        number: u64,
    },
    /// Events of two loads of the module.
    TwoSessions,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("this is no file of audit records"),
            Self::Version(1 | 2) => f.write_str("a file of this version has no events"),
            Self::Version(other) => {
                write!(
                    f,
                    "this file has version {other}, this program knows up to {VERSION}"
                )
            }
            Self::Head => f.write_str("the head of the file is damaged"),
            Self::Frame { at, kind } => write!(f, "byte {at}: there is no frame of type {kind}"),
            Self::Form { at } => write!(f, "byte {at}: the frame is not as it is written"),
            Self::Record { stream, number } => {
                write!(
                    f,
                    "what stands for record {number} of stream {stream} is another one"
                )
            }
            Self::Event { at, why } => write!(f, "byte {at}: this is no event: {why}"),
            Self::TwoRecords { stream, number } => {
                write!(
                    f,
                    "there are two different records {number} of stream {stream}"
                )
            }
            Self::TwoLeaves { stream, first } => {
                write!(
                    f,
                    "there are two different leaves from record {first} of stream {stream} on"
                )
            }
            Self::TwoEvents { number } => write!(f, "there are two different events {number}"),
            Self::TwoSessions => f.write_str("there are events of two loads of the module"),
        }
    }
}

/// A record with its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) stream: u32,
    pub(crate) number: u64,
    pub(crate) bytes: &'a [u8],
}

/// The leaf of a segment that a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) stream: u32,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) hash: Hash,
}

/// A file, read and sorted.
#[derive(Debug)]
pub struct Contents<'a> {
    /// JSON that says where the file comes from. Nothing vouches for it.
    pub identity: &'a [u8],
    /// Events, by number, each once.
    pub events: Vec<Event<'a>>,
    /// TDREPORTs, in the order of the file.
    pub reports: Vec<&'a [u8]>,
    /// Quotes.
    pub quotes: Vec<&'a [u8]>,
    /// Copies of the boot's event log.
    pub boot_logs: Vec<&'a [u8]>,
    /// Bytes at the end that are no whole frame.
    pub odd_bytes: usize,
    records: Vec<Place<'a>>,
    leaves: Vec<Leaf>,
}

impl<'a> Contents<'a> {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// What it is instead, or what contradicts itself in it.
    pub fn read(file: &'a [u8]) -> Result<Self, BadFile> {
        let (identity, start) = head(file)?;
        let mut contents = Self {
            identity,
            events: Vec::new(),
            reports: Vec::new(),
            quotes: Vec::new(),
            boot_logs: Vec::new(),
            odd_bytes: 0,
            records: Vec::new(),
            leaves: Vec::new(),
        };
        let mut at = start;
        while let Some((kind, body, next)) = frame::next(file, at)? {
            contents.add(at, kind, body)?;
            at = next;
        }
        contents.odd_bytes = file.len().saturating_sub(at);
        contents.sort()?;
        Ok(contents)
    }

    fn add(&mut self, at: usize, kind: u32, body: &'a [u8]) -> Result<(), BadFile> {
        let form = BadFile::Form { at };
        match Frame::new(kind).ok_or(BadFile::Frame { at, kind })? {
            Frame::Records => self.add_records(body, form)?,
            Frame::Event => {
                let event = Event::parse(body).map_err(|why| BadFile::Event { at, why })?;
                self.events.push(event);
            }
            Frame::Leaf => self.leaves.push(leaf(body).ok_or(form)?),
            Frame::Report => self.reports.push(body),
            Frame::Quote => self.quotes.push(body),
            Frame::BootLog => self.boot_logs.push(body),
        }
        Ok(())
    }

    fn add_records(&mut self, body: &'a [u8], form: BadFile) -> Result<(), BadFile> {
        let (stream, count, first) = place(body).ok_or(form)?;
        let records = body.get(frame::PLACE_LEN..).unwrap_or(&[]);
        if records.len() % RECORD_LEN != 0 || records.len() / RECORD_LEN != length(count) {
            return Err(form);
        }
        let numbers = first..=u64::MAX;
        for (bytes, number) in records.chunks_exact(RECORD_LEN).zip(numbers) {
            // The number stands in the record, too, and the CPU in those of a CPU.
            let is_here = word64(bytes, 0) == Some(number);
            let cpu = word16(bytes, 52).map(u32::from);
            if !is_here || stream != CONTROL && cpu != Some(stream) {
                return Err(BadFile::Record { stream, number });
            }
            let place = Place {
                stream,
                number,
                bytes,
            };
            self.records.push(place);
        }
        Ok(())
    }

    /// Sorts what there is, and leaves one of those that are equal.
    fn sort(&mut self) -> Result<(), BadFile> {
        self.events
            .sort_by_key(|event| (event.session, event.number));
        once(&mut self.events, |a, b| {
            let is_one = (a.session, a.number) == (b.session, b.number);
            let differ = BadFile::TwoEvents { number: a.number };
            is_one.then_some((a.bytes == b.bytes, differ))
        })?;
        let mut sessions = self.events.iter().map(|event| event.session);
        let first = sessions.next();
        if sessions.any(|session| Some(session) != first) {
            return Err(BadFile::TwoSessions);
        }
        self.records
            .sort_by_key(|place| (place.stream, place.number));
        once(&mut self.records, |a, b| {
            let is_one = (a.stream, a.number) == (b.stream, b.number);
            let (stream, number) = (a.stream, a.number);
            let differ = BadFile::TwoRecords { stream, number };
            is_one.then_some((a.bytes == b.bytes, differ))
        })?;
        self.leaves.sort_by_key(|leaf| (leaf.stream, leaf.first));
        once(&mut self.leaves, |a, b| {
            let (stream, first) = (a.stream, a.first);
            let is_one = (stream, first) == (b.stream, b.first);
            is_one.then_some((a == b, BadFile::TwoLeaves { stream, first }))
        })
    }

    /// Where the records from `first` on are in the sorted list.
    fn from(&self, stream: u32, first: u64) -> &[Place<'a>] {
        let at = self
            .records
            .partition_point(|place| (place.stream, place.number) < (stream, first));
        self.records.get(at..).unwrap_or(&[])
    }

    /// Those records of a stream that there are, of `first..end` (end exclusive).
    pub(crate) fn records(&self, stream: u32, first: u64, end: u64) -> &[Place<'a>] {
        let rest = self.from(stream, first);
        let len = rest.partition_point(|place| place.stream == stream && place.number < end);
        rest.get(..len).unwrap_or(&[])
    }

    /// Those leaves of a stream that there are, of segments that begin in `first..end`.
    pub(crate) fn leaves(&self, stream: u32, first: u64, end: u64) -> &[Leaf] {
        let at = |first| {
            self.leaves
                .partition_point(|leaf| (leaf.stream, leaf.first) < (stream, first))
        };
        self.leaves.get(at(first)..at(end)).unwrap_or(&[])
    }

    /// Records of a stream, by rising number. Whether they are proved is not said.
    pub fn records_of(&self, stream: u32) -> impl Iterator<Item = &'a [u8]> {
        let records = self.records(stream, 0, u64::MAX);
        records.iter().map(|place| place.bytes)
    }

    /// Number of the last record of a stream; 0 if there is none.
    #[must_use]
    pub fn last_record(&self, stream: u32) -> u64 {
        let last = self.records(stream, 0, u64::MAX).last();
        last.map_or(0, |place| place.number)
    }

    /// First record of the last segment that there is a leaf of; 0 if there is none.
    #[must_use]
    pub fn last_leaf(&self, stream: u32) -> u64 {
        let last = self.leaves(stream, 0, u64::MAX).last();
        last.map_or(0, |leaf| leaf.first)
    }

    /// Ids of the streams that there are records or leaves of, once for each of these.
    pub fn streams(&self) -> impl Iterator<Item = u32> {
        let records = self.records.iter().map(|place| place.stream);
        records.chain(self.leaves.iter().map(|leaf| leaf.stream))
    }

    /// The leaf of a segment, if there is one.
    pub(crate) fn leaf(&self, stream: u32, first: u64) -> Option<&Leaf> {
        let key = (stream, first);
        let found = self
            .leaves
            .binary_search_by_key(&key, |leaf| (leaf.stream, leaf.first));
        self.leaves.get(found.ok()?)
    }
}

/// Removes repeated items of a sorted list. `compare` tells of two that stand in the same place
/// if they are equal, and what it means if they are not.
fn once<T>(
    list: &mut Vec<T>,
    compare: impl Fn(&T, &T) -> Option<(bool, BadFile)>,
) -> Result<(), BadFile> {
    let mut fault = None;
    list.dedup_by(|later, earlier| match compare(earlier, later) {
        None => false,
        Some((true, _)) => true,
        Some((false, differ)) => {
            fault.get_or_insert(differ);
            true
        }
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// The version that a file says it has; `None` if it is no file of records.
#[must_use]
pub fn version(file: &[u8]) -> Option<u32> {
    file.strip_prefix(&MAGIC).and_then(|rest| word32(rest, 0))
}

/// Returns how many bytes the head of a file and its whole frames have. A program that goes on with a file
/// whose writer was killed cuts it there.
///
/// # Errors
///
/// The head is not whole, or a frame is damaged: what comes after that is not the rest of a frame, and is not
/// to be cut off.
pub fn whole(file: &[u8]) -> Result<usize, BadFile> {
    let (_, mut at) = head(file)?;
    while let Some((_, _, next)) = frame::next(file, at)? {
        at = next;
    }
    Ok(at)
}

/// The text of the head, and where the frames begin.
fn head(file: &[u8]) -> Result<(&[u8], usize), BadFile> {
    if !file.starts_with(&MAGIC) {
        return Err(BadFile::Magic);
    }
    let field = |at| word32(file, at).ok_or(BadFile::Head);
    let version = field(8)?;
    if version != VERSION {
        return Err(BadFile::Version(version));
    }
    let len = length(field(16)?);
    let is_known = length(field(12)?) == RECORD_LEN && field(20)? == 0;
    if !is_known || len > IDENTITY_MAX {
        return Err(BadFile::Head);
    }
    let end = HEAD_LEN + len;
    let padded = end.next_multiple_of(8);
    let text = file.get(HEAD_LEN..end).ok_or(BadFile::Head)?;
    match file.get(end..padded) {
        Some(padding) if is_zero(padding) => Ok((text, padded)),
        _ => Err(BadFile::Head),
    }
}

/// Stream, number of records and first record, of frames that are about records.
fn place(body: &[u8]) -> Option<(u32, u32, u64)> {
    let (stream, count, first) = (word32(body, 0)?, word32(body, 4)?, word64(body, 8)?);
    let last = first.checked_add(u64::from(count))?;
    (stream <= CONTROL && first != 0 && count != 0 && last != u64::MAX)
        .then_some((stream, count, first))
}

fn leaf(body: &[u8]) -> Option<Leaf> {
    let (stream, count, first) = place(body)?;
    let hash = array(body, frame::PLACE_LEN)?;
    // No segment reaches beyond a page.
    let is_segment = body.len() == frame::LEAF_LEN && first % 64 + u64::from(count) <= 64;
    is_segment.then_some(Leaf {
        stream,
        first,
        count,
        hash,
    })
}

#[cfg(test)]
mod tests;
