// SPDX-License-Identifier: GPL-2.0
//! Getting a VP's thread out of the lower VTL, or out of its sleep.
//!
//! Whoever wants the thread's attention first writes the reason into the run page (`cancel`, a
//! proxied interrupt), then calls [`Wake::kick`]:
//!
//! ```text
//! who kicks                          the thread, before an entry     ... before it sleeps
//! reason := 1                        place := inside                 sleeper := current
//! full barrier                       full barrier                    full barrier
//! place is inside? interrupt it      reason set? don't enter         reason set? don't sleep
//! sleeper there? wake it
//! ```
//!
//! Of two such sides at least one sees the other's write, so no wake-up is lost: either the thread
//! sees the reason, or the other side sees the thread. The interrupt finds the thread with
//! interrupts off, so it stays pending until TDG.VP.ENTER, which then returns.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use kernel::prelude::*;
use kernel::sync::barrier::smp_mb;

use crate::cpu::guards::PreemptOff;
use crate::glue::ffi::{self, Callback, Sleeper};
use crate::pure::place::Place;
use crate::pure::sleep::Sleep;

/// Where the thread of a VP is, and how to reach it.
pub(crate) struct Wake {
    cpu: u32,
    /// A [`Place`], written by the thread, but for the mark of a kick. Read before each entry, so it is
    /// one of `core`'s, as those of `stats` are.
    place: AtomicU64,
    sleeper: Sleeper,
}

impl Wake {
    /// Nobody inside, nobody asleep.
    pub(crate) fn new(cpu: u32) -> Self {
        Self {
            cpu,
            place: AtomicU64::new(Place::OUTSIDE.0),
            sleeper: Sleeper::new(),
        }
    }

    /// The thread is about to enter: from here on a kick interrupts its CPU.
    pub(crate) fn enter(&self) -> Inside<'_> {
        Inside {
            wake: self,
            place: self.begin_stay(),
        }
    }

    fn begin_stay(&self) -> Place {
        let place = Place(self.place.load(Relaxed)).entered();
        // ORDERING: the full barrier of the diagram, which XCHG is; only this thread and kicks write the
        // word.
        self.place.swap(place.0, SeqCst);
        place
    }

    /// Makes the thread look at the run page again. Returns where it was: once that stay is over, it
    /// has left or will look.
    pub(crate) fn kick(&self) -> Place {
        // ORDERING: the full barrier of the diagram, behind the caller's write.
        smp_mb(kernel::sync::barrier::Full);
        let place = Place(self.place.load(Relaxed));
        if let Some(kicked) = place.kicked() {
            // Who marks the stay is the one that interrupts it: another kick that sees the mark relies
            // on an interrupt that is sent within a moment, not when this task gets a CPU again.
            let _at_once = PreemptOff::new();
            // Who fails has met another kick, or the thread on its way out.
            let changed = self
                .place
                .compare_exchange(place.0, kicked.0, Relaxed, Relaxed);
            if changed.is_ok() {
                ffi::send_reschedule(self.cpu);
            }
        }
        self.sleeper.wake();
        place
    }

    /// Where the thread is.
    pub(crate) fn place(&self) -> Place {
        // ORDERING: who sees that the thread has left sees what it wrote before.
        Place(self.place.load(Acquire))
    }

    /// Sleeps until `is_awake`, which each kick asks again, or until `most_ticks` of the TSC are
    /// over; but never for much more than a second, because a sleeping thread is not told when it may
    /// not use its CPU any more.
    ///
    /// # Errors
    ///
    /// EINTR when a signal is pending.
    pub(crate) fn sleep<T>(
        &self,
        claimed: &T,
        is_awake: fn(&T) -> bool,
        most_ticks: Option<u64>,
    ) -> Result {
        let question = Question(claimed, is_awake);
        let most = Sleep::new(most_ticks, ffi::tsc_khz());
        self.sleeper.sleep(&question, most)
    }
}

/// Whether a thread that sleeps has to go on.
struct Question<'a, T>(&'a T, fn(&T) -> bool);

impl<T> Callback for Question<'_, T> {
    type About = Self;
    type Answer = bool;

    fn call(about: &Self) -> bool {
        let Self(subject, is_awake) = about;
        is_awake(subject)
    }
}

/// The thread may be inside the lower VTL.
#[must_use]
pub(crate) struct Inside<'a> {
    wake: &'a Wake,
    place: Place,
}

impl Inside<'_> {
    /// To be called with interrupts off before each further entry. A kick sends one interrupt for each
    /// stay; when this one's has come, the next stay begins, so that whoever waits for the end of the
    /// old one goes on, and the next kick sends an interrupt again. A kick that comes after this call
    /// finds interrupts off, and TDG.VP.ENTER returns for it.
    pub(crate) fn answer_kick(&mut self) {
        if self.wake.place.load(Relaxed) != self.place.0 {
            self.place = self.wake.begin_stay();
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // ORDERING: who sees this sees that the lower VTL has stopped. A kick's mark that this
        // store overwrites has done its work: the caller looks at the run page again.
        self.wake.place.store(self.place.left().0, Release);
    }
}
