// SPDX-License-Identifier: GPL-2.0-only
//! Requested interrupts: a bit in `proxy_irr`, then `scan_proxy_irr`, then a kick by the requester
//! that found that flag clear. The thread clears the flag, then takes the bits. The names are those
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
}

struct Page {
    reversed: Reversed,
    bits: AtomicU32,
    scan: AtomicU32,
    /// A kick is on its way to the thread.
    kicked: AtomicU32,
}

impl Page {
    fn post(&self, bit: u32) {
        let set_bit = || self.bits.fetch_or(bit, SeqCst);
        if self.reversed != Reversed::Asking {
            set_bit();
        }
        let is_first = self.scan.fetch_or(1, SeqCst) == 0;
        if self.reversed == Reversed::Asking {
            set_bit();
        }
        if is_first {
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
        let page = Arc::new(Page {
            reversed,
            bits: AtomicU32::new(0),
            scan: AtomicU32::new(0),
            kicked: AtomicU32::new(0),
        });
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
