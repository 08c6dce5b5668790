// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Keys for the guest: the terminal in raw mode, and the keys that are for this command.

use std::io::{IsTerminal as _, Read as _, Stdin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use vtlvmm::machine::Remote;

/// The terminal, which is as it was before when this is dropped.
pub(super) struct Terminal {
    before: Option<Termios>,
    guest: Arc<Mutex<Option<Remote>>>,
}

impl Terminal {
    /// Raw mode, where there is a terminal, and a thread that reads keys from standard input.
    pub(super) fn start() -> Self {
        let guest = Arc::new(Mutex::new(None));
        let terminal = Self {
            before: make_raw(),
            guest: Arc::clone(&guest),
        };
        let mut keys = Keys::new(terminal.before.is_some());
        // Not joined: it waits for keys, and ends with the process.
        std::thread::spawn(move || {
            let mut bytes = [0; 256];
            loop {
                match std::io::stdin().read(&mut bytes) {
                    Ok(0) | Err(_) => return,
                    Ok(len) => give(&guest, keys.take(&bytes[..len])),
                }
            }
        });
        terminal
    }

    /// Keys go to this guest from now on.
    pub(super) fn attach(&self, guest: Remote) {
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // If the terminal has gone away, there is nothing to restore.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Returns the previous mode; `None` if there is no terminal.
fn make_raw() -> Option<Termios> {
    let stdin: Stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    let before = tcgetattr(&stdin).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    // The guest's lines end as they do, and this command's own with a line feed.
    raw.output_modes = before.output_modes;
    tcsetattr(&stdin, OptionalActions::Drain, &raw).ok()?;
    Some(before)
}

/// What the keys mean.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    for_guest: Vec<u8>,
    is_stop: bool,
}

/// Finds the keys for this command.
struct Keys {
    has_escape: bool,
    is_escaped: bool,
}

const ESCAPE: u8 = 0x01;

impl Keys {
    const fn new(has_escape: bool) -> Self {
        Self {
            has_escape,
            is_escaped: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for byte in bytes.iter().copied() {
            match (std::mem::take(&mut self.is_escaped), byte) {
                (true, b'x' | b'X') => typed.is_stop = true,
                (true, ESCAPE) => typed.for_guest.push(ESCAPE),
                (true, other) => typed.for_guest.extend([ESCAPE, other]),
                (false, ESCAPE) if self.has_escape => self.is_escaped = true,
                (false, other) => typed.for_guest.push(other),
            }
        }
        typed
    }
}

/// Passes typed keys to the guest, as fast as it accepts them.
fn give(guest: &Mutex<Option<Remote>>, typed: Typed) {
    const PAUSE: Duration = Duration::from_millis(5);
    let mut rest = &typed.for_guest[..];
    loop {
        let guest = guest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(guest) = guest else { return };
        if typed.is_stop {
            guest.stop("stopped by Ctrl-A X".to_owned());
            return;
        }
        let taken = guest.type_in(rest);
        rest = &rest[taken..];
        if rest.is_empty() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(for_guest: &[u8], is_stop: bool) -> Typed {
        Typed {
            for_guest: for_guest.to_vec(),
            is_stop,
        }
    }

    #[test]
    fn the_escape_works_across_reads_and_can_be_typed() {
        let mut keys = Keys::new(true);
        assert_eq!(keys.take(b"a\x01"), typed(b"a", false));
        assert_eq!(keys.take(b"x"), typed(b"", true));
        assert_eq!(keys.take(b"\x01\x01b"), typed(b"\x01b", false));
        assert_eq!(keys.take(b"\x01cx"), typed(b"\x01cx", false));
    }

    #[test]
    fn without_a_terminal_every_byte_is_the_guests() {
        let mut keys = Keys::new(false);
        assert_eq!(keys.take(b"\x01x"), typed(b"\x01x", false));
    }
}
