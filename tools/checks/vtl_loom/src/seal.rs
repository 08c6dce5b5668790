// SPDX-License-Identifier: GPL-2.0-only
//! Records that are hashed while their writer goes on: the writer is `Ring::write` with the limit of
//! `Sealer::make_room`, a checkpoint is `Sealer::seal_all`, both of `rust/observe/attest.rs`. A page has one
//! record here, and the ring two.

use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::tests::check;

/// What a test leaves out, or does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The number of a record comes before its word is sure to be seen.
    NoRelease,
    /// The word may be what it was before the number came.
    NoAcquire,
    /// The writer goes on by one record more.
    LimitTooHigh,
}

const RECORDS: u64 = 2;

/// Number and word of each record, and the first record that is not hashed.
struct Ring {
    slots: [[AtomicU64; 2]; RECORDS as usize],
    next: Mutex<u64>,
    fault: Fault,
}

impl Ring {
    fn new(fault: Fault) -> Self {
        Self {
            slots: [
                [AtomicU64::new(0), AtomicU64::new(0)],
                [AtomicU64::new(0), AtomicU64::new(0)],
            ],
            next: Mutex::new(1),
            fault,
        }
    }

    fn slot(&self, sequence: u64) -> &[AtomicU64; 2] {
        &self.slots[(sequence % RECORDS) as usize]
    }

    fn write(&self, sequence: u64) {
        let [number, word] = self.slot(sequence);
        number.store(0, Relaxed);
        fence(Release);
        word.store(sequence, Relaxed);
        if self.fault != Fault::NoRelease {
            fence(Release);
        }
        number.store(sequence, Relaxed);
    }

    /// Hashes a record, under the lock.
    fn hash(&self, sequence: u64) {
        let word = self.slot(sequence)[1].load(Relaxed);
        assert_eq!(word, sequence, "another record is hashed");
    }

    fn has(&self, sequence: u64) -> bool {
        let is_there = self.slot(sequence)[0].load(Relaxed) == sequence;
        if self.fault != Fault::NoAcquire {
            fence(Acquire);
        }
        is_there
    }

    /// The writer is at its limit: hashes what it has written, and returns the next limit.
    fn make_room(&self, count: u64) -> u64 {
        let mut next = self.next.lock().unwrap();
        while *next <= count {
            self.hash(*next);
            *next += 1;
        }
        *next + RECORDS - 1 + u64::from(self.fault == Fault::LimitTooHigh)
    }

    fn seal_all(&self) {
        let mut next = self.next.lock().unwrap();
        while self.has(*next) {
            self.hash(*next);
            *next += 1;
        }
    }
}

/// Three records are written into a ring of two while a checkpoint is made.
fn hashed_while_the_writer_goes_on(fault: Fault) {
    check(None, move || {
        let ring = Arc::new(Ring::new(fault));
        let sealed = ring.clone();
        let sealer = thread::spawn(move || sealed.seal_all());
        let mut limit = RECORDS + u64::from(fault == Fault::LimitTooHigh);
        for count in 0..3 {
            if count == limit {
                limit = ring.make_room(count);
            }
            ring.write(count + 1);
        }
        sealer.join().unwrap();
        ring.seal_all();
        assert_eq!(*ring.next.lock().unwrap(), 4, "a record is not hashed");
    });
}

#[test]
fn each_record_is_hashed_once_and_whole() {
    hashed_while_the_writer_goes_on(Fault::None);
}

#[test]
#[should_panic(expected = "another record is hashed")]
fn the_number_has_to_come_after_the_word() {
    hashed_while_the_writer_goes_on(Fault::NoRelease);
}

#[test]
#[should_panic(expected = "another record is hashed")]
fn the_word_has_to_be_read_after_the_number() {
    hashed_while_the_writer_goes_on(Fault::NoAcquire);
}

#[test]
#[should_panic(expected = "hashed")]
fn a_writer_must_not_overwrite_what_is_not_hashed() {
    hashed_while_the_writer_goes_on(Fault::LimitTooHigh);
}
