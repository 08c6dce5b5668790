// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The verdict.

use crate::event::{Event, Session};
use crate::evidence::Evidence;
use crate::file::Contents;
use crate::finding::{Finding, Gap, Reason};
use crate::hash::{Digest, Hash, report_data};
use crate::replay::replay;
use crate::streams;

/// What a verifier wants besides.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// A nonce that the evidence has to be made for. Without one, a log may be old.
    pub nonce: Option<Hash>,
    /// Index of the register that the module was told to extend. Root can extend the other one as it
    /// likes, so a log does not choose.
    pub register: u32,
    /// What the register held when the module was loaded: zeros, where nobody else uses it.
    pub open_register: Digest,
    /// The highest event that is known of a session: a log may not end before.
    pub at_least: Option<(Session, u64)>,
}

impl Policy {
    /// RTMR3, which nobody else uses, and the log may be old.
    pub const DEFAULT: Self = Self {
        nonce: None,
        register: 3,
        open_register: [0; 48],
        at_least: None,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Reads a file and says what `evidence` proves of it.
///
/// Time and memory are bounded by the length of the file, whatever is in it.
#[must_use]
pub fn verify(file: &[u8], evidence: &Evidence, policy: &Policy) -> Finding {
    match Contents::read(file) {
        Ok(contents) => judge(&contents, evidence, policy),
        Err(why) => refused(Reason::File(why), policy),
    }
}

/// A finding that nothing is proved.
fn refused(reason: Reason, policy: &Policy) -> Finding {
    let mut finding = Finding::nothing_yet(policy.nonce);
    finding.reasons.push(reason);
    finding.conclude()
}

/// Says what `evidence` proves of a file that was read.
#[must_use]
pub fn judge(contents: &Contents<'_>, evidence: &Evidence, policy: &Policy) -> Finding {
    let events = contents.events.as_slice();
    // The others have the same register as the first.
    let other = |event: &&Event<'_>| event.register != policy.register;
    if let Some(event) = events.first().filter(other) {
        let register = event.register;
        return refused(Reason::NotAsked { register }, policy);
    }
    let replay = match replay(events, &policy.open_register) {
        Ok(replay) => replay,
        Err(reason) => return refused(reason, policy),
    };
    let register = evidence.register(policy.register);
    let covered = register.and_then(|register| replay.events_to(register));
    let Some(covered) = covered.and_then(|count| events.get(..count)) else {
        let foreign = replay.foreign.map(|number| Reason::Foreign { number });
        return refused(foreign.unwrap_or(Reason::Register), policy);
    };
    let mut finding = Finding::nothing_yet(policy.nonce);
    if evidence.is_debug() {
        finding.reasons.push(Reason::Debug);
    }
    if contents.odd_bytes != 0 {
        let bytes = contents.odd_bytes;
        finding.gaps.push(Gap::Tail { bytes });
    }
    finding.later_events = (events.len() - covered.len()) as u64;
    if let (Some(first), Some(last)) = (covered.first(), covered.last()) {
        finding.session = Some(first.session);
        finding.boot_registers = first.boot_registers();
        finding.first_event = first.number;
        finding.last_event = Some(last.number);
        finding.is_closed = last.is_last;
        let fault = at_least(policy, &first.session, last.number);
        finding.reasons.extend(fault);
    }
    if let Some(nonce) = policy.nonce {
        let reason = asked(covered, &nonce, evidence, &mut finding.nonce_event);
        finding.reasons.extend(reason);
    }
    streams::check(contents, covered, &mut finding);
    finding.conclude()
}

/// Finds the event that carries a nonce and for which the evidence was made; several may carry the same
/// one. Returns what is wrong; then `number` is that of the last event with the nonce.
fn asked(
    covered: &[Event<'_>],
    nonce: &[u8; 32],
    evidence: &Evidence,
    number: &mut Option<u64>,
) -> Option<Reason> {
    let with_nonce = || covered.iter().filter(|event| event.nonce == Some(*nonce));
    let is_meant = |event: &&Event<'_>| report_data(nonce, &event.digest()) == evidence.report_data;
    let last = with_nonce().last();
    let found = with_nonce().find(is_meant);
    *number = found.or(last).map(|event| event.number);
    match (last, found) {
        (None, _) => Some(Reason::Nonce),
        (_, None) => Some(Reason::ReportData),
        _ => None,
    }
}

fn at_least(policy: &Policy, session: &Session, last: u64) -> Option<Reason> {
    let (known, number) = policy.at_least?;
    if known != *session {
        Some(Reason::OtherSession)
    } else if last < number {
        Some(Reason::Older { number: last })
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
