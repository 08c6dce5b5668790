// SPDX-License-Identifier: GPL-2.0
//! A halted VP: its thread polls for a short while, then sleeps in the scheduler, so that other
//! tasks or L1's idle loop get the CPU. The scheduler may migrate it meanwhile.

use kernel::prelude::*;
use kernel::processor::cpu_relax;

use super::offload;
use crate::glue::ffi;
use crate::pure::field::VmIndex;
use crate::vp::claim::Claimed;
use crate::vp::Vp;

/// Waits until there is a reason to read the run page again, the deadline of `vm` has passed, or
/// [`Wake::sleep`](crate::vp::wake::Wake::sleep) makes the thread check where it is.
///
/// # Errors
///
/// EINTR if a signal is pending.
pub(super) fn wait(claimed: &mut Claimed<'_>, vm: VmIndex) -> Result {
    let halted = Halted {
        vp: claimed.vp(),
        vm,
    };
    let (halt_poll, deadlines) = claimed.halt();
    let begin_ns = ffi::clock_ns();
    let result = if halted.poll_window(begin_ns, halt_poll.window_ns()) {
        Ok(())
    } else {
        let most_ticks = deadlines.ticks_left(vm, ffi::tsc());
        halted.vp.wake.sleep(&halted, Halted::is_awake, most_ticks)
    };
    let waited_ns = ffi::clock_ns().wrapping_sub(begin_ns);
    *halt_poll = halt_poll.learn(waited_ns);
    result
}

/// A VM that is halted, on a VP.
struct Halted<'m> {
    vp: &'m Vp,
    vm: VmIndex,
}

impl Halted<'_> {
    /// Checked after each kick, and whenever the scheduler wakes the thread.
    fn is_awake(&self) -> bool {
        let vp = self.vp;
        vp.run_page.has_request()
            || !vp.run_page.read_halted()
            || offload::ends_halt(vp, self.vm)
            || !vp.is_ready()
    }

    /// Polls. Returns true if a reason came within the window; gives up if another task needs the CPU.
    fn poll_window(&self, begin_ns: u64, window_ns: u64) -> bool {
        while ffi::clock_ns().wrapping_sub(begin_ns) < window_ns {
            if self.is_awake() {
                return true;
            }
            if ffi::need_resched() {
                break;
            }
            cpu_relax();
        }
        self.is_awake()
    }
}
