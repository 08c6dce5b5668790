// SPDX-License-Identifier: GPL-2.0-only
//! The counters by which a paravisor invalidates translations of a VTL that may not be running:
//! `flush` of the switch page, as `Switching` in `rust/run/switch.rs` reads it.
//! `rust/pure/vtl_switch.rs` itself decides which changes are due.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{AcqRel, Relaxed};
use loom::thread;
use vtl_pure::pure::field::VmIndex;
use vtl_pure::pure::vtl_switch::Flushes;

use crate::model::{Vp, Without};
use crate::tests::check;

/// When the counter is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// At the switch, and again if a kick is answered after it.
    AfterTheAnswerToAKick,
    WithTheSwitchOnly,
}

/// The counter, and whether the other thread relies on the right being gone.
type Shared = Arc<(AtomicU64, AtomicU64)>;

/// The thread that removes a right: it increments the counter, kicks, and relies on that after the
/// end of the stay that the kick has seen.
fn revoker(vp: &Arc<Vp>, shared: &Shared) -> thread::JoinHandle<()> {
    let (kicked, page) = (vp.clone(), shared.clone());
    thread::spawn(move || {
        let (flush, relied_on) = &*page;
        flush.fetch_add(1, AcqRel);
        let place = kicked.kick();
        if !place.is_still(place) || kicked.has_ended(place) {
            relied_on.store(1, Relaxed);
        }
    })
}

/// VTL1 runs, and returns; then VTL0 runs, all in one stay. Meanwhile another thread removes a
/// right from VTL0, increments the counter, kicks, and relies on it after the end of the stay that
/// the kick has seen.
fn revoke(without: Without, read: Read) {
    check(None, move || {
        let vp = Arc::new(Vp::new(without));
        let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let kicker = revoker(&vp, &shared);
        let (flush, relied_on) = &*shared;
        let mut place = vp.begin_stay();
        let first_stay = place;
        // An entry of VTL1, for which the counter of VTL0 is not read.
        vp.prepare_entry(&mut place);
        // It returns.
        let mut counter = flush.load(Relaxed);
        let before = place;
        vp.prepare_entry(&mut place);
        if place != before && read == Read::AfterTheAnswerToAKick {
            counter = flush.load(Relaxed);
        }
        let is_done = Flushes::default().is_due(VmIndex::VM1, counter);
        // VTL0 runs.
        let may_be_relied_on = place != first_stay || relied_on.load(Relaxed) != 0;
        assert!(is_done || !may_be_relied_on, "an old right was used");
        vp.end_stay(place);
        kicker.join().unwrap();
    });
}

/// When the kernel notes that a request is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Note {
    AfterTheEntry,
    WhenItIsSeen,
}

/// As [`revoke`], but what ends the first run comes after the counter was read and before VTL0 is
/// entered. The request is then in no word of userspace: that names VTL0 anew for the second run.
fn cut_off(note: Note) {
    check(None, move || {
        let vp = Arc::new(Vp::new(Without::Nothing));
        let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let kicker = revoker(&vp, &shared);
        let (flush, relied_on) = &*shared;
        let mut flushes = Flushes::default();
        let place = vp.begin_stay();
        let counter = flush.load(Relaxed);
        if note == Note::WhenItIsSeen && flushes.is_due(VmIndex::VM1, counter) {
            flushes.note(VmIndex::VM1, counter);
        }
        vp.end_stay(place);
        let mut place = vp.begin_stay();
        let second_stay = place;
        let mut counter = flush.load(Relaxed);
        vp.prepare_entry(&mut place);
        if place != second_stay {
            counter = flush.load(Relaxed);
        }
        let is_done = flushes.is_due(VmIndex::VM1, counter);
        let may_be_relied_on = place != second_stay || relied_on.load(Relaxed) != 0;
        assert!(is_done || !may_be_relied_on, "an old right was used");
        vp.end_stay(place);
        kicker.join().unwrap();
    });
}

#[test]
fn a_request_that_no_entry_has_done_is_done_by_the_next() {
    cut_off(Note::AfterTheEntry);
}

#[test]
#[should_panic(expected = "an old right was used")]
fn a_request_must_not_be_noted_before_the_entry() {
    cut_off(Note::WhenItIsSeen);
}

#[test]
fn after_a_kick_has_ended_no_old_right_is_used() {
    revoke(Without::Nothing, Read::AfterTheAnswerToAKick);
}

#[test]
#[should_panic(expected = "an old right was used")]
fn the_counter_has_to_be_read_after_the_answer_to_a_kick() {
    revoke(Without::Nothing, Read::WithTheSwitchOnly);
}

#[test]
#[should_panic(expected = "an old right was used")]
fn the_barrier_of_an_entry_is_needed_for_counters() {
    revoke(Without::BarrierOfEntry, Read::AfterTheAnswerToAKick);
}

#[test]
#[should_panic(expected = "an old right was used")]
fn the_barrier_of_a_kick_is_needed_for_counters() {
    revoke(Without::BarrierOfKick, Read::AfterTheAnswerToAKick);
}
