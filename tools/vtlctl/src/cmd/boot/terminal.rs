// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Keys for the guest: the terminal in raw mode, and the keys that are for this command.

use std::io::{IsTerminal as _, Stdin};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use vtlvmm::machine::Remote;

use super::guest::Current;

/// The terminal, which is as it was before when this is dropped.
pub(super) struct Terminal {
    before: Option<Termios>,
}

impl Terminal {
    /// Raw mode, where there is a terminal, and a thread that reads keys from standard input for the
    /// current guest.
    pub(super) fn start(guest: Arc<Current<Remote>>) -> Self {
        let terminal = Self { before: make_raw() };
        if let Some(before) = terminal.before.clone() {
            restore_on_panic(before);
        }
        let keys = Keys::new(terminal.before.is_some());
        // Not joined: it waits for keys, and ends with the process.
        std::thread::spawn(move || read_keys(&guest, keys));
        terminal
    }
}

/// A panic may end the process without dropping anything.
fn restore_on_panic(before: Termios) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        previous(info);
    }));
}

/// Reads keys until there are no more. Those that the guest has no room for wait, while others are
/// read: one of them may stop it.
fn read_keys(guest: &Current<Remote>, mut keys: Keys) {
    let stdin = std::io::stdin();
    let mut bytes = [0; 256];
    let mut is_open = true;
    loop {
        let is_behind = guest.pass_keys();
        if !is_open && !is_behind {
            return;
        }
        if is_behind && !is_ready(is_open.then_some(&stdin)) {
            continue;
        }
        // Not by the buffer of `Stdin`, which poll() would not see.
        match rustix::io::read(stdin.as_fd(), &mut bytes) {
            Ok(0) => is_open = false,
            Ok(len) => {
                let typed = keys.take(&bytes[..len]);
                guest.type_in(&typed.for_guest);
                if typed.is_stop {
                    guest.stop("stopped by Ctrl-A X".to_owned());
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => is_open = false,
        }
    }
}

/// Waits a little. Returns true as soon as there is something to read.
fn is_ready(stdin: Option<&Stdin>) -> bool {
    const PAUSE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 5_000_000,
    };
    let mut list: Vec<PollFd<'_>> = stdin
        .iter()
        .map(|stdin| PollFd::new(*stdin, PollFlags::IN))
        .collect();
    matches!(poll(&mut list, Some(&PAUSE)), Ok(ready) if ready != 0)
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
