// SPDX-License-Identifier: GPL-2.0-only
//! One VP, its CPU and its thread's sleep. The names are those of `rust/vp/wake.rs`.
//!
//! The kernel's full barrier is a SeqCst fence; its fully ordered exchange has one on both sides.
//! An interrupt is pending until interrupts are enabled; a lower VTL stops when one is pending. The
//! scheduler's part is a flag under a lock, which a waker takes only if it has seen the sleeper:
//! the lock orders nothing for a kick that comes too early.

use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use vtl_pure::pure::place::Place;

/// A step of the protocol that a test leaves out, to see that it is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    BarrierOfKick,
    BarrierOfEntry,
    BarrierOfSleep,
    SecondLook,
    AnswerToKick,
    ReleaseOfLeaving,
}

/// A flag that is changed under a lock.
struct Flag {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    fn new() -> Self {
        Self {
            is_set: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    fn set(&self, is_set: bool) {
        *self.is_set.lock().unwrap() = is_set;
        self.changed.notify_one();
    }

    fn wait_until(&self, wanted: bool) {
        let mut is_set = self.is_set.lock().unwrap();
        while *is_set != wanted {
            is_set = self.changed.wait(is_set).unwrap();
        }
    }
}

pub(crate) struct Vp {
    without: Without,
    place: AtomicU64,
    sleeper: AtomicBool,
    interrupt: Flag,
    asleep: Flag,
    /// Reasons to look: a bit for each that kicks.
    reasons: AtomicU32,
    /// What the lower VTL wrote last.
    pub(crate) written: AtomicU32,
}

impl Vp {
    pub(crate) fn new(without: Without) -> Self {
        Self {
            without,
            place: AtomicU64::new(Place::OUTSIDE.0),
            sleeper: AtomicBool::new(false),
            interrupt: Flag::new(),
            asleep: Flag::new(),
            reasons: AtomicU32::new(0),
            written: AtomicU32::new(0),
        }
    }

    fn full_barrier(&self, unless: Without) {
        if self.without != unless {
            fence(SeqCst);
        }
    }

    /// Gives a reason, then kicks.
    pub(crate) fn ask(&self, reason: u32) -> Place {
        self.reasons.fetch_or(reason, Relaxed);
        self.kick()
    }

    pub(crate) fn kick(&self) -> Place {
        self.full_barrier(Without::BarrierOfKick);
        let place = Place(self.place.load(Relaxed));
        if let Some(kicked) = place.kicked() {
            let exchanged = self
                .place
                .compare_exchange(place.0, kicked.0, Relaxed, Relaxed);
            if exchanged.is_ok() {
                self.interrupt.set(true);
            }
        }
        // The barrier of rcuwait_wake_up().
        self.full_barrier(Without::BarrierOfKick);
        if self.sleeper.load(Relaxed) {
            self.asleep.set(false);
        }
        place
    }

    /// What MSHV_KICK_CPUS polls when it waits: returns true if the stay that the kick has seen is
    /// over.
    pub(crate) fn has_ended(&self, earlier: Place) -> bool {
        !Place(self.place.load(Acquire)).is_still(earlier)
    }

    /// Runs the lower VTL until all of `wanted` has been seen, and takes what it sees.
    pub(crate) fn run(&self, mut wanted: u32, is_halted: bool) {
        while wanted != 0 {
            self.take_interrupt();
            let mut place = self.begin_stay();
            wanted &= !self.prepare_entry(&mut place);
            // Entries follow each other in one stay.
            while wanted != 0 && !is_halted {
                self.written.store(1, Relaxed);
                self.interrupt.wait_until(true);
                self.take_interrupt();
                wanted &= !self.prepare_entry(&mut place);
            }
            self.end_stay(place);
            if wanted != 0 {
                self.sleep();
            }
        }
    }

    /// Runs the lower VTL up to an exit of its own, for userspace.
    pub(crate) fn run_to_exit(&self) {
        let mut place = self.begin_stay();
        if self.prepare_entry(&mut place) == 0 {
            self.written.store(1, Relaxed);
        }
        self.end_stay(place);
    }

    /// Interrupts are enabled for a moment.
    pub(crate) fn take_interrupt(&self) {
        self.interrupt.set(false);
    }

    pub(crate) fn begin_stay(&self) -> Place {
        let place = Place(self.place.load(Relaxed)).entered();
        self.full_barrier(Without::BarrierOfEntry);
        // The exchange itself, without the order that the barriers give it.
        self.place.swap(place.0, Relaxed);
        self.full_barrier(Without::BarrierOfEntry);
        place
    }

    /// With interrupts off, up to the point where the lower VTL would run. Returns the reasons
    /// that were seen.
    pub(crate) fn prepare_entry(&self, place: &mut Place) -> u32 {
        let is_kicked = self.place.load(Relaxed) != place.0;
        if is_kicked && self.without != Without::AnswerToKick {
            *place = self.begin_stay();
        }
        self.take_reasons()
    }

    pub(crate) fn end_stay(&self, place: Place) {
        self.place.store(place.left().0, self.order_of_leaving());
    }

    fn order_of_leaving(&self) -> Ordering {
        match self.without {
            Without::ReleaseOfLeaving => Relaxed,
            _ => Release,
        }
    }

    /// Reads until there is a reason, and takes it.
    fn take_reasons(&self) -> u32 {
        if self.reasons.load(Relaxed) == 0 {
            return 0;
        }
        self.reasons.swap(0, Relaxed)
    }

    /// rcuwait_wait_event().
    fn sleep(&self) {
        while !self.fall_asleep() {
            self.asleep.wait_until(false);
        }
        self.sleeper.store(false, Relaxed);
    }

    /// Runs up to the point where the scheduler takes over. Returns true if there is a reason not
    /// to sleep.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeper.store(true, Relaxed);
        self.asleep.set(true);
        self.full_barrier(Without::BarrierOfSleep);
        self.without != Without::SecondLook && self.reasons.load(Relaxed) != 0
    }

    /// Returns true if a lower VTL that runs would stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        *self.interrupt.is_set.lock().unwrap()
    }

    /// Returns true if a thread that sleeps would go on.
    pub(crate) fn is_woken(&self) -> bool {
        !*self.asleep.is_set.lock().unwrap()
    }
}
