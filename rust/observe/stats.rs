// SPDX-License-Identifier: GPL-2.0
//! Counters of one VP, and how userspace reads them.
//!
//! Exits are counted in one place, [`Stats::count`], by the kind from `pure::audit`. Each VP has
//! its own memory. A reader may see one counter of an exit before the next one is written; each
//! counter by itself is consistent.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::prelude::*;

use crate::glue::abi;
use crate::pure::audit::{EntryReason, ExitKind};
use crate::pure::storm::{is_of_host, Streak};
use crate::pure::vtl_switch::Direction;

/// Counters of one kind of exit, in a cache line of their own: each exit writes to one line.
///
/// These are `core`'s atomics because each access to the kernel's is a call of a C function, and
/// this runs on every switch.
#[repr(C, align(64))]
struct Exits {
    count: AtomicU64,
    /// Number of those after which the kernel entered again by itself.
    handled: AtomicU64,
    /// TSC ticks from entry to exit.
    cycles: AtomicU64,
    /// The current [`Streak`], for kinds that the host can cause.
    streak: [AtomicU64; 3],
    /// Number of storms of that kind, and their TSC ticks.
    storms: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Exits>() == 64);

/// Exit storms; the values are read one by one.
pub(crate) struct Storms {
    /// Number of storms.
    pub(crate) count: u64,
    /// TSC ticks of all storms together.
    pub(crate) ticks: u64,
    /// TSC ticks of the shortest storm.
    pub(crate) shortest_ticks: u64,
}

/// What was refused: an index into `refused` of `struct mshv_vtl_stats`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum RefusalKind {
    /// EINTR: a signal, or a cancellation.
    Interrupted = abi::MSHV_VTL_REFUSED_EINTR,
    /// EBUSY.
    Busy = abi::MSHV_VTL_REFUSED_EBUSY,
    /// EINVAL.
    Invalid = abi::MSHV_VTL_REFUSED_EINVAL,
    /// EOPNOTSUPP.
    Unsupported = abi::MSHV_VTL_REFUSED_EOPNOTSUPP,
    /// EIO: refused by the TDX module.
    TdxModule = abi::MSHV_VTL_REFUSED_EIO,
    /// ENXIO, and all other errors.
    Other = abi::MSHV_VTL_REFUSED_OTHER,
    /// A TDCALL that the policy refused.
    Tdcall = abi::MSHV_VTL_REFUSED_TDCALL,
    /// A hypercall that is not in its file's list; it has a field of its own.
    Hypercall = abi::MSHV_VTL_REFUSED_TDCALL + 1,
}

impl RefusalKind {
    const COUNT: usize = Self::Hypercall as usize + 1;

    /// The counter for an error of a run.
    pub(crate) fn of(error: Error) -> Self {
        match error {
            EINTR => Self::Interrupted,
            EBUSY => Self::Busy,
            EINVAL => Self::Invalid,
            EOPNOTSUPP => Self::Unsupported,
            EIO => Self::TdxModule,
            _ => Self::Other,
        }
    }
}

/// Counters of one VP.
pub(crate) struct Stats {
    /// Indexed by the number of the kind; `ExitKind::COUNT` of them.
    exits: KVec<Exits>,
    /// Largest distance of two exits of a storm, in TSC ticks; 0 disables detection.
    spacing_ticks: u64,
    /// TSC ticks of the shortest storm; 0 if there was none.
    shortest_ticks: AtomicU64,
    refusals: [AtomicU64; RefusalKind::COUNT],
    /// Exits passed to userspace because of a [`Stall`](crate::pure::stall::Stall).
    stalls: AtomicU64,
    vtl: VtlCounts,
}

/// Counters about switches between VTL0 and VTL1, in the order of `struct mshv_vtl_stats`.
#[derive(Default)]
struct VtlCounts {
    calls: AtomicU64,
    returns: AtomicU64,
    fast_returns: AtomicU64,
    left: AtomicU64,
    flushes: AtomicU64,
    proxied: AtomicU64,
}

/// Counters of one kind of exit; the values are read one by one.
pub(crate) struct Snapshot {
    /// Number of the kind.
    pub(crate) kind: usize,
    /// Number of exits.
    pub(crate) count: u64,
    /// Number of those that the kernel handled by itself.
    pub(crate) handled: u64,
    /// TSC ticks from entry to exit, all together.
    pub(crate) cycles: u64,
}

impl Stats {
    /// Creates counters that are zero.
    pub(crate) fn new(spacing_ticks: u64) -> Result<Self> {
        let mut exits = KVec::with_capacity(ExitKind::COUNT, GFP_KERNEL)?;
        for _ in 0..ExitKind::COUNT {
            let exit = Exits {
                count: AtomicU64::new(0),
                handled: AtomicU64::new(0),
                cycles: AtomicU64::new(0),
                streak: [const { AtomicU64::new(0) }; 3],
                storms: [const { AtomicU64::new(0) }; 2],
            };
            exits.push(exit, GFP_KERNEL)?;
        }
        Ok(Self {
            exits,
            spacing_ticks,
            shortest_ticks: AtomicU64::new(0),
            refusals: core::array::from_fn(|_| AtomicU64::new(0)),
            stalls: AtomicU64::new(0),
            vtl: VtlCounts::default(),
        })
    }

    /// Counts a switch that ended at `tsc`. Only the thread with the claim to the VP calls this, so
    /// no count is lost. Returns the duration of the exit storm that this exit completes.
    #[inline(always)]
    pub(crate) fn count(
        &self,
        reason: EntryReason,
        kind: ExitKind,
        cycles: u64,
        tsc: u64,
    ) -> Option<u64> {
        let mut storm = None;
        if let Some(exits) = self.exits.get(usize::from(kind.number())) {
            add(&exits.count, 1);
            add(&exits.cycles, cycles);
            if is_of_host(kind) {
                storm = exits.note_streak(tsc, self.spacing_ticks);
            }
        }
        if let Some(kind) = reason.handled() {
            if let Some(exits) = self.exits.get(usize::from(kind.number())) {
                add(&exits.handled, 1);
            }
        }
        if let Some(ticks) = storm {
            self.note_shortest(ticks);
        }
        storm
    }

    #[cold]
    fn note_shortest(&self, ticks: u64) {
        let shortest = self.shortest_ticks.load(Relaxed);
        if shortest == 0 || ticks < shortest {
            self.shortest_ticks.store(ticks, Relaxed);
        }
    }

    /// Sums up the exit storms of all kinds.
    pub(crate) fn storms(&self) -> Storms {
        let sum = |place: usize| {
            let words = self
                .exits
                .iter()
                .filter_map(|exits| exits.storms.get(place));
            words.map(|word| word.load(Relaxed)).sum()
        };
        Storms {
            count: sum(0),
            ticks: sum(1),
            shortest_ticks: self.shortest_ticks.load(Relaxed),
        }
    }

    /// Counts a refusal, from any thread.
    pub(crate) fn refused(&self, refusal: RefusalKind) {
        if let Some(count) = self.refusals.get(refusal as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Refused commands on VTL descriptors, in the order of [`RefusalKind`].
    pub(crate) fn refusals(&self) -> impl Iterator<Item = u64> + '_ {
        let of_vtl = self.refusals.iter().take(RefusalKind::Hypercall as usize);
        of_vtl.map(|count| count.load(Relaxed))
    }

    /// Number of refused hypercalls.
    pub(crate) fn refused_hypercalls(&self) -> u64 {
        let [.., count] = &self.refusals;
        count.load(Relaxed)
    }

    /// Counts a lower VTL that made no progress. Called as [`Self::count`].
    pub(crate) fn stalled(&self) {
        add(&self.stalls, 1);
    }

    /// How often a lower VTL made no progress.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    /// Counts a switch between VTLs. As [`Self::count`], and so are the next three.
    pub(crate) fn switched(&self, direction: Direction) {
        let count = match direction {
            Direction::Call => &self.vtl.calls,
            Direction::Return => &self.vtl.returns,
            Direction::FastReturn => &self.vtl.fast_returns,
        };
        add(count, 1);
    }

    /// Counts a switch that is left to userspace.
    pub(crate) fn left(&self) {
        add(&self.vtl.left, 1);
    }

    /// Counts an entry that has invalidated because the switch page says so.
    pub(crate) fn flushed(&self) {
        add(&self.vtl.flushes, 1);
    }

    /// Counts interrupts for VTL0 that were taken while VTL1 ran.
    pub(crate) fn proxied(&self) {
        add(&self.vtl.proxied, 1);
    }

    /// Counters about switches, in the order of `struct mshv_vtl_stats`.
    pub(crate) fn vtl_counts(&self) -> [u64; 6] {
        let VtlCounts {
            calls,
            returns,
            fast_returns,
            left,
            flushes,
            proxied,
        } = &self.vtl;
        [calls, returns, fast_returns, left, flushes, proxied].map(|count| count.load(Relaxed))
    }

    /// All kinds, in the order of their numbers.
    pub(crate) fn exits(&self) -> impl Iterator<Item = Snapshot> + '_ {
        let snapshot = |(kind, exits): (usize, &Exits)| Snapshot {
            kind,
            count: exits.count.load(Relaxed),
            handled: exits.handled.load(Relaxed),
            cycles: exits.cycles.load(Relaxed),
        };
        self.exits.iter().enumerate().map(snapshot)
    }
}

impl Exits {
    /// Adds an exit that the host can cause. Returns the duration of the storm that it completes.
    #[inline(never)]
    fn note_streak(&self, tsc: u64, spacing_ticks: u64) -> Option<u64> {
        let [exits, began_tsc, last_tsc] = &self.streak;
        let streak = Streak {
            exits: exits.load(Relaxed),
            began_tsc: began_tsc.load(Relaxed),
            last_tsc: last_tsc.load(Relaxed),
        };
        let (streak, storm) = streak.next(tsc, spacing_ticks);
        exits.store(streak.exits, Relaxed);
        began_tsc.store(streak.began_tsc, Relaxed);
        last_tsc.store(streak.last_tsc, Relaxed);
        if let Some(ticks) = storm {
            let [count, sum] = &self.storms;
            add(count, 1);
            add(sum, ticks);
        }
        storm
    }
}

/// Adds without a locked operation, since there is only one writer.
#[inline(always)]
fn add(counter: &AtomicU64, increment: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(increment), Relaxed);
}
