// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a boot costs: from reset, and from a kernel's entry, to the first process.
//!
//! QEMU counts instructions by their address only. Whose they are follows from the markers of the
//! emulator: what was added to the counts between two of them is of the one who ran there.

use serde::Serialize;

use crate::marker::Runner;

/// Instructions since reset, or in a part of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those in the upper half of the linear addresses: of Linux.
    pub upper: u64,
    /// All others.
    pub lower: u64,
}

/// What was executed from reset to the first instruction of the first process that is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResetToInit {
    /// All instructions: of the emulator, of L1's decompressor, of its kernel.
    pub instructions: u64,
    /// Those of the kernel.
    pub kernel: u64,
}

/// What was executed from the first instruction of the VM whose process that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EntryToInit {
    /// Instructions of the emulator.
    pub emulator: u64,
    /// Those of L1's kernel.
    pub l1_kernel: u64,
    /// All others of L1: its userspace, and its decompressor.
    pub l1_rest: u64,
    /// Those of L2s.
    pub l2: u64,
}

/// What each has executed.
#[derive(Clone, Copy, Debug, Default)]
struct Shares([Counts; RUNNERS]);

const RUNNERS: usize = 3;

/// The counts of a boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boot {
    runner: Runner,
    /// The counts when `runner` began.
    since: Counts,
    shares: Shares,
    /// The shares when each began for the first time.
    entered: [Option<Shares>; RUNNERS],
    /// Whose process has begun, and the shares at that time.
    init: Option<(Runner, Shares)>,
}

impl Boot {
    /// A machine before reset.
    pub const fn new() -> Self {
        const NONE: Counts = Counts { upper: 0, lower: 0 };
        Self {
            runner: Runner::Emulator,
            since: NONE,
            shares: Shares([NONE; RUNNERS]),
            entered: [None; RUNNERS],
            init: None,
        }
    }

    /// From now on, with these counts, `runner` executes.
    pub fn runs(&mut self, runner: Runner, now: Counts) {
        self.settle(now);
        self.entered[runner as usize].get_or_insert(self.shares);
        self.runner = runner;
    }

    /// The first process of the one who runs begins. Only the first one counts.
    pub fn has_init(&mut self, now: Counts) {
        self.settle(now);
        self.init.get_or_insert((self.runner, self.shares));
    }

    fn settle(&mut self, now: Counts) {
        let share = &mut self.shares.0[self.runner as usize];
        share.upper += now.upper - self.since.upper;
        share.lower += now.lower - self.since.lower;
        self.since = now;
    }

    /// `None` if there was no marked process.
    pub fn reset_to_init(&self) -> Option<ResetToInit> {
        let (_, Shares(shares)) = self.init?;
        let kernel = shares.iter().map(|it| it.upper).sum();
        let rest: u64 = shares.iter().map(|it| it.lower).sum();
        Some(ResetToInit {
            instructions: kernel + rest,
            kernel,
        })
    }

    /// `None` if there was no marked process.
    pub fn entry_to_init(&self) -> Option<EntryToInit> {
        let (runner, end) = self.init?;
        let begin = self.entered[runner as usize]?;
        let since = |runner: Runner| {
            let (begin, end) = (begin.0[runner as usize], end.0[runner as usize]);
            (end.upper - begin.upper, end.lower - begin.lower)
        };
        let (emulator, l1, l2) = (
            since(Runner::Emulator),
            since(Runner::L1),
            since(Runner::L2),
        );
        Some(EntryToInit {
            emulator: emulator.0 + emulator.1,
            l1_kernel: l1.0,
            l1_rest: l1.1,
            l2: l2.0 + l2.1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counts(upper: u64, lower: u64) -> Counts {
        Counts { upper, lower }
    }

    #[test]
    fn only_the_first_process_is_reported() {
        let mut boot = Boot::new();
        assert_eq!((boot.reset_to_init(), boot.entry_to_init()), (None, None));
        boot.runs(Runner::L1, counts(0, 7));
        boot.has_init(counts(5, 8));
        boot.has_init(counts(50, 80));
        let expected = ResetToInit {
            instructions: 13,
            kernel: 5,
        };
        assert_eq!(boot.reset_to_init(), Some(expected));
        let expected = EntryToInit {
            emulator: 0,
            l1_kernel: 5,
            l1_rest: 1,
            l2: 0,
        };
        assert_eq!(boot.entry_to_init(), Some(expected));
    }

    #[test]
    fn each_pays_for_what_it_executes_and_only_since_the_entry() {
        let mut boot = Boot::new();
        // The emulator 100, L1 20 and 3, the emulator 10, as before the entry of the L2.
        boot.runs(Runner::L1, counts(0, 100));
        boot.runs(Runner::Emulator, counts(20, 103));
        boot.runs(Runner::L2, counts(20, 113));
        // The L2 400 and 5, the emulator 11, L1 30 and 7, the emulator 12, the L2 1 and 1.
        boot.runs(Runner::Emulator, counts(420, 118));
        boot.runs(Runner::L1, counts(420, 129));
        boot.runs(Runner::Emulator, counts(450, 136));
        boot.runs(Runner::L2, counts(450, 148));
        boot.has_init(counts(451, 149));
        let expected = EntryToInit {
            emulator: 23,
            l1_kernel: 30,
            l1_rest: 7,
            l2: 407,
        };
        assert_eq!(boot.entry_to_init(), Some(expected));
        assert_eq!(boot.reset_to_init().map(|it| it.instructions), Some(600));
    }
}
