// SPDX-License-Identifier: GPL-2.0
//! Makes a VP's thread leave the lower VTL, or wake up.
//!
//! A kicker first writes the reason to the run page (`cancel`, a proxied interrupt), then calls
//! [`Wake::kick`]:
//!
//! ```text
//! kicker                             the thread, before an entry     ... before it sleeps
//! reason := 1                        place := inside                 sleeper := current
//! full barrier                       full barrier                    full barrier
//! place is inside? send an IPI       reason set? don't enter         reason set? don't sleep
//! a sleeper? wake it
//! ```
//!
//! At least one of two such sides sees the other's write, so no wake-up is lost: either the thread
//! sees the reason, or the kicker sees the thread. The IPI finds the thread with interrupts
//! disabled, so it stays pending until TDG.VP.ENTER, which then returns.

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
    /// A [`Place`], written by the thread, except for the mark of a kick. It is read before each
    /// entry, so it is one of `core`'s atomics, like those of `stats`.
    place: AtomicU64,
    sleeper: Sleeper,
}

impl Wake {
    /// Starts outside, with no sleeper.
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
        // ORDERING: the full barrier of the diagram, as XCHG is one; only this thread and kicks
        // write the word.
        self.place.swap(place.0, SeqCst);
        place
    }

    /// Makes the thread read the run page again. Returns where it was: when that stay has ended,
    /// the thread has left, or will read the page.
    pub(crate) fn kick(&self) -> Place {
        // ORDERING: the full barrier of the diagram, after the caller's write.
        smp_mb(kernel::sync::barrier::Full);
        let place = Place(self.place.load(Relaxed));
        if let Some(kicked) = place.kicked() {
            // The kicker that marks the stay sends the IPI. Another kicker that sees the mark
            // relies on an IPI very soon, and not only when this task gets a CPU again.
            let _at_once = PreemptOff::new();
            // This fails if another kicker was first, or the thread has just left.
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
        // ORDERING: a kicker that sees that the thread has left also sees what it wrote before.
        Place(self.place.load(Acquire))
    }

    /// Sleeps until `is_awake` returns true, which each kick checks again, or until `most_ticks` of
    /// the TSC have passed; but never much longer than a second, because a sleeping thread is not
    /// notified when its affinity changes.
    ///
    /// # Errors
    ///
    /// EINTR if a signal is pending.
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

/// Decides if a sleeping thread has to wake up.
struct Question<'a, T>(&'a T, fn(&T) -> bool);

impl<T> Callback for Question<'_, T> {
    type About = Self;
    type Output = bool;

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
    /// To be called whenever interrupts were enabled, and are disabled for an entry. A kick sends one IPI
    /// for each stay; when it has arrived, the next stay begins, so that a thread that waits for the
    /// end of the old one continues, and the next kick sends an IPI again. The IPI of a kick after
    /// this call finds interrupts disabled and makes TDG.VP.ENTER return. Returns true if there was
    /// a kick.
    pub(crate) fn answer_kick(&mut self) -> bool {
        let is_kicked = self.wake.place.load(Relaxed) != self.place.0;
        if is_kicked {
            self.place = self.wake.begin_stay();
        }
        is_kicked
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // ORDERING: a thread that sees this store also sees that the lower VTL has stopped. If it
        // overwrites the mark of a kick, nothing is lost: the caller reads the run page again.
        self.wake.place.store(self.place.left().0, Release);
    }
}
