// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The thread that checks, and how it gets the registers of the processors: each is made to leave VTL0,
//! its own thread reads them before it goes on, and waits for nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, PoisonError};
use std::time::{Duration, Instant};

use super::baseline::Baseline;
use super::checks::{Budget, Checks, Event};
use super::image::KernelImage;
use super::random;
use super::view::Registers;
use crate::board::{Board, End};
use crate::memory::LowerRam;
use crate::parking::Mutex;
use crate::processors::{Phase, Processors};

/// What a run with a monitor costs, and how often it looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rounds after the baseline.
    pub rounds: u64,
    /// Time in those after the baseline.
    pub busy: Duration,
    /// Time in the longest one, the baseline aside.
    pub longest: Duration,
    /// Time in the one that took the baseline.
    pub baseline: Duration,
    /// Findings that were reported.
    pub findings: u64,
}

/// What a monitor tells.
#[derive(Clone, Debug)]
pub enum Report<'a> {
    /// What happened in a round.
    Event(&'a Event),
    /// The last one.
    End(Summary),
}

/// What is to be monitored, how, and who is told.
pub struct Settings {
    /// The kernel.
    pub image: Arc<KernelImage>,
    /// What a trusted start of it was like.
    pub trusted: Option<Baseline>,
    /// Is told what this one is like, as soon as all was checked and nothing found.
    pub learned: Option<Box<dyn FnOnce(Baseline) + Send>>,
    /// From round to round.
    pub interval: Duration,
    /// End the guest when something is found.
    pub stops: bool,
    /// Is told.
    pub report: Box<dyn FnMut(Report<'_>) + Send>,
}

/// What the thread and the processors share.
#[derive(Debug)]
pub struct Watch {
    /// A processor's registers are wanted.
    is_due: Vec<AtomicBool>,
    /// Nobody has been seen at CPL 3.
    waits_for_user: AtomicBool,
    /// The guest has ended: what takes long ends, too.
    is_ending: Arc<AtomicBool>,
    shared: Mutex<Shared>,
    changed: Condvar,
}

#[derive(Debug)]
struct Shared {
    registers: Vec<Option<Registers>>,
    restarted: Vec<usize>,
    /// A processor was at CPL 3, and no round has begun since.
    has_user: bool,
    is_over: bool,
}

/// A round waits for the registers of a processor no longer than this.
const PATIENCE: Duration = Duration::from_millis(200);
/// From a round that has found something to the one that confirms it, about.
const SOON: Duration = Duration::from_millis(70);
/// A kernel that has begun to run processes has made its text read-only after this.
const LONGEST_START: Duration = Duration::from_secs(60);
/// One that does neither is told after this.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);
/// From round to round until there is a baseline.
const WAITING: Duration = Duration::from_secs(1);

/// Half of a time to one and a half of it, at random: the guest can't know when it is looked at.
fn varied(interval: Duration) -> Duration {
    // CAST: the upper half.
    let share = (random::number() >> 32) as u32;
    interval.mul_f64(0.5 + f64::from(share) / f64::from(u32::MAX))
}

/// There has to be a baseline at some time. Tells if there is none for too long.
fn hurry(checks: &mut Checks, begun: Instant, expected_since: &mut Option<Instant>) -> Vec<Event> {
    if checks.expects_baseline() {
        let since = *expected_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= LONGEST_START {
            checks.hurry();
        }
    } else if begun.elapsed() >= LONGEST_SILENCE {
        return checks.never_started();
    }
    Vec::new()
}

/// Returns true if the processor has started.
fn runs(processors: &Processors, number: usize) -> bool {
    let processor = processors.list().get(number);
    processor.is_some_and(|it| it.activity.phase() == Phase::Running)
}

/// Tells what this start is like, once.
fn tell(
    checks: &Checks,
    processors: &Processors,
    learned: &mut Option<Box<dyn FnOnce(Baseline) + Send>>,
) {
    // It takes a while.
    if learned.is_none() {
        return;
    }
    if let Some(baseline) = checks.learned(|number| runs(processors, number)) {
        if let Some(learned) = learned.take() {
            learned(baseline);
        }
    }
}

impl Watch {
    /// For as many processors.
    pub fn new(processors: usize) -> Self {
        Self {
            is_due: (0..processors).map(|_| AtomicBool::new(false)).collect(),
            waits_for_user: AtomicBool::new(true),
            is_ending: Arc::default(),
            shared: Mutex::new(Shared {
                registers: vec![None; processors],
                restarted: Vec::new(),
                has_user: false,
                is_over: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns true if the registers of a processor are wanted.
    pub fn is_due(&self, processor: usize) -> bool {
        let due = self.is_due.get(processor);
        due.is_some_and(|due| due.load(Ordering::SeqCst))
    }

    /// Gives them.
    pub fn give(&self, processor: usize, registers: Registers) {
        let mut shared = self.shared.lock();
        if let Some(own) = shared.registers.get_mut(processor) {
            *own = Some(registers);
        }
        if let Some(due) = self.is_due.get(processor) {
            due.store(false, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }

    /// Returns true if it is worth telling that a processor is at CPL 3.
    pub fn waits_for_user(&self) -> bool {
        self.waits_for_user.load(Ordering::Relaxed)
    }

    /// A processor is at CPL 3: the first round begins at once.
    pub fn has_user(&self) {
        self.waits_for_user.store(false, Ordering::Relaxed);
        self.shared.lock().has_user = true;
        self.changed.notify_all();
    }

    /// A processor starts from its reset state.
    pub fn restarted(&self, processor: usize) {
        let mut shared = self.shared.lock();
        // The guest can do that often.
        if !shared.restarted.contains(&processor) {
            shared.restarted.push(processor);
        }
        if let Some(own) = shared.registers.get_mut(processor) {
            *own = None;
        }
    }

    /// The guest has ended.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.shared.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Checks until the guest has ended.
    pub fn run(&self, board: &Board<LowerRam>, mut settings: Settings) {
        let trusted = settings.trusted.take();
        let mut checks = Checks::new(Arc::clone(&settings.image), trusted, Budget::default())
            .until(Arc::clone(&self.is_ending));
        let (mut summary, started) = (Summary::default(), Instant::now());
        let mut pause = settings.interval;
        let mut expected_since = None;
        while self.sleep(pause) {
            let registers = self.collect(&board.processors, &mut checks);
            let (begun, was_waiting) = (Instant::now(), checks.is_waiting());
            let mut events = checks.round(&board.memory, &registers);
            let took = begun.elapsed();
            summary.rounds += u64::from(!was_waiting);
            if !was_waiting {
                summary.busy += took;
                summary.longest = summary.longest.max(took);
            } else if !checks.is_waiting() {
                summary.baseline = took;
            }
            events.extend(hurry(&mut checks, started, &mut expected_since));
            for event in &events {
                // Whoever is told may take long.
                if let Event::Finding(finding) = event {
                    summary.findings += 1;
                    if settings.stops {
                        board.end(End::Violated(finding.to_string()));
                    }
                }
                (settings.report)(Report::Event(event));
            }
            tell(&checks, &board.processors, &mut settings.learned);
            pause = if checks.has_suspects() {
                varied(SOON.min(settings.interval))
            } else if checks.is_waiting() {
                WAITING.min(settings.interval)
            } else {
                varied(settings.interval)
            };
        }
        (settings.report)(Report::End(summary));
    }

    /// Returns true if a round is due, false if all is over.
    fn sleep(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut shared = self.shared.lock();
        loop {
            if shared.is_over {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || std::mem::take(&mut shared.has_user) {
                return true;
            }
            let waited = self.changed.wait_timeout(shared, left);
            (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The registers of all processors that run.
    fn collect(&self, processors: &Processors, checks: &mut Checks) -> Vec<Option<Registers>> {
        self.shared.lock().registers.fill(None);
        for (number, due) in self.is_due.iter().enumerate() {
            due.store(runs(processors, number), Ordering::SeqCst);
        }
        // It can only fail for lack of memory: then only those that exit by themselves are checked.
        let _ = processors.interrupt_all();
        let until = Instant::now() + PATIENCE;
        let mut shared = self.shared.lock();
        while !shared.is_over && self.is_due.iter().any(|due| due.load(Ordering::SeqCst)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(shared, left);
            (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if !self.waits_for_user() {
            checks.saw_user();
        }
        for processor in shared.restarted.drain(..) {
            checks.restarted(processor);
        }
        shared.registers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_at_times_that_differ() {
        let interval = Duration::from_secs(1);
        let times: Vec<Duration> = (0..64).map(|_| varied(interval)).collect();
        assert!(
            times
                .iter()
                .all(|it| (interval / 2..=interval * 3 / 2).contains(it))
        );
        assert!(times.iter().any(|it| *it < interval) && times.iter().any(|it| *it > interval));
    }

    #[test]
    fn what_the_guest_does_often_is_kept_once() {
        let watch = Watch::new(2);
        for _ in 0..1000 {
            watch.restarted(1);
            watch.restarted(0);
        }
        assert_eq!(watch.shared.lock().restarted, [1, 0]);
        watch.give(7, Registers::default());
        assert!(!watch.is_due(0) && !watch.is_due(7));
    }

    #[test]
    fn userspace_and_the_end_wake_the_thread() {
        let watch = Watch::new(1);
        let long = Duration::from_secs(1000);
        assert!(watch.waits_for_user());
        watch.has_user();
        assert!(watch.sleep(long) && !watch.waits_for_user());
        watch.end();
        assert!(!watch.sleep(long));
    }
}
