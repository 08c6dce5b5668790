// SPDX-License-Identifier: GPL-2.0
//! Detects a lower VTL that makes no progress because the host keeps routing exits to VTL2: the
//! kernel answers each by entering again, so userspace would never learn of it.

/// Number of consecutive exits at the same instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    rip: u64,
    count: u32,
}

impl Stall {
    /// None yet.
    pub const NONE: Self = Self { rip: 0, count: 0 };

    /// After this many exits userspace is told. Each host interrupt routes one exit to VTL2; at a
    /// usual tick rate a lower VTL that spins on one instruction needs at least a second for this
    /// many.
    pub const LIMIT: u32 = 1024;

    /// Counts an exit at `rip`. Returns true if userspace has to see it; counting then starts
    /// again.
    pub const fn note(&mut self, rip: u64) -> bool {
        if self.rip != rip {
            *self = Self { rip, count: 0 };
        }
        self.count += 1;
        let note_stall = self.count >= Self::LIMIT;
        if note_stall {
            self.count = 0;
        }
        note_stall
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_stall),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn exits_at_one_instruction_are_bounded() {
        for rip in [0, 0x1000, u64::MAX] {
            let mut stall = Stall::NONE;
            for _ in 0..2 {
                for _ in 1..Stall::LIMIT {
                    assert!(!stall.note(rip));
                }
                assert!(stall.note(rip));
            }
        }
    }

    #[test]
    fn a_lower_vtl_that_goes_on_is_never_stopped() {
        let mut stall = Stall::NONE;
        for turn in 0..3 * u64::from(Stall::LIMIT) {
            assert!(!stall.note(turn % 2));
        }
        for _ in 1..Stall::LIMIT {
            assert!(!stall.note(7));
        }
        assert!(!stall.note(8));
        assert!(!stall.note(7));
    }
}
