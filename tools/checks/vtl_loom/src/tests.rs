// SPDX-License-Identifier: GPL-2.0-only
//! What must hold in every order, and that loom sees it when it doesn't.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use crate::model::{Vp, Without};

const FIRST: u32 = 1;
const SECOND: u32 = 2;

/// Every order with at most `preemptions` of them (`None`: every order).
pub(crate) fn check(preemptions: Option<usize>, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(test);
}

/// A kick while the thread enters or goes to sleep. When both are done, the thread must not be
/// stuck until another kick.
fn one_kick(without: Without, is_halted: bool) {
    check(None, move || {
        let vp = Arc::new(Vp::new(without));
        let kicked = vp.clone();
        let kicker = thread::spawn(move || {
            kicked.ask(FIRST);
        });
        let mut place = vp.begin_stay();
        let seen = vp.prepare_entry(&mut place);
        let goes_on = if !is_halted {
            kicker.join().unwrap();
            seen != 0 || vp.is_interrupted()
        } else {
            vp.end_stay(place);
            let is_awake = seen != 0 || vp.fall_asleep();
            kicker.join().unwrap();
            is_awake || vp.is_woken()
        };
        assert!(goes_on, "the wake-up was lost");
    });
}

/// A kick after the interrupt of an earlier one was taken between two entries.
fn kick_between_entries(without: Without) {
    check(None, move || {
        let vp = Arc::new(Vp::new(without));
        let mut place = vp.begin_stay();
        vp.ask(FIRST);
        vp.take_interrupt();
        let kicked = vp.clone();
        let kicker = thread::spawn(move || {
            kicked.ask(SECOND);
        });
        let seen = vp.prepare_entry(&mut place);
        kicker.join().unwrap();
        let goes_on = seen & SECOND != 0 || vp.is_interrupted();
        assert!(goes_on, "the wake-up was lost");
    });
}

/// Two that kick for reasons of their own, of which neither may be lost.
fn two_kicks(is_halted: bool) {
    check(Some(2), move || {
        let vp = Arc::new(Vp::new(Without::Nothing));
        let kickers = [FIRST, SECOND].map(|reason| {
            let kicked = vp.clone();
            thread::spawn(move || {
                kicked.ask(reason);
            })
        });
        vp.run(FIRST | SECOND, is_halted);
        for kicker in kickers {
            kicker.join().unwrap();
        }
    });
}

/// A thread that has waited for the end of a stay sees what the lower VTL wrote during it.
fn kick_that_waits(without: Without) {
    check(None, move || {
        let vp = Arc::new(Vp::new(without));
        let kicked = vp.clone();
        let kicker = thread::spawn(move || {
            let place = kicked.ask(FIRST);
            let is_inside = place.is_still(place);
            let has_ended = is_inside && kicked.has_ended(place);
            has_ended.then(|| kicked.written.load(Relaxed))
        });
        vp.run_to_exit();
        let read = kicker.join().unwrap();
        let written = vp.written.load(Relaxed);
        assert!(
            read.is_none_or(|read| read == written),
            "an old value was read"
        );
    });
}

#[test]
fn a_kick_ends_a_stay_or_is_seen_before_it() {
    one_kick(Without::Nothing, false);
}

#[test]
fn a_kick_ends_a_sleep_or_is_seen_before_it() {
    one_kick(Without::Nothing, true);
}

#[test]
fn a_kick_between_two_entries_of_a_stay_is_not_lost() {
    kick_between_entries(Without::Nothing);
}

#[test]
fn of_two_kicks_neither_is_lost_inside() {
    two_kicks(false);
}

#[test]
fn of_two_kicks_neither_is_lost_asleep() {
    two_kicks(true);
}

#[test]
fn who_waits_sees_what_the_lower_vtl_wrote() {
    kick_that_waits(Without::Nothing);
}

#[test]
#[should_panic(expected = "the wake-up was lost")]
fn the_barrier_of_a_kick_is_needed() {
    one_kick(Without::BarrierOfKick, false);
}

#[test]
#[should_panic(expected = "the wake-up was lost")]
fn the_barrier_of_an_entry_is_needed() {
    one_kick(Without::BarrierOfEntry, false);
}

#[test]
#[should_panic(expected = "the wake-up was lost")]
fn the_barrier_of_a_sleep_is_needed() {
    one_kick(Without::BarrierOfSleep, true);
}

#[test]
#[should_panic(expected = "the wake-up was lost")]
fn the_look_before_a_sleep_is_needed() {
    one_kick(Without::SecondLook, true);
}

#[test]
#[should_panic(expected = "the wake-up was lost")]
fn the_answer_to_a_kick_is_needed() {
    kick_between_entries(Without::AnswerToKick);
}

#[test]
#[should_panic(expected = "an old value was read")]
fn the_release_of_leaving_is_needed() {
    kick_that_waits(Without::ReleaseOfLeaving);
}
