// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests, most of them hostile, to a kernel whose VTL0 is an array.

use std::vec::Vec;

use super::*;
use crate::hypercall::{Completion, ProtectInput};
use crate::keys::{SEAL_OVERHEAD, SEED_LEN, TAG_LEN};
use crate::ranges::{MOST_RANGES, PAGE};

/// VTL0 has two ranges; VTL1 is between them.
const FIRST: u64 = 0x1_0000;
const LEN: u64 = 0x1_0000;
const VTL1: u64 = FIRST + LEN;
const SECOND: u64 = VTL1 + LEN;
const REQUEST: u64 = FIRST;
const INPUT: u64 = FIRST + 0x1000;
const OUTPUT: u64 = FIRST + 0x8000;

/// Memory from [`FIRST`] on, and how often a byte was read since the last request.
struct Vtl0 {
    bytes: Vec<u8>,
    reads: core::cell::RefCell<Vec<u8>>,
}

impl Vtl0 {
    fn place(gpa: u64, len: usize) -> core::ops::Range<usize> {
        let at = (gpa - FIRST) as usize;
        let (end, vtl1) = (at + len, LEN as usize..2 * LEN as usize);
        assert!(
            len == 0 || end <= vtl1.start || at >= vtl1.end,
            "VTL1's memory by VTL0's address"
        );
        at..end
    }
}

impl LowerMemory for Vtl0 {
    fn read(&self, gpa: u64, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        let place = Self::place(gpa, bytes.len());
        for read in &mut self.reads.borrow_mut()[place.clone()] {
            *read += 1;
            assert_eq!(*read, 1, "a byte was read twice");
        }
        bytes.copy_from_slice(&self.bytes[place]);
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes[Self::place(gpa, bytes.len())].copy_from_slice(bytes);
        }
    }
}

/// VTL2 protects this many pages.
struct Vtl2 {
    left: usize,
    pages: Vec<u64>,
}

impl Paravisor for Vtl2 {
    fn modify_protection(&mut self, input: &ProtectInput) -> Completion {
        let pages = input.pages.min(self.left);
        self.left -= pages;
        self.pages
            .extend((0..pages as u64).map(|page| input.gpa + PAGE * page));
        Completion {
            status: if pages == input.pages { 0 } else { 6 },
            pages,
        }
    }
}

struct Bed {
    kernel: SecureKernel,
    vtl0: Vtl0,
    vtl2: Vtl2,
    buffer: Buffer,
}

fn range(base: u64, len: u64) -> Range {
    Range::new(base, len).unwrap_or_default()
}

impl Bed {
    fn new(counter: u64) -> Self {
        let mut vtl0 = [Range::default(); MOST_RANGES];
        vtl0[0] = range(FIRST, LEN);
        vtl0[1] = range(SECOND, LEN);
        let boot = Boot {
            seed: [5; SEED_LEN],
            vtl1: range(VTL1, LEN),
            assist: VTL1,
            hypercall: VTL1 + PAGE,
            counter,
            vtl0,
        };
        let Some(kernel) = SecureKernel::new(&boot) else {
            panic!("refused to start");
        };
        Self {
            kernel,
            vtl0: Vtl0 {
                bytes: (0..3 * LEN).map(|at| (at % 251) as u8).collect(),
                reads: std::vec![0; 3 * LEN as usize].into(),
            },
            vtl2: Vtl2 {
                left: usize::MAX,
                pages: Vec::new(),
            },
            buffer: [0; MAX_OUTPUT],
        }
    }

    fn call(&mut self, gpa: u64) -> Reply {
        self.vtl0.reads.borrow_mut().fill(0);
        let Self {
            kernel,
            vtl0,
            vtl2,
            buffer,
        } = self;
        let reply = kernel.handle(gpa, buffer, vtl0, vtl2);
        assert!(buffer.iter().all(|&byte| byte == 0), "the buffer was left");
        reply
    }

    fn request(&mut self, command: Command, input: Range, output: Range) -> Reply {
        let request = Request {
            command,
            input,
            output,
        };
        self.vtl0.write(REQUEST, &request.encode());
        self.call(REQUEST)
    }

    /// A valid request with this input; returns its output.
    fn ask(&mut self, command: Command, input: &[u8]) -> Vec<u8> {
        self.vtl0.write(INPUT, input);
        let room = command.output_len(input.len()) as u64;
        let reply = self.request(
            command,
            range(INPUT, input.len() as u64),
            range(OUTPUT, room),
        );
        assert_eq!(
            (reply.status, reply.value),
            (Status::Done, room),
            "{command:?}"
        );
        let at = (OUTPUT - FIRST) as usize;
        self.vtl0.bytes[at..at + room as usize].to_vec()
    }

    /// A request that has to fail, and change nothing.
    fn refuse(&mut self, command: Command, input: Range, output: Range, status: Status) {
        let request = Request {
            command,
            input,
            output,
        };
        self.vtl0.write(REQUEST, &request.encode());
        let before = (
            self.vtl0.bytes.clone(),
            self.kernel.counter,
            self.kernel.protected,
        );
        let reply = self.call(REQUEST);
        assert_eq!(reply.status, status, "{command:?} {input:x?} {output:x?}");
        assert!(self.vtl0.bytes == before.0, "{command:?} wrote something");
        assert_eq!(
            (self.kernel.counter, self.kernel.protected),
            (before.1, before.2)
        );
        assert!(
            self.vtl2.pages.is_empty(),
            "{command:?} protected something"
        );
    }
}

#[test]
fn each_service_does_what_it_says() {
    let mut bed = Bed::new(41);
    let identity = bed.ask(Command::Identify, &[]);
    assert_eq!(identity[..8], [1, 0, 0, 0, 0, 0x40, 0, 0]);
    assert_eq!(identity[8..], bed.kernel.keys.id());
    assert_eq!(bed.ask(Command::Count, &[]), 42_u64.to_le_bytes());
    assert_eq!(bed.ask(Command::Count, &[]), 43_u64.to_le_bytes());
    let tag = bed.ask(Command::Sign, b"hello");
    assert_eq!(tag, bed.kernel.keys.sign(b"hello"));
    let sealed = bed.ask(Command::Seal, b"a secret of VTL0");
    assert_eq!(bed.ask(Command::Unseal, &sealed), b"a secret of VTL0");
    bed.ask(Command::Sign, &std::vec![9; 0x4000]);
}

#[test]
fn the_request_itself_has_to_be_in_vtl0s_memory() {
    let mut bed = Bed::new(0);
    for gpa in [
        0,
        FIRST - 64,
        FIRST + 1,
        FIRST + 32,
        VTL1,
        VTL1 - 32,
        SECOND + LEN,
        u64::MAX - 63,
        u64::MAX,
        1 << 63,
    ] {
        assert_eq!(bed.call(gpa).status, Status::BadAddress, "{gpa:#x}");
    }
}

#[test]
fn no_range_reaches_vtl1_or_nowhere() {
    let mut bed = Bed::new(0);
    let good = range(OUTPUT, TAG_LEN as u64);
    for bad in [
        range(VTL1, 64),
        range(VTL1 - 32, 64),
        range(VTL1 + LEN - 64, 64),
        range(SECOND - 1, 64),
        range(FIRST - 1, 64),
        range(SECOND + LEN - 63, 64),
        range(0, 64),
        range(1 << 47, 64),
        range(u64::MAX - 64, 64),
    ] {
        bed.refuse(Command::Sign, bad, good, Status::BadRange);
        bed.refuse(Command::Seal, bad, range(OUTPUT, 200), Status::BadRange);
        bed.refuse(Command::Sign, range(INPUT, 8), bad, Status::BadRange);
        bed.refuse(Command::Count, range(0, 0), bad, Status::BadRange);
    }
    // Both ranges are VTL0's, but not what is between them.
    bed.refuse(
        Command::Sign,
        range(INPUT, 8),
        range(OUTPUT, 3 * LEN),
        Status::BadRange,
    );
}

#[test]
fn overlaps_are_refused() {
    let mut bed = Bed::new(0);
    let sign = Command::Sign;
    bed.refuse(
        sign,
        range(INPUT, 64),
        range(INPUT + 63, 32),
        Status::Overlap,
    );
    bed.refuse(
        sign,
        range(INPUT, 64),
        range(INPUT - 31, 32),
        Status::Overlap,
    );
    bed.refuse(
        sign,
        range(REQUEST + 63, 64),
        range(OUTPUT, 32),
        Status::Overlap,
    );
    bed.refuse(
        sign,
        range(INPUT, 64),
        range(REQUEST + 32, 32),
        Status::Overlap,
    );
    bed.refuse(
        Command::Count,
        range(0, 0),
        range(REQUEST, 8),
        Status::Overlap,
    );
    let reply = bed.request(sign, range(INPUT, 64), range(INPUT + 64, 32));
    assert_eq!(reply.status, Status::Done);
}

#[test]
fn an_output_needs_room() {
    let mut bed = Bed::new(0);
    for (command, input, needed) in [
        (Command::Identify, 0, IDENTITY_LEN),
        (Command::Count, 0, 8),
        (Command::Sign, 100, TAG_LEN),
        (Command::Seal, 100, 100 + SEAL_OVERHEAD),
        (Command::Unseal, 100, 100 - SEAL_OVERHEAD),
    ] {
        let (input, needed) = (range(INPUT, input), needed as u64);
        bed.refuse(command, input, range(OUTPUT, needed - 1), Status::NoRoom);
        assert_eq!(bed.call(REQUEST).value, needed);
    }
}

#[test]
fn a_changed_seal_reveals_nothing() {
    let mut bed = Bed::new(0);
    let mut sealed = bed.ask(Command::Seal, b"secret");
    sealed[30] ^= 1;
    bed.vtl0.write(INPUT, &sealed);
    let input = range(INPUT, sealed.len() as u64);
    bed.refuse(
        Command::Unseal,
        input,
        range(OUTPUT, 100),
        Status::NotSealed,
    );
}

#[test]
fn the_counter_ends_and_does_not_begin_again() {
    let mut bed = Bed::new(u64::MAX - 1);
    assert_eq!(bed.ask(Command::Count, &[]), u64::MAX.to_le_bytes());
    for _ in 0..2 {
        bed.refuse(
            Command::Count,
            range(0, 0),
            range(OUTPUT, 8),
            Status::CounterEnd,
        );
    }
}

fn list(entries: &[(u64, u64)]) -> Vec<u8> {
    let words = entries.iter().flat_map(|&(base, pages)| [base, pages]);
    words.flat_map(u64::to_le_bytes).collect()
}

#[test]
fn an_invalid_list_protects_nothing() {
    let mut bed = Bed::new(0);
    let good = (SECOND, 1);
    for (bad, status) in [
        ((SECOND + 1, 1), Status::Malformed),
        ((SECOND + 0x2000, 0), Status::Malformed),
        ((VTL1, 1), Status::BadRange),
        ((VTL1 - PAGE, 2), Status::BadRange),
        ((SECOND + LEN, 1), Status::BadRange),
        ((SECOND + 0x2000, 1 << 52), Status::BadRange),
        ((SECOND + 0x2000, u64::MAX), Status::BadRange),
        ((u64::MAX - PAGE + 1, 1), Status::BadRange),
        ((SECOND, 2), Status::Overlap),
    ] {
        let bytes = list(&[good, bad]);
        bed.vtl0.write(INPUT, &bytes);
        let input = range(INPUT, bytes.len() as u64);
        bed.refuse(Command::Protect, input, range(0, 0), status);
    }
}

#[test]
fn protected_pages_are_no_output() {
    let mut bed = Bed::new(0);
    bed.ask(Command::Protect, &list(&[(SECOND, 2), (OUTPUT, 1)]));
    assert_eq!(bed.vtl2.pages, [SECOND, SECOND + PAGE, OUTPUT]);
    bed.vtl2.pages.clear();
    for at in [
        SECOND,
        SECOND + 2 * PAGE - 1,
        OUTPUT - 31,
        OUTPUT + PAGE - 32,
    ] {
        bed.refuse(
            Command::Sign,
            range(INPUT, 8),
            range(at, 32),
            Status::BadRange,
        );
    }
    // It can still be read and be signed.
    let output = range(SECOND + 2 * PAGE, 32);
    let reply = bed.request(Command::Sign, range(SECOND, 64), output);
    assert_eq!(reply.status, Status::Done);
}

#[test]
fn a_refusal_of_vtl2_says_how_far_it_came_and_stays_protected() {
    let mut bed = Bed::new(0);
    bed.vtl2.left = 3;
    bed.vtl0
        .write(INPUT, &list(&[(SECOND, 2), (SECOND + 0x4000, 2)]));
    let reply = bed.request(Command::Protect, range(INPUT, 32), range(0, 0));
    assert_eq!((reply.status, reply.value), (Status::Refused, 3));
    bed.vtl2.pages.clear();
    bed.refuse(
        Command::Count,
        range(0, 0),
        range(SECOND + 0x5000, 8),
        Status::BadRange,
    );
}

#[test]
fn random_requests_do_no_harm() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let edge = || {
        prop_oneof![
            any::<u64>(),
            FIRST..SECOND + LEN,
            Just(VTL1),
            Just(VTL1 - 1),
            Just(0),
            0..0x5000_u64,
        ]
    };
    let mut runner = TestRunner::new(Config::with_cases(200));
    let fields = (0..9_u32, edge(), edge(), edge(), edge());
    let result = runner.run(
        &fields,
        |(command, input, input_len, output, output_len)| {
            let mut bed = Bed::new(0);
            let mut bytes = [0; REQUEST_LEN];
            bytes[..4].copy_from_slice(b"VTL1");
            bytes[4..8].copy_from_slice(&command.to_le_bytes());
            for (at, word) in [(8, input), (16, input_len), (24, output), (32, output_len)] {
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            bed.vtl0.write(REQUEST, &bytes);
            let before = bed.vtl0.bytes.clone();
            let reply = bed.call(REQUEST);
            // `Vtl0::place` has checked each access.
            let changed = before
                .iter()
                .zip(&bed.vtl0.bytes)
                .filter(|(a, b)| a != b)
                .count() as u64;
            let allowed = if reply.status == Status::Done {
                reply.value
            } else {
                0
            };
            prop_assert!(changed <= allowed, "{changed} bytes changed, {reply:?}");
            Ok(())
        },
    );
    assert!(result.is_ok(), "{result:?}");
}
