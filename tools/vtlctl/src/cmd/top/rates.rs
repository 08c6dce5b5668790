// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rates, from what the counters gained in an interval.

use std::cmp::Reverse;
use std::time::Duration;

use vtl::Info;
use vtl::audit::ExitKind;

use crate::cmd::stats::Vps;

/// How exits are ordered; both ways the largest comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By their number.
    #[default]
    Count,
    /// By the time in lower VTLs that they ended.
    Time,
}

/// What happened in an interval.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Each virtual processor, by its CPU.
    pub(super) vps: Vec<VpRate>,
    /// Each kind of exit, of all virtual processors together.
    pub(super) exits: Vec<ExitRate>,
}

/// One virtual processor in an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct VpRate {
    pub(super) cpu: u32,
    pub(super) per_second: f64,
    /// Share of the interval that it was in a lower VTL, in percent; `None` when the frequency of
    /// the TSC is not known.
    pub(super) in_lower: Option<f64>,
    /// Share of its exits after which the kernel entered again by itself, in percent.
    pub(super) in_kernel: f64,
    /// VTL calls and returns that the kernel carried out.
    pub(super) switches_per_second: f64,
}

/// One kind of exit in an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExitRate {
    pub(super) kind: ExitKind,
    count: u64,
    handled: u64,
    cycles: u64,
    seconds: f64,
    /// Ticks of the TSC in a microsecond; `None` when that is not known.
    ticks_per_us: Option<f64>,
}

impl Rates {
    pub(super) fn new(added: &Vps, info: &Info, interval: Duration) -> Self {
        // An interval of no length had no exits worth a rate.
        let seconds = interval.as_secs_f64().max(1e-6);
        // CAST: 53 bits of precision are enough for a rate.
        let ticks_per_us = (info.tsc_khz != 0).then(|| info.tsc_khz as f64 / 1e3);
        let mut rates = Self::default();
        for (cpu, stats) in added {
            let (mut count, mut handled, mut cycles) = (0u64, 0u64, 0u64);
            for exit in &stats.exits {
                count = count.saturating_add(exit.count);
                handled = handled.saturating_add(exit.handled);
                cycles = cycles.saturating_add(exit.cycles);
                let rate = rates.of(exit.kind, seconds, ticks_per_us);
                rate.count = rate.count.saturating_add(exit.count);
                rate.handled = rate.handled.saturating_add(exit.handled);
                rate.cycles = rate.cycles.saturating_add(exit.cycles);
            }
            let vtl = stats.vtl;
            rates.vps.push(VpRate {
                cpu: *cpu,
                per_second: count as f64 / seconds,
                in_lower: ticks_per_us
                    .map(|ticks| percent(cycles as f64 / (ticks * 1e6), seconds).min(100.0)),
                in_kernel: percent(handled as f64, count as f64),
                switches_per_second: (vtl.calls as f64
                    + vtl.returns as f64
                    + vtl.fast_returns as f64)
                    / seconds,
            });
        }
        rates
    }

    fn of(&mut self, kind: ExitKind, seconds: f64, ticks_per_us: Option<f64>) -> &mut ExitRate {
        let found = self.exits.iter().position(|exit| exit.kind == kind);
        let at = found.unwrap_or(self.exits.len());
        if found.is_none() {
            self.exits.push(ExitRate {
                kind,
                count: 0,
                handled: 0,
                cycles: 0,
                seconds,
                ticks_per_us,
            });
        }
        &mut self.exits[at]
    }

    /// The kinds of exit in this order.
    pub(super) fn sorted(&self, order: Order) -> Vec<ExitRate> {
        let mut exits = self.exits.clone();
        exits.sort_by_key(|exit| {
            let amount = match order {
                Order::Count => exit.count,
                Order::Time => exit.cycles,
            };
            (Reverse(amount), exit.kind.0)
        });
        exits
    }
}

impl ExitRate {
    pub(super) fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// Share after which the kernel entered again by itself, in percent.
    pub(super) fn in_kernel(&self) -> f64 {
        percent(self.handled as f64, self.count as f64)
    }

    /// Mean time in the lower VTL before it, in microseconds, if the TSC's frequency is known.
    pub(super) fn mean_us(&self) -> Option<f64> {
        let ticks = self.cycles as f64 / self.count.max(1) as f64;
        self.ticks_per_us.map(|per_us| ticks / per_us)
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        100.0 * part / whole
    } else {
        0.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cmd::stats::tests::{info, vps};

    pub(in crate::cmd::top) fn rates() -> Rates {
        let mut added = vps();
        let mut other = added[0].clone();
        other.0 = 3;
        other.1.exits[0].handled = 4;
        let mut hlt = other.1.exits[0];
        (hlt.kind, hlt.count, hlt.cycles) = (ExitKind(12), 1, 1_000_000_000);
        other.1.exits.push(hlt);
        added.push(other);
        Rates::new(&added, &info(1_000_000), Duration::from_secs(2))
    }

    #[test]
    fn kinds_are_summed_over_virtual_processors() {
        let rates = rates();
        let [first, second] = rates.sorted(Order::Count)[..] else {
            panic!("{rates:?}");
        };
        assert_eq!((first.kind, second.kind), (ExitKind(10), ExitKind(12)));
        assert!((first.per_second() - 4.0).abs() < 1e-9);
        assert!((first.in_kernel() - 62.5).abs() < 1e-9);
        assert_eq!(first.mean_us(), Some(2.0));
        assert_eq!(rates.sorted(Order::Time)[0].kind, ExitKind(12));
    }

    #[test]
    fn time_in_lower_vtls_is_a_share_of_the_interval() {
        let rates = rates();
        let share = rates.vps[1].in_lower.unwrap_or_default();
        assert!((share - 50.0).abs() < 0.01, "{share}");
        assert!((rates.vps[0].switches_per_second - 6.0).abs() < 1e-9);
        let unknown = Rates::new(&vps(), &info(0), Duration::from_secs(1));
        assert_eq!(unknown.vps[0].in_lower, None);
        assert_eq!(unknown.exits[0].mean_us(), None);
    }

    #[test]
    fn nothing_in_no_time_is_no_number_that_cannot_be_shown() {
        let rates = Rates::new(
            &vec![(0, vps()[0].1.since(&vps()[0].1))],
            &info(1),
            Duration::ZERO,
        );
        assert!(rates.exits.is_empty());
        assert!(rates.vps[0].per_second.abs() < 1e-9);
        assert!(rates.vps[0].in_kernel.abs() < 1e-9);
    }
}
