// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! For how long a processor that was started anew is left alone.

use crate::monitor::view::Registers;

/// Whether a processor that was started anew is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starting {
    /// It is checked.
    No,
    /// For so many rounds, unless it reaches userspace.
    For(u32),
    /// It is checked, and is not left alone again before so many rounds.
    Was(u32),
}

/// Rounds that a processor has to start.
pub(super) const MOST_STARTING: u32 = 10;

impl Starting {
    /// The processor starts. One that does so again and again has no more time because of that.
    pub(super) fn begin(&mut self) {
        if *self == Self::No {
            *self = Self::For(MOST_STARTING);
        }
    }

    /// Returns true if it is not checked in this round, in which it has `registers`.
    pub(super) fn is_left_alone(&mut self, registers: &Registers) -> bool {
        *self = match *self {
            Self::No | Self::Was(0) => Self::No,
            // It has started, and is checked from now on.
            Self::For(0) => Self::Was(MOST_STARTING),
            Self::For(_) if registers.cpl == 3 => Self::Was(MOST_STARTING),
            Self::For(rounds) => Self::For(rounds - 1),
            Self::Was(rounds) => Self::Was(rounds - 1),
        };
        matches!(self, Self::For(_))
    }
}
