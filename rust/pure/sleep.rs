// SPDX-License-Identifier: GPL-2.0
//! How long the thread of a halted VP sleeps: until a TSC deadline, but never without a limit.

/// Nothing wakes a thread when its CPU affinity changes while it sleeps, so it has to wake up and
/// check.
const LONGEST_NS: u64 = 1_000_000_000;
const LONGEST_SLACK_NS: u64 = LONGEST_NS / 4;

/// Duration of a sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sleep {
    /// Time to sleep.
    pub ns: u64,
    /// How much longer the sleep may take, so that several wake-ups share an interrupt.
    pub slack_ns: u64,
}

impl Sleep {
    /// A sleep of at most this many TSC ticks; `None` for no deadline. Rounded up: a thread that
    /// woke up too early would have to sleep again.
    pub const fn new(most_ticks: Option<u64>, tsc_khz: u32) -> Self {
        const NS_PER_MS: u64 = 1_000_000;
        let khz = tsc_khz as u64;
        match most_ticks {
            Some(ticks) if khz != 0 && ticks / khz < LONGEST_NS / NS_PER_MS => Self {
                ns: ticks * NS_PER_MS / khz + 1,
                slack_ns: 0,
            },
            _ => Self {
                ns: LONGEST_NS,
                slack_ns: LONGEST_SLACK_NS,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Sleep = Sleep {
        ns: 1_000_000_000,
        slack_ns: 250_000_000,
    };

    #[test]
    fn a_time_is_met_to_the_nanosecond_and_never_too_early() {
        for khz in [1, 999_999, 1_000_000, 2_100_000, 3_000_001, u32::MAX] {
            for ticks in [0, 1, 2, 999, u64::from(khz) - 1, u64::from(khz)] {
                let Sleep { ns, slack_ns } = Sleep::new(Some(ticks), khz);
                let after = u128::from(ns) * u128::from(khz);
                let wanted = u128::from(ticks) * 1_000_000;
                assert!(after > wanted, "{ticks} at {khz} kHz");
                assert!(after - wanted <= u128::from(khz), "{ticks} at {khz} kHz");
                assert_eq!(slack_ns, 0);
            }
        }
    }

    #[test]
    fn nobody_sleeps_much_longer_than_a_second() {
        let khz = 2_000_000;
        assert_eq!(Sleep::new(None, khz), LONGEST);
        let second = u64::from(khz) * 1000;
        assert_eq!(Sleep::new(Some(second), khz), LONGEST);
        assert_eq!(Sleep::new(Some(u64::MAX), khz), LONGEST);
        let almost = Sleep::new(Some(second - 1), khz);
        assert_eq!((almost.ns, almost.slack_ns), (1_000_000_000, 0));
    }

    #[test]
    fn no_frequency_overflows() {
        for khz in [0, 1, u32::MAX] {
            for ticks in [0, 1, u64::MAX / 1_000_000, u64::MAX] {
                let sleep = Sleep::new(Some(ticks), khz);
                assert!(sleep.ns <= 1_000_000_000);
            }
        }
        assert_eq!(Sleep::new(Some(0), 0), LONGEST);
    }
}
