// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A module that makes logs, and a TDX module that reports: for tests of what reads them.
//!
//! It does what the format says and no more; what an attacker makes of it is the tests' affair.

use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha384};

use crate::event::CONTROL;
use crate::file::{Frame, RECORD_LEN, write};
use crate::hash::{self, Digest, Hash, ReportData};

/// One stream.
#[derive(Clone, Debug)]
struct Stream {
    id: u32,
    records: Vec<[u8; RECORD_LEN]>,
    /// First record that is in no segment.
    next: u64,
    segments: u64,
    chain: Hash,
}

/// A module that is loaded.
#[derive(Clone, Debug)]
pub struct Module {
    streams: Vec<Stream>,
    session: [u8; 16],
    /// Index of the register.
    index: u32,
    /// RTMR0 to 2 when it was loaded.
    boot: [Digest; 3],
    /// The register as the TDX module has it.
    pub register: Digest,
    /// What the events so far make of it.
    replay: Digest,
    events: Vec<Vec<u8>>,
    /// Frames of leaves, with stream and first record.
    leaves: Vec<(u32, u64, Vec<u8>)>,
}

/// What an event is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Open,
    Time,
    Asked(Hash),
    Close,
}

impl Module {
    /// Loads it in a new TD, with streams of these ids.
    #[must_use]
    pub fn load(ids: &[u32]) -> Self {
        Self::load_again(ids, [0; 48], 1)
    }

    /// Loads it in a TD whose register has a value. `session` tells loads apart.
    #[must_use]
    pub fn load_again(ids: &[u32], register: Digest, session: u8) -> Self {
        Self::load_with(ids, 3, register, session)
    }

    /// The same, with a register of this index: 2 or 3.
    #[must_use]
    pub fn load_with(ids: &[u32], index: u32, register: Digest, session: u8) -> Self {
        let mut boot = [[1; 48], [2; 48], [3; 48]];
        if index == 2 {
            boot[2] = register;
        }
        Self::load_after(ids, boot, (index, register), session)
    }

    /// The same, after a boot that has left these values in RTMR0 to 2.
    #[must_use]
    pub fn load_after(
        ids: &[u32],
        boot: [Digest; 3],
        (index, register): (u32, Digest),
        session: u8,
    ) -> Self {
        let streams = ids.iter().map(|id| Stream {
            id: *id,
            records: Vec::new(),
            next: 1,
            segments: 0,
            chain: [0; 32],
        });
        let mut module = Self {
            streams: streams.collect(),
            session: [session; 16],
            index,
            boot,
            register,
            replay: register,
            events: Vec::new(),
            leaves: Vec::new(),
        };
        module.event(Why::Open);
        module
    }

    /// The streams write so many records each.
    pub fn run(&mut self, records: usize) {
        self.run_with(&mut |_| {}, records);
    }

    /// The same, with something changed in each record before it is hashed.
    pub fn run_with(&mut self, change: &mut dyn FnMut(&mut [u8; RECORD_LEN]), records: usize) {
        for stream in &mut self.streams {
            for _ in 0..records {
                let number = stream.records.len() as u64 + 1;
                let mut record = match stream.id {
                    CONTROL => control_record(number),
                    cpu => record(number, cpu),
                };
                change(&mut record);
                stream.records.push(record);
            }
        }
    }

    /// Makes an event, with the nonce of a caller if one asks.
    pub fn checkpoint(&mut self, nonce: Option<Hash>) {
        self.event(nonce.map_or(Why::Time, Why::Asked));
    }

    /// Unloads it.
    pub fn close(&mut self) {
        self.event(Why::Close);
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> &[Vec<u8>] {
        &self.events
    }

    /// A TDREPORT of now.
    #[must_use]
    pub fn report(&self, data: &ReportData) -> Vec<u8> {
        report(&self.registers(), data)
    }

    /// A quote of now, of version 4 or 5.
    #[must_use]
    pub fn quote(&self, version: u16, data: &ReportData) -> Vec<u8> {
        quote(version, &self.registers(), data)
    }

    fn registers(&self) -> [Digest; 4] {
        let [first, second, third] = self.boot;
        match self.index {
            2 => [first, second, self.register, [0; 48]],
            _ => [first, second, third, self.register],
        }
    }

    /// The head of a file.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        write::head(br#"{"host":"test"}"#).unwrap_or_default()
    }

    /// Everything in frames: records page by page, leaves, events.
    #[must_use]
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for stream in &self.streams {
            let mut first = 0;
            // A page has the records whose numbers differ in the lowest six bits only.
            while first < stream.records.len() {
                let end = ((first + 1) | 63).min(stream.records.len());
                let page = stream.records.get(first..end).unwrap_or(&[]);
                frames.extend(write::records(stream.id, first as u64 + 1, page));
                first = end;
            }
        }
        frames.extend(self.leaves.iter().map(|(_, _, frame)| frame.clone()));
        let events = self.events.iter();
        frames.extend(events.filter_map(|event| write::frame(Frame::Event, event)));
        frames
    }

    /// A file with everything.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        [self.head(), self.frames().concat()].concat()
    }

    fn seal(&mut self) {
        for stream in &mut self.streams {
            let end = stream.records.len() as u64 + 1;
            while stream.next < end {
                let first = stream.next;
                let next = ((first | 63) + 1).min(end);
                // CAST: indices of a vector.
                let range = first as usize - 1..next as usize - 1;
                let records = stream.records.get(range).unwrap_or(&[]);
                let leaf = hash::leaf(records.as_flattened());
                let count = records.len() as u32; // CAST: at most 64
                stream.chain = hash::chain(stream.id, count, first, &stream.chain, &leaf);
                stream.segments += 1;
                stream.next = next;
                let frame = write::leaf(stream.id, first, count, &leaf).unwrap_or_default();
                self.leaves.push((stream.id, first, frame));
            }
        }
    }

    fn event(&mut self, why: Why) {
        self.seal();
        let event = self.build(why);
        let digest = hash::digest(&event);
        self.register = hash::extend(&self.register, &digest);
        self.replay = self.register;
        self.events.push(event);
    }

    fn build(&self, why: Why) -> Vec<u8> {
        let number = self.events.len() as u64;
        let is_foreign = self.replay != self.register;
        let is_last = is_foreign || why == Why::Close;
        let kind: u16 = match why {
            Why::Open => 1,
            Why::Time | Why::Asked(_) => 2,
            Why::Close => 3,
        };
        let (asked, nonce) = match why {
            Why::Asked(nonce) => (1, nonce),
            _ => (0, [0; 32]),
        };
        let flags = asked | (u32::from(is_foreign) << 1) | (u32::from(is_last) << 2);
        let mut event = b"VTLATEVT\x01\0".to_vec();
        event.extend(kind.to_le_bytes());
        event.extend((self.streams.len() as u32).to_le_bytes()); // CAST: few
        for word in [number, 1_000_000 * number, 5_000 + number] {
            event.extend(word.to_le_bytes());
        }
        event.extend(self.session);
        event.extend(flags.to_le_bytes());
        event.extend(self.index.to_le_bytes());
        event.extend(self.replay);
        event.extend(self.register);
        let (reveal, next) = (self.secret(number), self.secret(number + 1));
        event.extend(if number == 0 { [0; 32] } else { reveal });
        event.extend(if is_last {
            [0; 32]
        } else {
            hash::commitment(&next)
        });
        event.extend(nonce);
        self.streams
            .iter()
            .for_each(|stream| event.extend(head(stream)));
        if why == Why::Open {
            event.extend(trailer());
            event.extend(self.boot.as_flattened());
        }
        event
    }

    fn secret(&self, number: u64) -> Hash {
        let number = number.to_le_bytes();
        hash::leaf(&[self.session.as_slice(), &number].concat())
    }
}

fn head(stream: &Stream) -> Vec<u8> {
    let mut head = stream.id.to_le_bytes().to_vec();
    head.extend([0; 4]);
    for word in [stream.next, 0, stream.segments] {
        head.extend(word.to_le_bytes());
    }
    head.extend(stream.chain);
    head
}

fn trailer() -> Vec<u8> {
    let mut trailer = vec![0; 128];
    put(&mut trailer, 0, &1024u32.to_le_bytes());
    put(&mut trailer, 4, &2u32.to_le_bytes());
    put(&mut trailer, 16, &[0xb1; 20]);
    put(&mut trailer, 48, b"7.3.4-test");
    trailer
}

/// Record of a switch: a CPUID exit of VM 1.
#[must_use]
pub fn record(number: u64, cpu: u32) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    for (at, word) in [
        (0, number),
        (8, number.wrapping_mul(1000)),
        (16, 500),
        (24, 10),
    ] {
        put(&mut record, at, &u64::to_le_bytes(word));
    }
    put(&mut record, 40, &0x1000u64.to_le_bytes());
    put(&mut record, 48, &77u32.to_le_bytes());
    put(&mut record, 52, &(cpu as u16).to_le_bytes()); // CAST: a CPU
    put(&mut record, 54, &[1, 0, 10, 1]);
    record
}

/// Record of the control plane: a VTL descriptor was made.
#[must_use]
pub fn control_record(number: u64) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    put(&mut record, 0, &number.to_le_bytes());
    put(&mut record, 8, &(1000 * number).to_le_bytes());
    put(&mut record, 48, &77u32.to_le_bytes());
    put(&mut record, 52, &2u16.to_le_bytes());
    record
}

/// A TDREPORT with these registers, whose MAC is none.
#[must_use]
pub fn report(registers: &[Digest; 4], data: &ReportData) -> Vec<u8> {
    let mut report = vec![0; 1024];
    report.splice(0..1, [0x81]);
    put(&mut report, 0x80, data);
    put(&mut report, 0x200 + 0x10, &[0x4d; 48]);
    put(&mut report, 0x200 + 0xd0, registers.as_flattened());
    rehash(&mut report);
    report
}

/// Makes the hashes of a TDREPORT right.
pub fn rehash(report: &mut [u8]) {
    for (at, part) in [(0x20, 0x100..0x1ef), (0x50, 0x200..0x400)] {
        let hash = Sha384::digest(report.get(part).unwrap_or(&[]));
        put(report, at, &hash);
    }
}

/// A quote of version 4 or 5 with these registers, whose signature is none.
#[must_use]
pub fn quote(version: u16, registers: &[Digest; 4], data: &ReportData) -> Vec<u8> {
    let mut quote = version.to_le_bytes().to_vec();
    quote.extend([2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
    quote.extend([0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9]);
    quote.extend([0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07]);
    quote.extend([0; 20]);
    if version == 5 {
        quote.extend([2, 0, 72, 2, 0, 0]);
    }
    let mut body = vec![0; 584];
    put(&mut body, 136, &[0x4d; 48]);
    put(&mut body, 328, registers.as_flattened());
    put(&mut body, 520, data);
    quote.extend(body);
    quote.extend([16, 0, 0, 0]);
    quote.extend(b"no signature at ");
    quote
}

/// The event log of a boot with this command line.
#[must_use]
pub fn boot_log(cmdline: &str) -> Vec<u8> {
    let mut log = vec![0; 28];
    put(&mut log, 4, &[3]);
    log.extend([33, 0, 0, 0]);
    log.extend(b"Spec ID Event03\0");
    log.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
    let line = [b"kernel_cmdline: ", cmdline.as_bytes()].concat();
    let digest: Digest = Sha384::digest(cmdline).into();
    for (register, digest, data) in [(2u8, [0x1b; 48], b"kernel".to_vec()), (3, digest, line)] {
        log.extend([register, 0, 0, 0, 0xd, 0, 0, 0, 1, 0, 0, 0, 0x0c, 0]);
        log.extend(digest);
        log.extend((data.len() as u32).to_le_bytes()); // CAST: a line
        log.extend(data);
    }
    log.extend([0xff; 64]);
    log
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}
