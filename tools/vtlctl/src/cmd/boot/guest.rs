// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The guest that runs at the moment, for the threads that read keys and watch the time. A reset
//! replaces it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vtlvmm::machine::Remote;

/// A guest, from outside.
pub(super) trait Guest {
    /// Gives it what was typed; how much of it there was room for.
    fn type_in(&self, bytes: &[u8]) -> usize;
    /// Ends it.
    fn stop(&self, why: String);
}

impl Guest for Remote {
    fn type_in(&self, bytes: &[u8]) -> usize {
        self.type_in(bytes)
    }

    fn stop(&self, why: String) {
        self.stop(why);
    }
}

/// The current guest, what it has not taken yet, and whether it has to end.
pub(super) struct Current<G>(Mutex<State<G>>);

struct State<G> {
    guest: Option<G>,
    stop: Option<String>,
    backlog: VecDeque<u8>,
}

impl<G: Guest> Current<G> {
    /// Keys that wait for a guest which takes none; further ones are lost.
    const MOST_KEYS: usize = 4096;

    /// No guest yet.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            guest: None,
            stop: None,
            backlog: VecDeque::new(),
        }))
    }

    /// Puts a guest in the place of the last one. If that was to end, this one is, too.
    pub(super) fn attach(&self, guest: G) {
        let mut state = self.state();
        if let Some(why) = &state.stop {
            guest.stop(why.clone());
        }
        state.guest = Some(guest);
    }

    /// Ends it, for good.
    pub(super) fn stop(&self, why: String) {
        let mut state = self.state();
        if let Some(guest) = &state.guest {
            guest.stop(why.clone());
        }
        state.stop.get_or_insert(why);
    }

    /// Takes keys for the guest.
    pub(super) fn type_in(&self, bytes: &[u8]) {
        let backlog = &mut self.state().backlog;
        let room = Self::MOST_KEYS.saturating_sub(backlog.len());
        backlog.extend(bytes.iter().take(room));
    }

    /// Passes on as many keys as the guest takes now. Returns true if some are left.
    pub(super) fn pass_keys(&self) -> bool {
        let mut state = self.state();
        let State { guest, backlog, .. } = &mut *state;
        if let Some(guest) = guest {
            let taken = guest.type_in(backlog.make_contiguous());
            backlog.drain(..taken.min(backlog.len()));
        }
        !backlog.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<G>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Takes as many keys as `room` says.
    #[derive(Default)]
    struct Fake {
        room: usize,
        typed: Mutex<Vec<u8>>,
        stopped: Mutex<Option<String>>,
    }

    impl Guest for Arc<Fake> {
        fn type_in(&self, bytes: &[u8]) -> usize {
            let taken = bytes.len().min(self.room);
            let mut typed = self.typed.lock().expect("no panic");
            typed.extend_from_slice(&bytes[..taken]);
            taken
        }

        fn stop(&self, why: String) {
            *self.stopped.lock().expect("no panic") = Some(why);
        }
    }

    fn with_room(room: usize) -> Arc<Fake> {
        Arc::new(Fake {
            room,
            ..Fake::default()
        })
    }

    #[test]
    fn a_guest_that_takes_no_keys_can_still_be_stopped() {
        let (current, guest) = (Current::new(), with_room(0));
        current.attach(Arc::clone(&guest));
        for _ in 0..1000 {
            current.type_in(&[b'x'; 100]);
            assert!(current.pass_keys(), "this returns, and keeps them");
        }
        assert_eq!(current.state().backlog.len(), 4096);
        current.stop("why".to_owned());
        assert_eq!(
            guest.stopped.lock().expect("no panic").as_deref(),
            Some("why")
        );
    }

    #[test]
    fn keys_arrive_in_their_order_as_the_guest_takes_them() {
        let (current, guest) = (Current::new(), with_room(3));
        current.type_in(b"ab");
        assert!(current.pass_keys(), "there is no guest yet");
        current.attach(Arc::clone(&guest));
        current.type_in(b"cde");
        assert!(current.pass_keys());
        assert!(!current.pass_keys());
        assert_eq!(*guest.typed.lock().expect("no panic"), b"abcde");
    }

    #[test]
    fn a_reset_keeps_nothing_of_the_last_machine_but_that_it_has_to_end() {
        let (current, first, second) = (Current::new(), with_room(0), with_room(0));
        current.attach(Arc::clone(&first));
        current.stop("too late".to_owned());
        current.attach(Arc::clone(&second));
        assert_eq!(Arc::strong_count(&first), 1);
        let stopped = second.stopped.lock().expect("no panic");
        assert_eq!(stopped.as_deref(), Some("too late"));
    }
}
