// SPDX-License-Identifier: GPL-2.0
//! Decides what follows an exit. The run loop only carries it out.

use super::exit::{classify, Exit, RawExit};

/// What the run loop does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Store the exit and return 0.
    Userspace,
    /// Take interrupts and signals, then enter again.
    EnterAgain,
    /// Return EIO; the status stays readable in the run page.
    Fail,
}

/// The decision. An exit with an event to redeliver always goes to userspace: entering again would
/// lose the event.
pub const fn next(exit: &RawExit) -> Next {
    match classify(exit) {
        Exit::ForL1 => Next::Userspace,
        Exit::HostRouted | Exit::Interrupted => {
            if exit.has_event_to_redeliver() {
                Next::Userspace
            } else {
                Next::EnterAgain
            }
        }
        Exit::NotEntered => Next::EnterAgain,
        Exit::Refused => Next::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORING: u64 = 0x8000_0030;

    fn after(status: u64, r10: u64) -> Next {
        next(&RawExit {
            rax: (status << 32) | 1,
            r10,
            ..RawExit::default()
        })
    }

    #[test]
    fn exits_for_l1_go_to_userspace() {
        assert_eq!(after(0, 0), Next::Userspace);
        assert_eq!(after(0, VECTORING), Next::Userspace);
    }

    #[test]
    fn interrupts_and_host_routed_exits_stay_in_the_kernel() {
        for status in [0x1100, 0x1101, 0x1102] {
            assert_eq!(after(status, 0), Next::EnterAgain);
        }
    }

    #[test]
    fn an_event_cut_off_by_the_exit_is_never_swallowed() {
        for status in [0x1100, 0x1101, 0x1102] {
            assert_eq!(after(status, VECTORING), Next::Userspace);
        }
    }

    #[test]
    fn registers_say_nothing_when_the_l2_did_not_run() {
        assert_eq!(after(0x1120, VECTORING), Next::EnterAgain);
        assert_eq!(after(0xc000_0100, VECTORING), Next::Fail);
    }
}
