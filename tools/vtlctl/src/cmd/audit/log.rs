// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Saves an attested log: records, leaves and events of the running module into a file, which a
//! later process can go on with, whatever became of this one.

mod disk;

use std::path::Path;

use anyhow::{Context as _, bail};
use vtl::attest::{Attestation, LogRing, State};
use vtl::audit::{RECORD_LEN, RECORD_WORDS, SlotFollower, SlotStep};
use vtl::{Info, Vtl};
use vtl_audit::Contents;
use vtl_audit::event::CONTROL;
use vtl_audit::file::{Frame, write};

use disk::Disk;

/// Records in a frame.
const BATCH: usize = 4096;
/// Records of one stream that are taken before another has its turn: one that is written faster than
/// this must not keep the saver.
const TURN: usize = 1 << 17;
/// What names the stream of a leaf, in its third word: count, then id.
const STREAM_SHIFT: u32 = 32;

type Words = [u64; RECORD_WORDS];

/// A stream of the module, and how far it is saved.
struct Stream {
    id: u32,
    records: SlotFollower,
    leaves: SlotFollower,
    /// Last record, and first record of the last leaf, that the file has already.
    last: u64,
    last_leaf: u64,
}

/// What was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) missed: u64,
    pub(super) leaves: u64,
    pub(super) events: u64,
}

/// Saves a log to a file.
pub(super) struct Saver<'v> {
    vtl: &'v Vtl,
    disk: Disk,
    info: &'v Info,
    streams: Vec<Stream>,
    /// What the file has already of each stream that is not open yet: a CPU that has not been online
    /// has no virtual processor.
    closed: Vec<Saved>,
    next_event: u64,
    pub(super) counts: Counts,
}

/// What a file has of a stream.
#[derive(Clone, Copy)]
struct Saved {
    id: u32,
    last_record: u64,
    last_leaf: u64,
}

impl<'v> Saver<'v> {
    /// Begins a file, or goes on with one of the same load of the module.
    pub(super) fn open(
        vtl: &'v Vtl,
        info: &'v Info,
        attestation: &Attestation,
        path: &Path,
    ) -> anyhow::Result<Self> {
        let identity = super::identity::of_this_machine(info);
        let (disk, bytes) = Disk::open(path, &identity)?;
        let contents = match Contents::read(&bytes) {
            Ok(contents) => contents,
            Err(why) => bail!("cannot go on with {}: {why}", path.display()),
        };
        let next_event = next_event(vtl, attestation, &contents)
            .with_context(|| format!("cannot go on with {}", path.display()))?;
        let ids = (0..attestation.streams.saturating_sub(1)).chain([CONTROL]);
        let closed = ids.map(|id| Saved {
            id,
            last_record: contents.last_record(id),
            last_leaf: contents.last_leaf(id),
        });
        let mut saver = Self {
            vtl,
            disk,
            info,
            streams: Vec::new(),
            closed: closed.collect(),
            next_event,
            counts: Counts::default(),
        };
        if contents.events.is_empty() {
            saver.begin(attestation)?;
        }
        Ok(saver)
    }

    /// One event before all else: a file with records and none could not be told from one of another load,
    /// when this process is killed.
    fn begin(&mut self, attestation: &Attestation) -> anyhow::Result<()> {
        if self.next_event < attestation.next_event {
            self.save_event(attestation)?;
        }
        self.disk.sync()
    }

    /// Saves what there is. What an event covers is in the file before the event is, but for the first event
    /// of a file.
    pub(super) fn pass(&mut self) -> anyhow::Result<State> {
        let attestation = self.vtl.attestation()?.context("attestation has gone")?;
        self.open_streams(&attestation)?;
        for stream in &mut self.streams {
            stream.save_records(&mut self.disk, &mut self.counts)?;
            stream.save_leaves(&mut self.disk, &mut self.counts)?;
        }
        // Those that are no longer kept are missed; a verifier finds that.
        self.next_event = self.next_event.max(attestation.first_event);
        while self.next_event < attestation.next_event {
            self.save_event(&attestation)?;
        }
        self.disk.sync()?;
        Ok(attestation.state)
    }

    fn save_event(&mut self, attestation: &Attestation) -> anyhow::Result<()> {
        if let Some(event) = self.vtl.event(self.next_event, attestation)? {
            self.disk.frame(Frame::Event, &event)?;
            self.counts.events += 1;
        }
        self.next_event += 1;
        Ok(())
    }

    /// Opens the streams that have come since the last time. After the number of events was read: so
    /// each stream that one of them covers is open.
    fn open_streams(&mut self, attestation: &Attestation) -> anyhow::Result<()> {
        for saved in core::mem::take(&mut self.closed) {
            if saved.id == CONTROL || self.vtl.stats(saved.id)?.is_some() {
                let stream = Stream::open(self.vtl, self.info, attestation, saved)?;
                self.streams.push(stream);
            } else {
                self.closed.push(saved);
            }
        }
        Ok(())
    }

    /// Adds what somebody said of the log.
    pub(super) fn add(&mut self, kind: Frame, body: &[u8]) -> anyhow::Result<()> {
        self.disk.frame(kind, body)?;
        self.disk.sync()
    }
}

/// The event that the file needs next.
fn next_event(
    vtl: &Vtl,
    attestation: &Attestation,
    contents: &Contents<'_>,
) -> anyhow::Result<u64> {
    let Some(last) = contents.events.last() else {
        if contents.streams().next().is_some() {
            bail!("of which load its records are is not known: give a new file");
        }
        return Ok(attestation.first_event);
    };
    let bytes = vtl.event(attestation.first_event, attestation)?;
    let bytes = bytes.context("the module keeps no event")?;
    let running = match vtl_audit::Event::parse(&bytes) {
        Ok(event) => event.session,
        Err(why) => bail!("the module's event cannot be read: {why}"),
    };
    if running != last.session {
        bail!("the file is of another load of the module: give a new file");
    }
    Ok(last.number.saturating_add(1))
}

impl Stream {
    fn open(
        vtl: &Vtl,
        info: &Info,
        attestation: &Attestation,
        saved: Saved,
    ) -> anyhow::Result<Self> {
        let (records, leaves) = match saved.id {
            CONTROL => (LogRing::Control, LogRing::ControlLeaves),
            cpu => (LogRing::Records(cpu), LogRing::Leaves(cpu)),
        };
        let map = |ring| vtl.map_log_ring(ring, info, attestation);
        Ok(Self {
            id: saved.id,
            records: SlotFollower::from(map(records)?, saved.last_record.saturating_add(1)),
            leaves: SlotFollower::from(map(leaves)?, 1),
            last: saved.last_record,
            last_leaf: saved.last_leaf,
        })
    }

    fn save_records(&mut self, disk: &mut Disk, counts: &mut Counts) -> anyhow::Result<()> {
        let mut batch: Vec<[u8; RECORD_LEN]> = Vec::new();
        let mut first = 0;
        for _ in 0..TURN {
            match self.records.step() {
                Some(SlotStep::Slot(words)) => {
                    let [number, ..] = words;
                    if batch.is_empty() {
                        first = number;
                    }
                    batch.push(bytes(&words));
                    self.last = number;
                    counts.records += 1;
                }
                Some(SlotStep::Missed(count)) => {
                    counts.missed += count;
                    disk.records(self.id, first, &mut batch)?;
                }
                None => break,
            }
            if batch.len() == BATCH {
                disk.records(self.id, first, &mut batch)?;
            }
        }
        disk.records(self.id, first, &mut batch)
    }

    fn save_leaves(&mut self, disk: &mut Disk, counts: &mut Counts) -> anyhow::Result<()> {
        while let Some(step) = self.leaves.step() {
            let SlotStep::Slot(words) = step else {
                continue;
            };
            let [_, first, place, _, hash @ ..] = words;
            if first <= self.last_leaf {
                continue;
            }
            self.last_leaf = first;
            // CAST: two halves of a word.
            let (count, stream) = (place as u32, (place >> STREAM_SHIFT) as u32);
            let hash: [[u8; 8]; 4] = hash.map(u64::to_le_bytes);
            let mut leaf = [0; 32];
            leaf.copy_from_slice(hash.as_flattened());
            let frame = write::leaf(stream, first, count, &leaf);
            disk.append(&frame.context("a leaf is too large")?)?;
            counts.leaves += 1;
        }
        Ok(())
    }
}

fn bytes(words: &Words) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
