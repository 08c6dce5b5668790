// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The events by themselves: that they are one session, each the next of the one before, and what
//! they make of the register.

use alloc::vec::Vec;

use crate::event::{Event, Kind};
use crate::finding::Reason;
use crate::hash::{Digest, commitment, extend};

/// A session, replayed.
pub(crate) struct Replay {
    /// The register after each event; shorter than the events where one found a foreign value.
    registers: Vec<Digest>,
    /// The event that found one.
    pub(crate) foreign: Option<u64>,
}

/// Goes through all events. They are sorted, each there once, and of one session.
pub(crate) fn replay(events: &[Event<'_>], open: &Digest) -> Result<Replay, Reason> {
    let first = events.first().ok_or(Reason::NoEvents)?;
    if first.kind == Kind::Open && first.seen != *open {
        return Err(Reason::OpenRegister);
    }
    let mut replay = Replay {
        registers: Vec::new(),
        foreign: None,
    };
    // Where the first event is missing, nothing but the second says what it made of the register.
    let mut register = first.before;
    let mut before = None;
    for event in events {
        let number = event.number;
        if let Some(before) = before {
            follows(before, event)?;
        }
        if event.before != register {
            return Err(Reason::Before { number });
        }
        if event.is_foreign {
            replay.foreign = Some(number);
        } else {
            register = extend(&register, &event.digest());
            replay.registers.push(register);
        }
        before = Some(event);
    }
    Ok(replay)
}

/// One event after another.
fn follows(before: &Event<'_>, event: &Event<'_>) -> Result<(), Reason> {
    let number = event.number;
    let expected = before.number.saturating_add(1);
    if number != expected {
        Err(Reason::Missing { number: expected })
    } else if before.is_last {
        Err(Reason::AfterLast { number })
    } else if commitment(&event.reveal) != before.commit {
        Err(Reason::Reveal { number })
    } else if event.register != before.register {
        Err(Reason::OtherRegister { number })
    } else if !streams(event).eq(streams(before)) {
        Err(Reason::Streams { number })
    } else {
        Ok(())
    }
}

fn streams<'a>(event: &Event<'a>) -> impl Iterator<Item = u32> + use<'a> {
    event.heads().map(|head| head.stream)
}

impl Replay {
    /// How many events it takes to come to this value of the register; the most, if there are two.
    pub(crate) fn events_to(&self, register: &Digest) -> Option<usize> {
        let last = self.registers.iter().rposition(|value| value == register);
        last.map(|index| index + 1)
    }
}
