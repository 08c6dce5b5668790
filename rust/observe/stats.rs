// SPDX-License-Identifier: GPL-2.0
//! Counters of one VP, and what userspace reads of them.
//!
//! Exits are counted in one place, [`Stats::count`], from the kind that `pure::audit` gives them.
//! Each VP has its own memory. A reader may find one counter of an exit before the next one is
//! written; each by itself is whole.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::prelude::*;

use crate::glue::abi;
use crate::pure::audit::{EntryReason, ExitKind};
use crate::pure::storm::{is_of_host, Streak};

/// Exits of one kind, in a cache line of their own: an exit writes one, whatever it is.
///
/// These are `core`'s atomics because the kernel's are calls of a C function each, and this is on the
/// way of every switch.
#[repr(C, align(64))]
struct Exits {
    count: AtomicU64,
    /// Those after which the kernel entered again by itself.
    handled: AtomicU64,
    /// TSC ticks from entry to exit.
    cycles: AtomicU64,
    /// The [`Streak`] that goes on, of a kind that the host causes.
    streak: [AtomicU64; 3],
    /// Storms of that kind, and their TSC ticks.
    storms: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Exits>() == 64);

/// Exit storms, read one by one.
pub(crate) struct Storms {
    /// How many.
    pub(crate) count: u64,
    /// TSC ticks of them all.
    pub(crate) ticks: u64,
    /// TSC ticks of the shortest.
    pub(crate) shortest_ticks: u64,
}

/// What was refused, by its place in `struct mshv_vtl_stats`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Refusal {
    /// EINTR: a signal, or a cancellation.
    Interrupted = abi::MSHV_VTL_REFUSED_EINTR,
    /// EBUSY.
    Busy = abi::MSHV_VTL_REFUSED_EBUSY,
    /// EINVAL.
    Invalid = abi::MSHV_VTL_REFUSED_EINVAL,
    /// EOPNOTSUPP.
    Unsupported = abi::MSHV_VTL_REFUSED_EOPNOTSUPP,
    /// EIO: by the TDX module.
    TdxModule = abi::MSHV_VTL_REFUSED_EIO,
    /// ENXIO, and whatever else.
    Other = abi::MSHV_VTL_REFUSED_OTHER,
    /// A TDCALL, by the policy.
    Tdcall = abi::MSHV_VTL_REFUSED_TDCALL,
    /// A hypercall that is not in its file's list; in a place of its own.
    Hypercall = abi::MSHV_VTL_REFUSED_TDCALL + 1,
}

impl Refusal {
    const COUNT: usize = Self::Hypercall as usize + 1;

    /// What a failed run is counted as.
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
    /// By the number of the kind; `ExitKind::COUNT` of them.
    exits: KVec<Exits>,
    /// How close two exits of a storm are; 0 for no storms.
    spacing_ticks: u64,
    /// TSC ticks of the shortest storm; 0 without one.
    shortest_ticks: AtomicU64,
    refusals: [AtomicU64; Refusal::COUNT],
    /// Exits handed over because of a [`Stall`](crate::pure::stall::Stall).
    stalls: AtomicU64,
}

/// Counters of one kind of exit, read one by one.
pub(crate) struct Snapshot {
    /// Number of the kind.
    pub(crate) kind: usize,
    /// Exits.
    pub(crate) count: u64,
    /// Those that the kernel dealt with itself.
    pub(crate) handled: u64,
    /// TSC ticks.
    pub(crate) cycles: u64,
}

impl Stats {
    /// Everything zero.
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
        })
    }

    /// Counts a switch that ended at `tsc`. Only the thread with the claim to the VP does, so nothing is
    /// lost. Returns how long an exit storm took that is complete with it.
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

    /// Exit storms of all kinds.
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
    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(count) = self.refusals.get(refusal as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Refusals of commands on a VTL descriptor, in the order of [`Refusal`].
    pub(crate) fn refusals(&self) -> impl Iterator<Item = u64> + '_ {
        let of_vtl = self.refusals.iter().take(Refusal::Hypercall as usize);
        of_vtl.map(|count| count.load(Relaxed))
    }

    /// Hypercalls that were refused.
    pub(crate) fn refused_hypercalls(&self) -> u64 {
        let [.., count] = &self.refusals;
        count.load(Relaxed)
    }

    /// Counts a lower VTL that made no progress. As [`Self::count`].
    pub(crate) fn stalled(&self) {
        add(&self.stalls, 1);
    }

    /// How often a lower VTL made no progress.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    /// Every kind, in the order of its number.
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
    /// One more exit that the host caused. Returns how long a storm took that is complete.
    #[inline]
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

/// Adds without a locked operation, where there is but one writer.
fn add(counter: &AtomicU64, increment: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(increment), Relaxed);
}
