// SPDX-License-Identifier: GPL-2.0-only
//! A slot of the audit ring, which is overwritten while userspace reads it. The writer is
//! `Ring::write` of `rust/observe/audit.rs`, the reader does what Documentation/audit.rst says.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use crate::tests::check;

/// A barrier that a test leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    BeforeTheWords,
    AfterTheWords,
}

/// The sequence number, and two words that belong together.
struct Slot([AtomicU64; 3]);

impl Slot {
    fn write(&self, sequence: u64, without: Without) {
        let [number, words @ ..] = &self.0;
        number.store(0, Relaxed);
        if without != Without::BeforeTheWords {
            fence(Release);
        }
        for word in words {
            word.store(sequence, Relaxed);
        }
        if without != Without::AfterTheWords {
            fence(Release);
        }
        number.store(sequence, Relaxed);
    }

    fn read(&self) -> Option<[u64; 3]> {
        let [number, words @ ..] = &self.0;
        let sequence = number.load(Relaxed);
        fence(Acquire);
        let [first, second] = words.each_ref().map(|word| word.load(Relaxed));
        fence(Acquire);
        let is_whole = sequence != 0 && number.load(Relaxed) == sequence;
        is_whole.then_some([sequence, first, second])
    }
}

fn overwritten_while_it_is_read(without: Without) {
    check(None, move || {
        let slot = Arc::new(Slot([0; 3].map(AtomicU64::new)));
        slot.write(1, Without::Nothing);
        let read = slot.clone();
        let reader = thread::spawn(move || {
            if let Some([sequence, first, second]) = read.read() {
                assert_eq!([first, second], [sequence; 2], "a torn record");
            }
        });
        slot.write(2, without);
        reader.join().unwrap();
    });
}

#[test]
fn no_record_is_torn() {
    overwritten_while_it_is_read(Without::Nothing);
}

#[test]
#[should_panic(expected = "a torn record")]
fn the_number_has_to_go_before_the_words_change() {
    overwritten_while_it_is_read(Without::BeforeTheWords);
}

#[test]
#[should_panic(expected = "a torn record")]
fn the_number_has_to_come_after_the_words() {
    overwritten_while_it_is_read(Without::AfterTheWords);
}
