// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a processor does, as others change it: started, halted for good, woken by an NMI.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, MutexGuard, PoisonError};

use crate::parking::Mutex;

/// What a processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a start-up IPI, as after INIT.
    Waiting,
    /// It is to start in real mode at this page.
    Starting(u8),
    /// It runs.
    Running,
    /// Halted forever: only an NMI or INIT could end that.
    Dead,
}

/// The phase of a processor, and the NMI that waits for it. Every change is made under one lock, so
/// that none is lost.
#[derive(Debug)]
pub struct Activity {
    phase: Mutex<Phase>,
    changed: Condvar,
    has_nmi: AtomicBool,
}

impl Activity {
    /// An activity that begins with `phase`.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase: Mutex::new(phase),
            changed: Condvar::new(),
            has_nmi: AtomicBool::new(false),
        }
    }

    /// What it does.
    pub fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// INIT: whatever it did, it waits to be started, and a pending NMI is gone.
    pub fn init(&self) {
        let mut phase = self.phase.lock();
        *phase = Phase::Waiting;
        self.has_nmi.store(false, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// A start-up IPI: only a processor that waits for one accepts it; further ones are ignored.
    pub fn start(&self, page: u8) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Waiting {
            *phase = Phase::Starting(page);
            self.changed.notify_all();
        }
    }

    /// It is about to execute its first instruction, unless another INIT has arrived meanwhile.
    pub fn has_started(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Starting(_)) {
            *phase = Phase::Running;
        }
    }

    /// It has halted with interrupts disabled. An INIT that has arrived meanwhile counts, and an NMI
    /// ends the halt at once.
    pub fn halt_for_good(&self) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Running && !self.has_nmi.load(Ordering::SeqCst) {
            *phase = Phase::Dead;
        }
    }

    /// An NMI. A processor that waits to be started accepts none: its first instructions have no
    /// handler for one.
    pub fn nmi(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Waiting | Phase::Starting(_)) {
            return;
        }
        self.has_nmi.store(true, Ordering::SeqCst);
        if *phase == Phase::Dead {
            *phase = Phase::Running;
            self.changed.notify_all();
        }
    }

    /// Takes a pending NMI. Returns true if there was one.
    pub fn take_nmi(&self) -> bool {
        self.has_nmi.load(Ordering::Relaxed) && self.has_nmi.swap(false, Ordering::SeqCst)
    }

    /// Returns true if another processor wants something of it while it runs: an NMI or INIT.
    pub fn has_request(&self) -> bool {
        self.has_nmi.load(Ordering::Relaxed) || self.phase() != Phase::Running
    }

    /// Puts an NMI back that can't be delivered yet, unless an INIT has arrived meanwhile.
    pub fn keep_nmi(&self) {
        let phase = self.phase.lock();
        if *phase == Phase::Running {
            self.has_nmi.store(true, Ordering::SeqCst);
        }
    }

    /// Waits until it has something to do, or all is over.
    pub fn wait(&self, is_over: &AtomicBool) {
        let mut phase = self.phase.lock();
        while matches!(*phase, Phase::Waiting | Phase::Dead) && !is_over.load(Ordering::SeqCst) {
            phase = self
                .changed
                .wait(phase)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes [`Self::wait`], after `is_over` was set.
    pub fn wake(&self) {
        let _phase = self.phase.lock();
        self.changed.notify_all();
    }
}

/// Returns true if any of them could still do something. The locks are held together: one that starts
/// another and halts then is not missed.
pub(super) fn has_live<'a>(all: impl Iterator<Item = &'a Activity>) -> bool {
    let phases: Vec<MutexGuard<'_, Phase>> = all.map(|it| it.phase.lock()).collect();
    phases
        .iter()
        .any(|phase| matches!(**phase, Phase::Running | Phase::Starting(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nmi_that_comes_with_the_halt_ends_it() {
        let before = Activity::new(Phase::Running);
        before.nmi();
        before.halt_for_good();
        assert_eq!(before.phase(), Phase::Running);
        assert!(before.take_nmi() && !before.take_nmi());

        let after = Activity::new(Phase::Running);
        after.halt_for_good();
        assert_eq!(after.phase(), Phase::Dead);
        after.nmi();
        assert_eq!(after.phase(), Phase::Running);
        assert!(after.take_nmi());
    }

    #[test]
    fn a_processor_that_is_started_gets_no_nmi_from_before() {
        let processor = Activity::new(Phase::Running);
        processor.nmi();
        processor.init();
        processor.keep_nmi();
        processor.nmi();
        processor.start(1);
        processor.nmi();
        processor.has_started();
        assert!(!processor.take_nmi());
        processor.nmi();
        assert!(processor.take_nmi());
        processor.keep_nmi();
        assert!(processor.take_nmi());
    }

    #[test]
    fn an_init_that_comes_with_the_halt_counts() {
        let processor = Activity::new(Phase::Running);
        processor.init();
        processor.halt_for_good();
        assert_eq!(processor.phase(), Phase::Waiting);
        processor.start(3);
        processor.halt_for_good();
        processor.start(4);
        assert_eq!(processor.phase(), Phase::Starting(3));
        processor.has_started();
        assert_eq!(processor.phase(), Phase::Running);
    }

    #[test]
    fn a_guest_whose_processors_all_wait_has_halted() {
        let all = [Phase::Running, Phase::Waiting, Phase::Dead].map(Activity::new);
        assert!(has_live(all.iter()));
        all[0].init();
        assert!(!has_live(all.iter()));
        all[2].nmi();
        assert!(has_live(all.iter()));
        all[2].halt_for_good();
        assert!(has_live(all.iter()), "the NMI is still to be delivered");
        assert!(all[2].take_nmi());
        all[2].halt_for_good();
        assert!(!has_live(all.iter()));
        all[1].start(1);
        assert!(has_live(all.iter()));
    }
}
