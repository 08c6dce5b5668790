// SPDX-License-Identifier: GPL-2.0
//! Counters of one VP, and what userspace reads of them.
//!
//! Exits are counted in one place, [`Stats::count`], from the kind that `pure::audit` gives them.
//! Each VP has its own memory. A reader may find one counter of an exit before the next one is
//! written; each by itself is whole.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::prelude::*;

use crate::pure::audit::{EntryReason, ExitKind};

/// Exits of one kind.
///
/// These are `core`'s atomics because the kernel's are calls of a C function each, and this is on the
/// way of every switch.
struct Exits {
    count: AtomicU64,
    /// Those after which the kernel entered again by itself.
    handled: AtomicU64,
    /// TSC ticks from entry to exit.
    cycles: AtomicU64,
}

/// What was refused, in the order of `struct mshv_vtl_stats`.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// EINTR: a signal, or a cancellation.
    Interrupted,
    /// EBUSY.
    Busy,
    /// EINVAL.
    Invalid,
    /// EOPNOTSUPP.
    Unsupported,
    /// EIO: by the TDX module.
    TdxModule,
    /// ENXIO, and whatever else.
    Other,
    /// A TDCALL, by the policy.
    Tdcall,
    /// A hypercall that is not in its file's list.
    Hypercall,
}

impl Refusal {
    const COUNT: usize = 8;

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
    pub(crate) fn new() -> Result<Self> {
        let mut exits = KVec::with_capacity(ExitKind::COUNT, GFP_KERNEL)?;
        for _ in 0..ExitKind::COUNT {
            let exit = Exits {
                count: AtomicU64::new(0),
                handled: AtomicU64::new(0),
                cycles: AtomicU64::new(0),
            };
            exits.push(exit, GFP_KERNEL)?;
        }
        Ok(Self {
            exits,
            refusals: core::array::from_fn(|_| AtomicU64::new(0)),
            stalls: AtomicU64::new(0),
        })
    }

    /// Counts a switch. Only the thread with the claim to the VP does, so nothing is lost.
    pub(crate) fn count(&self, reason: EntryReason, kind: ExitKind, cycles: u64) {
        if let Some(exits) = self.exits.get(usize::from(kind.number())) {
            add(&exits.count, 1);
            add(&exits.cycles, cycles);
        }
        if let Some(kind) = reason.handled() {
            if let Some(exits) = self.exits.get(usize::from(kind.number())) {
                add(&exits.handled, 1);
            }
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

/// Adds without a locked operation, where there is but one writer.
fn add(counter: &AtomicU64, increment: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(increment), Relaxed);
}
