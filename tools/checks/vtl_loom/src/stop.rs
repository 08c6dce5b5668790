// SPDX-License-Identifier: GPL-2.0-only
//! A CPU comes online during shutdown: `Machine::bring_up` and `Machine::stop` of
//! `rust/vp/machine.rs`. Whatever the order, in the end the TDX module has no page of the VP
//! registered.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, fence};
use loom::thread;

use crate::tests::check;

/// A barrier that a test leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    BarrierOfBringUp,
    BarrierOfStop,
}

struct Machine {
    is_stopped: AtomicBool,
    /// The VP is ready, and its page is registered: one flag, because the CPU changes both at once.
    is_ready: AtomicBool,
}

impl Machine {
    fn bring_up(&self, without: Without) {
        self.is_ready.store(true, Release);
        if without != Without::BarrierOfBringUp {
            fence(SeqCst);
        }
        if self.is_stopped.load(Relaxed) {
            self.take_down();
        }
    }

    fn stop(&self, without: Without) {
        self.is_stopped.store(true, Relaxed);
        if without != Without::BarrierOfStop {
            fence(SeqCst);
        }
        // The interrupt finds the VP on its CPU, or it is not there yet.
        if self.is_ready.load(Acquire) {
            self.take_down();
        }
    }

    fn take_down(&self) {
        self.is_ready.store(false, Release);
    }
}

fn comes_online_while_the_kernel_ends(without: Without) {
    check(None, move || {
        let machine = Arc::new(Machine {
            is_stopped: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
        });
        let other = machine.clone();
        let cpu = thread::spawn(move || other.bring_up(without));
        machine.stop(without);
        cpu.join().unwrap();
        assert!(!machine.is_ready.load(Relaxed), "a page was left behind");
    });
}

#[test]
fn no_page_is_left_behind() {
    comes_online_while_the_kernel_ends(Without::Nothing);
}

#[test]
#[should_panic(expected = "a page was left behind")]
fn the_cpu_has_to_look_after_it_is_ready() {
    comes_online_while_the_kernel_ends(Without::BarrierOfBringUp);
}

#[test]
#[should_panic(expected = "a page was left behind")]
fn stop_has_to_say_so_before_it_looks() {
    comes_online_while_the_kernel_ends(Without::BarrierOfStop);
}
