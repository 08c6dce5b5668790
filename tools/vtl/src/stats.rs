// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counters of a virtual processor, converted from the kernel's structure.

use crate::abi::operands::{self, Head};
use crate::audit::ExitKind;
use crate::sys::Grows;

impl Grows for operands::RawStats {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// Names of the counted refusals, in the order of the kernel's counters.
pub const REFUSALS: [&str; 8] = [
    "EINTR",
    "EBUSY",
    "EINVAL",
    "EOPNOTSUPP",
    "EIO",
    "OTHER",
    "TDCALL",
    "HVCALL",
];

/// Exits of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStats {
    /// The kind.
    pub kind: ExitKind,
    /// Number of exits.
    pub count: u64,
    /// Number of those after which the kernel entered again by itself.
    pub handled: u64,
    /// TSC ticks from entry to exit.
    pub cycles: u64,
}

/// Exit storms: [`Storms::EXITS`] exits in quick succession that the host can cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storms {
    /// Number of storms.
    pub count: u64,
    /// TSC ticks that all of them took together.
    pub ticks: u64,
    /// TSC ticks of the shortest storm; 0 if there was none.
    pub shortest_ticks: u64,
}

impl Storms {
    /// Number of exits in a storm.
    pub const EXITS: u64 = 1024;

    /// Mean TSC ticks from one exit to the next; `None` if there was no storm.
    #[must_use]
    pub const fn spacing_ticks(&self) -> Option<u64> {
        self.ticks
            .checked_div(self.count.saturating_mul(Self::EXITS - 1))
    }
}

/// Switches between VTL0 and VTL1 that the kernel carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VtlSwitches {
    /// VTL calls.
    pub calls: u64,
    /// VTL returns, but for fast ones.
    pub returns: u64,
    /// Fast VTL returns.
    pub fast_returns: u64,
    /// Calls and returns that were left to userspace.
    pub left: u64,
    /// Entries that the switch page had invalidate translations.
    pub flushes: u64,
    /// Times that interrupts for VTL0 were taken while VTL1 ran.
    pub proxied: u64,
}

impl VtlSwitches {
    /// Each counter with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("call", self.calls),
            ("return", self.returns),
            ("fast return", self.fast_returns),
            ("left to userspace", self.left),
            ("flush", self.flushes),
            ("proxied", self.proxied),
        ]
    }
}

/// Counters of one virtual processor since the module was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Refusals, in the order of [`REFUSALS`].
    pub refused: [u64; REFUSALS.len()],
    /// Exits that were passed to userspace because the lower VTL made no progress.
    pub stalls: u64,
    /// Exits by kind; kinds that never occurred are left out.
    pub exits: Vec<ExitStats>,
    /// Signs of a host that single-steps a lower VTL.
    pub storms: Storms,
    /// Switches between VTLs.
    pub vtl: VtlSwitches,
}

impl ExitStats {
    const fn since(self, before: &Self) -> Self {
        Self {
            kind: self.kind,
            count: self.count.saturating_sub(before.count),
            handled: self.handled.saturating_sub(before.handled),
            cycles: self.cycles.saturating_sub(before.cycles),
        }
    }
}

impl Storms {
    /// The shortest storm is that of all time: it can't be told when it was.
    const fn since(self, before: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            ticks: self.ticks.saturating_sub(before.ticks),
            shortest_ticks: self.shortest_ticks,
        }
    }
}

impl VtlSwitches {
    const fn since(self, before: &Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(before.calls),
            returns: self.returns.saturating_sub(before.returns),
            fast_returns: self.fast_returns.saturating_sub(before.fast_returns),
            left: self.left.saturating_sub(before.left),
            flushes: self.flushes.saturating_sub(before.flushes),
            proxied: self.proxied.saturating_sub(before.proxied),
        }
    }
}

impl Stats {
    /// What was counted since `before`; exits that did not occur are left out. A module that was
    /// loaded anew counts from zero: what it has less than `before` is zero here.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut refused = self.refused;
        for (count, before) in refused.iter_mut().zip(before.refused) {
            *count = count.saturating_sub(before);
        }
        let new_exits = self.exits.iter().map(|exit| {
            let before = before.exits.iter().find(|other| other.kind == exit.kind);
            before.map_or(*exit, |before| exit.since(before))
        });
        Self {
            refused,
            stalls: self.stalls.saturating_sub(before.stalls),
            exits: new_exits.filter(|exit| exit.count != 0).collect(),
            storms: self.storms.since(&before.storms),
            vtl: self.vtl.since(&before.vtl),
        }
    }

    /// Fields that an older module does not know are zero.
    pub(crate) fn new(answer: &operands::RawStats) -> Self {
        let operands::RawStats {
            head: _,
            refused,
            exit_kinds,
            exits,
            refused_hvcalls,
            stalls,
            exit_storms,
            storm_ticks,
            shortest_storm_ticks,
            vtl_calls,
            vtl_returns,
            vtl_fast_returns,
            vtl_left,
            vtl_flushes,
            vtl_proxied,
        } = *answer;
        let exits = exits
            .into_iter()
            .zip(0u8..)
            .filter(|(exit, kind)| u64::from(*kind) < exit_kinds && exit.count != 0)
            .map(|(exit, kind)| ExitStats {
                kind: ExitKind(kind),
                count: exit.count,
                handled: exit.handled,
                cycles: exit.cycles,
            })
            .collect();
        let [eintr, ebusy, einval, eopnotsupp, eio, other, tdcall] = refused;
        Self {
            refused: [
                eintr,
                ebusy,
                einval,
                eopnotsupp,
                eio,
                other,
                tdcall,
                refused_hvcalls,
            ],
            stalls,
            exits,
            storms: Storms {
                count: exit_storms,
                ticks: storm_ticks,
                shortest_ticks: shortest_storm_ticks,
            },
            vtl: VtlSwitches {
                calls: vtl_calls,
                returns: vtl_returns,
                fast_returns: vtl_fast_returns,
                left: vtl_left,
                flushes: vtl_flushes,
                proxied: vtl_proxied,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

    fn stats(words: &[u64; 332]) -> Stats {
        let answer = operands::RawStats::read_from_bytes(words.as_bytes());
        Stats::new(&answer.unwrap_or_else(|_| operands::RawStats::new_zeroed()))
    }

    #[test]
    fn only_exits_that_came_are_listed() {
        let mut words = [0; 332];
        words[1..9].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 104]);
        words[321..332].copy_from_slice(&[8, 9, 2, 20_460, 9000, 21, 22, 23, 24, 25, 26]);
        let cpuid = 9 + 30;
        words[cpuid..cpuid + 3].copy_from_slice(&[5, 1, 900]);
        let stats = stats(&words);
        assert_eq!(stats.refused, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(stats.stalls, 9);
        let expected = ExitStats {
            kind: ExitKind(10),
            count: 5,
            handled: 1,
            cycles: 900,
        };
        assert_eq!(stats.exits, [expected]);
        let vtl = stats.vtl;
        assert_eq!((vtl.calls, vtl.returns, vtl.fast_returns), (21, 22, 23));
        assert_eq!((vtl.left, vtl.flushes, vtl.proxied), (24, 25, 26));
        let storms = stats.storms;
        assert_eq!((storms.count, storms.shortest_ticks), (2, 9000));
        assert_eq!(storms.spacing_ticks(), Some(10));
        assert_eq!(Storms::default().spacing_ticks(), None);
    }

    /// Every word of the answer counts something, but for the head, the number of kinds and the
    /// shortest storm: a counter that `since` forgets would keep its old value.
    #[test]
    fn what_was_counted_before_is_taken_off_every_counter() {
        let mut words = [7; 332];
        words[8] = 104;
        let before = stats(&words);
        let nothing = before.since(&before);
        assert_eq!(nothing.refused, [0; 8]);
        assert_eq!((nothing.stalls, nothing.exits.len()), (0, 0));
        assert_eq!((nothing.storms.count, nothing.storms.ticks), (0, 0));
        assert_eq!(nothing.vtl, VtlSwitches::default());
        words.fill(10);
        words[8] = 104;
        let later = stats(&words).since(&before);
        assert_eq!(later.refused, [3; 8]);
        assert_eq!(later.exits.len(), 104);
        assert!(
            later
                .exits
                .iter()
                .all(|exit| (exit.count, exit.handled, exit.cycles) == (3, 3, 3))
        );
        assert!(later.vtl.named().iter().all(|(_, count)| *count == 3));
        assert!(
            before.since(&later).vtl.calls == 4,
            "a module that was loaded anew"
        );
    }

    proptest! {
        #[test]
        fn no_answer_of_a_kernel_makes_it_panic(words: [u64; 8], at in 0usize..324) {
            let mut all = [0; 332];
            all[at..at + 8].copy_from_slice(&words);
            all[8] = words[0];
            let stats = stats(&all);
            prop_assert!(stats.exits.len() <= 104);
            let _ = stats.storms.spacing_ticks();
        }
    }
}
