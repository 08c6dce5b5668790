// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What of the findings of the rounds is told: what two rounds in a row have, or what is wrong again and again;
//! each once, and not without end.

use std::collections::{BTreeMap, HashSet};

use super::Event;
use super::restless::Restless;
use crate::monitor::finding::{Finding, Key, Kind};
use crate::monitor::view::Registers;

/// Findings that are told; the guest must not be able to fill a disk.
pub(super) const MOST_FINDINGS: usize = 64;

/// Pages next to each other up to this size are one finding.
pub(super) const LARGE_PAGE: u64 = 1 << 21;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    previous: BTreeMap<Key, Finding>,
    has_suspects: bool,
    restless: Restless,
    reported: HashSet<Key>,
}

impl Reports {
    /// Returns true if a further round decides about findings of the last one.
    pub(super) const fn has_suspects(&self) -> bool {
        self.has_suspects
    }

    /// Returns true if nothing was told, and the last round has found nothing.
    pub(super) fn are_none(&self) -> bool {
        self.reported.is_empty() && self.previous.is_empty()
    }

    /// Returns true if it was told; `key` is what it is told as.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.reported.contains(key)
    }

    /// What the last round has found.
    pub(super) fn previous(&self) -> impl Iterator<Item = &Key> {
        self.previous.keys()
    }

    /// Reports what the previous round has found, too. What it has found on a processor that does not
    /// answer now is kept until it does.
    pub(super) fn confirm(&mut self, found: Vec<Finding>, all: &[Option<Registers>]) -> Vec<Event> {
        let found = self.new_ones(found);
        let mut before = std::mem::replace(&mut self.previous, found);
        // A register may have its wrong value on one processor after the other.
        let wrong: HashSet<Key> = before.keys().map(wherever).collect();
        let restless = self.restless.round(self.previous.keys());
        let twice = self.previous.values();
        let twice = twice
            .filter(|it| wrong.contains(&wherever(&it.key)) || restless.contains(&it.key.kind));
        let twice = twice.cloned().collect();
        let events = self.report(twice);
        let mut keys = self.previous.keys();
        self.has_suspects =
            self.reported.len() <= MOST_FINDINGS && keys.any(|key| !self.knows(&reported_as(key)));
        before.retain(|key, _| {
            let own = key.processor.and_then(|processor| all.get(processor));
            own.is_some_and(Option::is_none) && !self.previous.contains_key(key)
        });
        self.previous.append(&mut before);
        events
    }

    /// Those that were not told yet; of each kind so many that one does not hide another.
    fn new_ones(&self, found: Vec<Finding>) -> BTreeMap<Key, Finding> {
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut new = BTreeMap::new();
        for finding in found {
            let count = counts.entry(finding.key.kind).or_default();
            if *count < MOST_FINDINGS && !self.knows(&reported_as(&finding.key)) {
                *count += usize::from(new.insert(finding.key.clone(), finding).is_none());
            }
        }
        new
    }

    pub(super) fn report(&mut self, findings: Vec<Finding>) -> Vec<Event> {
        let mut events = Vec::new();
        for finding in findings {
            if self.reported.len() > MOST_FINDINGS
                || !self.reported.insert(reported_as(&finding.key))
            {
                continue;
            }
            events.push(match self.reported.len() {
                len if len > MOST_FINDINGS => Event::Silenced,
                _ => Event::Finding(finding),
            });
        }
        events
    }
}

/// What has to be wrong twice: a register on any processor, everything else in its place.
fn wherever(key: &Key) -> Key {
    let mut key = key.clone();
    if key.kind == Kind::Register {
        key.processor = None;
    }
    key
}

/// Neighbouring pages are one finding, and so is a gate that several processors have.
pub(super) fn reported_as(key: &Key) -> Key {
    let mut key = key.clone();
    match key.kind {
        Kind::WritableExecutable
        | Kind::WritableText
        | Kind::TextMoved
        | Kind::OtherImage
        | Kind::LowExecutable => {
            key.place &= !(LARGE_PAGE - 1);
            key.processor = None;
            key.gpa = None;
        }
        Kind::Gate => key.processor = None,
        _ => {}
    }
    key
}
