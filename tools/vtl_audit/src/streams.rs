// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The records of a stream against the chains in the heads of the events.

use alloc::vec::Vec;

use crate::event::{CONTROL, Event, Head};
use crate::file::{Contents, Place, RECORD_LEN};
use crate::finding::{Finding, Gap, Reason, Stream};
use crate::hash::{self, Hash};
use crate::record;

/// Records of a ring page are numbered alike but for these bits.
const PAGE: u64 = 63;

/// Checks all streams from the first to the last of `events`, which are proved.
pub(crate) fn check(contents: &Contents<'_>, events: &[Event<'_>], finding: &mut Finding) {
    let heads: Vec<Vec<Head>> = events.iter().map(|event| event.heads().collect()).collect();
    let streams = heads.first().map_or(0, Vec::len);
    for index in 0..streams {
        let of_stream = heads.iter().filter_map(|heads| heads.get(index).copied());
        let numbers = events.iter().map(|event| event.number);
        let steps: Vec<(u64, Head)> = numbers.zip(of_stream).collect();
        let mut walk = Walk::new(contents, finding);
        walk.stream(&steps);
    }
    let is_known = |id: u32| {
        let found = finding
            .streams
            .binary_search_by_key(&id, |stream| stream.id);
        found.is_ok()
    };
    if let Some(stream) = contents.streams().find(|id| !is_known(*id)) {
        finding.reasons.push(Reason::NoStream { stream });
    }
}

/// The way through a stream.
struct Walk<'a, 'f> {
    contents: &'a Contents<'a>,
    finding: &'f mut Finding,
    proved: u64,
    /// Leaves of the file that were looked at.
    leaves: usize,
    /// The newest record that is proved.
    last: Option<Place<'a>>,
}

/// What is known of a segment.
enum Segment {
    Whole(Hash),
    /// Records are missing.
    Hashed(Hash),
    Unknown,
}

impl<'a, 'f> Walk<'a, 'f> {
    fn new(contents: &'a Contents<'a>, finding: &'f mut Finding) -> Self {
        Self {
            contents,
            finding,
            proved: 0,
            leaves: 0,
            last: None,
        }
    }

    fn stream(&mut self, steps: &[(u64, Head)]) {
        let (Some((_, base)), Some((_, end))) = (steps.first(), steps.last()) else {
            return;
        };
        let id = base.stream;
        let pairs = steps.iter().zip(steps.iter().skip(1));
        for ((_, before), (number, head)) in pairs {
            if let Err(reason) = self.interval(before, head, *number) {
                self.finding.reasons.push(reason);
                break;
            }
        }
        if end.lost != 0 {
            let count = end.lost;
            self.finding.gaps.push(Gap::Lost { stream: id, count });
        }
        let leaves = self.contents.leaves(id, base.next, end.next);
        if self.leaves != leaves.len() && self.finding.reasons.is_empty() {
            let first = leaves.first().map_or(0, |leaf| leaf.first);
            self.finding
                .reasons
                .push(Reason::Leaf { stream: id, first });
        }
        let all = self.contents.records(id, 0, u64::MAX).len() as u64;
        self.finding.streams.push(Stream {
            id,
            last: end.next.saturating_sub(1),
            proved: self.proved,
            unproved: all.saturating_sub(self.proved),
        });
    }

    /// From one event to the next.
    fn interval(&mut self, before: &Head, head: &Head, number: u64) -> Result<(), Reason> {
        let stream = head.stream;
        if head.next < before.next || head.segments < before.segments || head.lost < before.lost {
            return Err(Reason::Backwards { stream, number });
        }
        let (mut first, mut chain, mut segments) = (before.next, before.chain, before.segments);
        let gaps = self.finding.gaps.len();
        while first < head.next {
            let end = (first | PAGE).saturating_add(1).min(head.next);
            let leaf = match self.segment(stream, first, end)? {
                Segment::Whole(leaf) => leaf,
                Segment::Hashed(leaf) => {
                    let last = end - 1;
                    self.finding.gaps.push(Gap::Records {
                        stream,
                        first,
                        last,
                    });
                    leaf
                }
                // Without one leaf the chain cannot be followed: nothing of the interval is proved.
                Segment::Unknown => {
                    self.leaves += self.contents.leaves(stream, end, head.next).len();
                    self.finding.gaps.truncate(gaps);
                    let (first, last) = (before.next, head.next - 1);
                    self.finding.gaps.push(Gap::Unproved {
                        stream,
                        first,
                        last,
                    });
                    self.last = None;
                    return Ok(());
                }
            };
            let count = (end - first) as u32; // CAST: at most 64
            chain = hash::chain(stream, count, first, &chain, &leaf);
            segments = segments.saturating_add(1);
            first = end;
        }
        if chain != head.chain || segments != head.segments {
            return Err(Reason::Chain { stream, number });
        }
        self.sense(stream, before.next, head.next)
    }

    /// The segment `first..end`. Records and leaf of the file have to say the same.
    fn segment(&mut self, stream: u32, first: u64, end: u64) -> Result<Segment, Reason> {
        let leaf = self.contents.leaf(stream, first);
        self.leaves += usize::from(leaf.is_some());
        let differs = Reason::Leaf { stream, first };
        if leaf.is_some_and(|leaf| u64::from(leaf.count) != end - first) {
            return Err(differs);
        }
        let records = self.contents.records(stream, first, end);
        if records.len() as u64 != end - first {
            return Ok(leaf.map_or(Segment::Unknown, |leaf| Segment::Hashed(leaf.hash)));
        }
        let mut bytes = Vec::with_capacity(records.len() * RECORD_LEN);
        records.iter().for_each(|place| bytes.extend(place.bytes));
        let computed = hash::leaf(&bytes);
        match leaf {
            Some(leaf) if leaf.hash != computed => Err(differs),
            _ => Ok(Segment::Whole(computed)),
        }
    }

    /// Looks at the records of an interval whose chain is right. Those of a segment that is not
    /// whole are not proved.
    fn sense(&mut self, stream: u32, first: u64, end: u64) -> Result<(), Reason> {
        let mut first = first;
        while first < end {
            let next = (first | PAGE).saturating_add(1).min(end);
            let records = self.contents.records(stream, first, next);
            if records.len() as u64 == next - first {
                self.proved += next - first;
                records.iter().try_for_each(|place| self.record(place))?;
            }
            first = next;
        }
        Ok(())
    }

    fn record(&mut self, place: &Place<'a>) -> Result<(), Reason> {
        let before = self.last.replace(*place);
        let before = before.filter(|before| before.number + 1 == place.number);
        let why = match place.stream {
            CONTROL => record::control(place.bytes),
            _ => record::alone(place.bytes).or_else(|| record::after(before?.bytes, place.bytes)),
        };
        match why {
            None => Ok(()),
            Some(why) => Err(Reason::Record {
                stream: place.stream,
                number: place.number,
                why,
            }),
        }
    }
}
