// SPDX-License-Identifier: GPL-2.0-only
//! Requests to invalidate translations, in the low bits of `entry_rcx`: taken from the page before
//! an entry, put back if the entry does not happen. The names are those of `rust/vp/run_page.rs`
//! and `rust/run/context.rs`; the meaning of the word comes from `rust/pure/vp_enter.rs` itself.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{AcqRel, Relaxed};
use loom::thread;
use vtl_pure::pure::vp_enter::EntryRcx;

use crate::model::{Vp, Without};
use crate::tests::check;

const VM1: u64 = 1 << 52;
const INVD: u64 = 3;

/// The word in the run page.
struct Word(AtomicU64);

impl Word {
    fn new() -> Self {
        Self(AtomicU64::new(VM1))
    }

    /// Userspace sets bits. Returns true if no request was waiting.
    fn ask(&self, kind: u64) -> bool {
        self.0.fetch_or(kind, AcqRel) & INVD == 0
    }

    fn waiting(&self) -> u64 {
        self.0.load(Relaxed) & INVD
    }

    /// `Loaded::take_invalidation`: on a lost race the whole page is read again.
    fn take(&self, rcx: &mut EntryRcx) -> bool {
        let word = self.0.load(Relaxed);
        if word == rcx.without_invalidation().raw() {
            return true;
        }
        let wanted = EntryRcx::new(word, 1).unwrap();
        let without = wanted.without_invalidation().raw();
        let taken = self.0.compare_exchange(word, without, AcqRel, Relaxed);
        if taken.is_err() {
            return false;
        }
        *rcx = wanted.with_invalidation_of(rcx.raw());
        true
    }

    fn put_back(&self, undone: EntryRcx) {
        loop {
            let word = self.0.load(Relaxed);
            let both = undone.invalidation_into(word);
            let exchanged = self.0.compare_exchange(word, both, AcqRel, Relaxed);
            if both == word || exchanged.is_ok() {
                return;
            }
        }
    }

    /// One entry. Returns true if it invalidated.
    fn enter(&self, comes_about: bool) -> bool {
        let mut rcx = EntryRcx::new(VM1, 1).unwrap();
        while !self.take(&mut rcx) {}
        if !comes_about && rcx.invalidates() {
            self.put_back(rcx);
        }
        comes_about && rcx.invalidates()
    }
}

/// Two threads request while entries follow each other, some of which do not happen: each request
/// is carried out by an entry, and no entry carries out one that nobody made. Two may become one if
/// the first was put back.
fn each_is_done_once(entries: [bool; 2]) {
    check(Some(2), move || {
        let word = Arc::new(Word::new());
        let writers = [1, 1].map(|kind| {
            let word = word.clone();
            thread::spawn(move || u32::from(word.ask(kind)))
        });
        let mut done = 0;
        for comes_about in entries {
            done += u32::from(word.enter(comes_about));
        }
        let made: u32 = writers.map(|writer| writer.join().unwrap()).iter().sum();
        done += u32::from(word.enter(true));
        let put_back = u32::from(entries != [true, true]);
        assert!(done <= made && made <= done + put_back);
        assert_eq!(word.waiting(), 0);
    });
}

#[test]
fn each_request_is_done_by_one_entry() {
    each_is_done_once([true, true]);
}

#[test]
fn each_request_survives_an_entry_that_does_not_come_about() {
    each_is_done_once([false, true]);
    each_is_done_once([true, false]);
}

#[test]
fn of_a_request_put_back_and_a_new_one_both_are_done() {
    check(None, || {
        let word = Arc::new(Word::new());
        word.ask(1);
        let asked = word.clone();
        // All it knows is that a request may already be there.
        let writer = thread::spawn(move || asked.ask(1));
        word.enter(false);
        writer.join().unwrap();
        assert_eq!(word.waiting(), 1);
    });
}

/// When the word is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    AfterTheAnswerToAKick,
    Before,
}

/// A thread changes a mapping, requests an invalidation, kicks, and reuses the memory when the stay
/// that the kick has seen is over.
fn reuse(without: Without, read: Read) {
    check(None, move || {
        let vp = Arc::new(Vp::new(without));
        let shared = Arc::new((Word::new(), AtomicU64::new(0)));
        let (kicked, page) = (vp.clone(), shared.clone());
        let kicker = thread::spawn(move || {
            let (word, reused) = &*page;
            word.ask(1);
            let place = kicked.kick();
            if !place.is_still(place) || kicked.has_ended(place) {
                reused.store(1, Relaxed);
            }
        });
        let (word, reused) = &*shared;
        let mut is_done = false;
        let mut place = vp.begin_stay();
        if read == Read::Before {
            is_done |= word.enter(true);
        }
        let first_stay = place;
        vp.prepare_entry(&mut place);
        if read == Read::AfterTheAnswerToAKick {
            is_done |= word.enter(true);
        }
        // The lower VTL runs. A thread that has seen the first stay end may now reuse the memory,
        // or has done so.
        let may_be_reused = place != first_stay || reused.load(Relaxed) != 0;
        assert!(is_done || !may_be_reused, "an old translation was used");
        vp.end_stay(place);
        kicker.join().unwrap();
    });
}

#[test]
fn after_a_kick_has_ended_no_old_translation_is_used() {
    reuse(Without::Nothing, Read::AfterTheAnswerToAKick);
}

#[test]
#[should_panic(expected = "an old translation was used")]
fn the_word_has_to_be_read_after_the_answer_to_a_kick() {
    reuse(Without::Nothing, Read::Before);
}

#[test]
#[should_panic(expected = "an old translation was used")]
fn the_barrier_of_an_entry_is_needed_for_requests() {
    reuse(Without::BarrierOfEntry, Read::AfterTheAnswerToAKick);
}

#[test]
#[should_panic(expected = "an old translation was used")]
fn the_barrier_of_a_kick_is_needed_for_requests() {
    reuse(Without::BarrierOfKick, Read::AfterTheAnswerToAKick);
}
