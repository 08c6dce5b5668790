// SPDX-License-Identifier: GPL-2.0
//! How long a halted VP polls before it sleeps.
//!
//! Sleeping and waking up cost two context switches and, on an idle L1, a HLT that the host has to
//! serve. If wake-ups come quickly, a short poll saves that; if not, polling only burns CPU time.
//! So the window grows when polling has paid, or would have, and is closed otherwise.

/// Adaptive polling window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HaltPoll {
    window_ns: u64,
}

/// The window after none.
const FIRST_NS: u64 = 5_000;
/// Upper limit of the window.
const LONGEST_NS: u64 = 80_000;

impl HaltPoll {
    /// Starts with no window.
    pub const fn new() -> Self {
        Self { window_ns: 0 }
    }

    /// How long to poll now.
    pub const fn window_ns(self) -> u64 {
        self.window_ns
    }

    /// Returns the window to use after a halt that took `waited_ns` from its beginning to the
    /// wake-up.
    pub const fn learn(self, waited_ns: u64) -> Self {
        if waited_ns <= self.window_ns {
            return self;
        }
        if waited_ns > LONGEST_NS {
            return Self::new();
        }
        let doubled = self.window_ns * 2;
        let window_ns = if doubled < FIRST_NS {
            FIRST_NS
        } else if doubled > LONGEST_NS {
            LONGEST_NS
        } else {
            doubled
        };
        Self { window_ns }
    }
}

impl Default for HaltPoll {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_halt_poll),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn short_halts_grow_the_window_up_to_its_limit() {
        let mut poll = HaltPoll::new();
        let mut before = 0;
        for _ in 0..10 {
            poll = poll.learn(LONGEST_NS);
            assert!(poll.window_ns() >= before && poll.window_ns() <= LONGEST_NS);
            before = poll.window_ns();
        }
        assert_eq!(before, LONGEST_NS);
    }

    #[test]
    fn a_hit_leaves_it_and_a_long_halt_ends_it() {
        let poll = HaltPoll::new().learn(1);
        assert_eq!(poll.window_ns(), FIRST_NS);
        assert_eq!(poll.learn(FIRST_NS), poll);
        assert_eq!(poll.learn(LONGEST_NS + 1), HaltPoll::new());
        assert_eq!(poll.learn(u64::MAX), HaltPoll::new());
    }
}
