// SPDX-License-Identifier: GPL-2.0
//! Exit storms: the host interrupts a lower VTL again and again, as it would to single-step it.
//!
//! A storm is [`EXITS`] exits of a kind that the host can cause, each within some ticks of the one
//! before. No legitimate work of a host causes exits at that rate for so long. Storms are reported,
//! not prevented: the TDX module itself defends against single-stepping as far as that is possible.

use super::audit::ExitKind;

/// Number of exits in a storm.
pub const EXITS: u64 = 1024;

/// A series of exits that the host can cause, each soon after the previous one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Streak {
    /// Number of exits; 0 if none yet.
    pub exits: u64,
    /// TSC of the first.
    pub began_tsc: u64,
    /// TSC of the last.
    pub last_tsc: u64,
}

impl Streak {
    /// Adds an exit. Returns the new streak, and the duration in ticks of the storm that this exit
    /// completes.
    #[inline]
    pub const fn next(self, tsc: u64, spacing_ticks: u64) -> (Self, Option<u64>) {
        if self.exits == 0 || tsc.wrapping_sub(self.last_tsc) > spacing_ticks {
            return (Self::first(tsc), None);
        }
        let exits = self.exits + 1;
        if exits >= EXITS {
            // The next exit begins another streak.
            return (Self::NONE, Some(tsc.wrapping_sub(self.began_tsc)));
        }
        let on = Self {
            exits,
            last_tsc: tsc,
            ..self
        };
        (on, None)
    }

    const NONE: Self = Self {
        exits: 0,
        began_tsc: 0,
        last_tsc: 0,
    };

    const fn first(tsc: u64) -> Self {
        Self {
            exits: 1,
            began_tsc: tsc,
            last_tsc: tsc,
        }
    }
}

/// Returns true for the kinds that the host can cause at will: an interrupt for VTL2, an entry that
/// does not happen, and an exit routed to L1.
pub const fn is_of_host(kind: ExitKind) -> bool {
    matches!(
        kind,
        ExitKind::EXTERNAL_INTERRUPT
            | ExitKind::HOST_ROUTED
            | ExitKind::INTERRUPTED
            | ExitKind::NOT_ENTERED
    )
}

/// Spacing in TSC ticks. 0 disables detection, because no two exits are that close.
pub const fn spacing_ticks(spacing_us: u32, tsc_khz: u32) -> u64 {
    spacing_us as u64 * tsc_khz as u64 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds exits at these times; returns the duration of each storm.
    fn storms(times: impl Iterator<Item = u64>, spacing: u64) -> Vec<u64> {
        let mut streak = Streak::default();
        let mut found = Vec::new();
        for tsc in times {
            let (next, storm) = streak.next(tsc, spacing);
            streak = next;
            found.extend(storm);
        }
        found
    }

    #[test]
    fn a_thousand_close_exits_are_a_storm() {
        let times = |count: u64, step: u64| (0..count).map(move |at| 5 + at * step);
        assert_eq!(storms(times(1023, 10), 10), []);
        assert_eq!(storms(times(1024, 10), 10), [10_230]);
        assert_eq!(storms(times(2047, 10), 10), [10_230]);
        assert_eq!(storms(times(2048, 7), 10), [7161, 7161]);
    }

    #[test]
    fn one_pause_ends_a_streak() {
        let times = (0..5000_u64).map(|at| at * 10 + at / 1000 * 100);
        assert_eq!(storms(times, 10), []);
        assert_eq!(storms((0..5000).map(|at| at * 11), 10), []);
        assert_eq!(storms(0..5000, 0), []);
    }

    #[test]
    fn a_counter_that_wraps_or_goes_back_makes_no_storm_longer() {
        let times = (0..1024_u64).map(|at| (u64::MAX - 500).wrapping_add(at));
        assert_eq!(storms(times, 1), [1023]);
        // Each exit is one tick earlier than the previous one, which counts as far away.
        assert_eq!(storms((0..5000).rev(), 10), []);
    }

    #[test]
    fn what_the_guest_does_is_no_storm() {
        let kinds = |reason: u64| {
            let exit = crate::pure::exit::RawExit {
                rax: reason,
                ..Default::default()
            };
            ExitKind::new(crate::pure::exit::Exit::ForL1, &exit)
        };
        for reason in 0..120 {
            assert_eq!(is_of_host(kinds(reason)), reason == 1, "{reason}");
        }
        assert!(is_of_host(ExitKind::HOST_ROUTED));
        assert!(is_of_host(ExitKind::INTERRUPTED));
        assert!(is_of_host(ExitKind::NOT_ENTERED));
        assert!(!is_of_host(ExitKind::REFUSED));
    }

    #[test]
    fn spacing_is_time_by_the_processors_own_clock() {
        assert_eq!(spacing_ticks(20, 2_000_000), 40_000);
        assert_eq!(spacing_ticks(0, 2_000_000), 0);
        assert_eq!(spacing_ticks(u32::MAX, u32::MAX), 18_446_744_065_119_617);
    }
}
