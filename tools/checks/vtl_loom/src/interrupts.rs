// SPDX-License-Identifier: GPL-2.0-only
//! Requested interrupts: a bit in `proxy_irr`, then `scan_proxy_irr`, then a kick. The thread clears the
//! flag, then takes the bits. The names are those
//! of `rust/vp/run_page/interrupts.rs`. `tests` proves that a kick arrives; here it is assumed.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

use crate::tests::check;

/// An order that a test turns round, to see that it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reversed {
    Nothing,
    Asking,
    Taking,
    /// Not an order: who finds the flag set leaves the kick to who has set it.
    KickOfTheFirstOnly,
}

struct Page {
    reversed: Reversed,
    bits: AtomicU32,
    scan: AtomicU32,
    /// A kick is on its way to the thread.
    kicked: AtomicU32,
}

impl Page {
    fn new(reversed: Reversed) -> Arc<Self> {
        Arc::new(Self {
            reversed,
            bits: AtomicU32::new(0),
            scan: AtomicU32::new(0),
            kicked: AtomicU32::new(0),
        })
    }

    fn post(&self, bit: u32) {
        let set_bit = || self.bits.fetch_or(bit, SeqCst);
        if self.reversed != Reversed::Asking {
            set_bit();
        }
        let is_first = self.scan.fetch_or(1, SeqCst) == 0;
        let kicks = is_first || self.reversed != Reversed::KickOfTheFirstOnly;
        if self.reversed == Reversed::Asking {
            set_bit();
        }
        if kicks {
            self.kicked.swap(1, SeqCst);
        }
    }

    fn take_proxied(&self) -> u32 {
        if self.scan.load(Relaxed) == 0 {
            return 0;
        }
        if self.reversed == Reversed::Taking {
            let taken = self.bits.swap(0, SeqCst);
            self.scan.swap(0, SeqCst);
            return taken;
        }
        self.scan.swap(0, SeqCst);
        self.bits.swap(0, SeqCst)
    }

    /// Reads the page, as after a kick.
    fn look(&self) -> u32 {
        self.kicked.swap(0, SeqCst);
        self.take_proxied()
    }
}

/// Two threads request while the VP's thread takes interrupts. When all have finished, every
/// interrupt that was not taken has a kick on its way, after which it will be.
fn two_ask(reversed: Reversed) {
    check(Some(2), move || {
        let page = Page::new(reversed);
        let askers = [1, 2].map(|bit| {
            let page = page.clone();
            thread::spawn(move || page.post(bit))
        });
        let taken = [page.look(), page.look()];
        for asker in askers {
            asker.join().unwrap();
        }
        assert_eq!(taken[0] & taken[1], 0, "an interrupt came twice");
        let left = 3 & !(taken[0] | taken[1]);
        let is_kicked = page.kicked.load(SeqCst) != 0;
        let found = page.look();
        assert!(
            left == 0 || (is_kicked && found == left),
            "an interrupt was lost"
        );
    });
}

/// Userspace sets a bit and the flag, and does not get to its kick; the kernel requests another interrupt.
fn userspace_is_slow(reversed: Reversed) {
    check(Some(2), move || {
        let page = Page::new(reversed);
        let slow = page.clone();
        let userspace = thread::spawn(move || {
            slow.bits.fetch_or(1, SeqCst);
            slow.scan.store(1, SeqCst);
        });
        let asking = page.clone();
        let kernel = thread::spawn(move || asking.post(2));
        let taken = page.look();
        userspace.join().unwrap();
        kernel.join().unwrap();
        let is_kicked = page.kicked.load(SeqCst) != 0;
        assert!(taken & 2 != 0 || is_kicked, "an interrupt was lost");
    });
}

#[test]
fn the_kernels_interrupt_does_not_wait_for_userspaces_kick() {
    userspace_is_slow(Reversed::Nothing);
}

#[test]
#[should_panic(expected = "an interrupt was lost")]
fn a_kick_must_not_be_left_to_who_has_set_the_flag() {
    userspace_is_slow(Reversed::KickOfTheFirstOnly);
}

#[test]
fn each_interrupt_is_taken_once() {
    two_ask(Reversed::Nothing);
}

#[test]
#[should_panic(expected = "an interrupt was lost")]
fn the_bit_has_to_be_set_before_the_flag() {
    two_ask(Reversed::Asking);
}

#[test]
#[should_panic(expected = "an interrupt was lost")]
fn the_flag_has_to_be_cleared_before_the_bits_are_taken() {
    two_ask(Reversed::Taking);
}
