// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One comparison of pages of the text.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{PAGE, Place, Text};
use crate::monitor::finding::{Finding, Key, Kind, hex};
use crate::monitor::image::KernelImage;
use crate::monitor::roots::{Tables, Whose};
use crate::monitor::sites::{self, LONGEST, Site, Verdict};
use crate::monitor::tables::{self, Half};
use crate::monitor::trampoline::Template;
use crate::monitor::view::{LOOKS, Physical, read_linear};

/// In which of the last comparisons a place had INT3 as first byte all the time: the last one in the lowest bit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes(u32);

impl Changes {
    /// A place that had it so often in a row is in no change, and neither is
    const IN_A_ROW: u32 = 5;
    /// one that had it in so many
    const MANY: u32 = 9;
    /// of the last ones.
    const ALL: u32 = 20;

    /// Returns true if it was so often that one more is too much.
    fn are_enough(self) -> bool {
        self.0.trailing_ones() >= Self::IN_A_ROW || self.0.count_ones() >= Self::MANY
    }

    fn add(&mut self, is_in_change: bool) {
        self.0 = ((self.0 << 1) | u32::from(is_in_change)) & ((1 << (Self::ALL - 1)) - 1);
    }
}

/// Adds a comparison of the places that were visited, some of which were in a change.
pub(super) fn remember(
    all: &mut BTreeMap<u32, Changes>,
    changing: &BTreeSet<u32>,
    was_visited: impl Fn(u32) -> bool,
) {
    for at in changing {
        all.entry(*at).or_default();
    }
    all.retain(|at, changes| {
        if changing.contains(at) || was_visited(*at) {
            changes.add(changing.contains(at));
        }
        changes.0 != 0
    });
}

/// One comparison: what trampolines were found to be is kept for its length.
pub(super) struct Compare<'a, P> {
    image: Arc<KernelImage>,
    expected: &'a [u8],
    place: Place,
    memory: &'a P,
    used: &'a [Tables],
    trampolines: HashMap<i64, bool>,
    in_change: &'a BTreeMap<u32, Changes>,
    /// Places with INT3 that were found; after [`Self::settle`] those that keep it.
    pub(super) changing: BTreeSet<u32>,
}

impl<'a, P: Physical> Compare<'a, P> {
    pub(super) fn new(text: &'a Text, memory: &'a P, used: &'a [Tables]) -> Self {
        Self {
            image: Arc::clone(&text.image),
            expected: &text.expected,
            place: text.place,
            memory,
            used,
            trampolines: HashMap::new(),
            in_change: &text.in_change,
            changing: BTreeSet::new(),
        }
    }

    /// The first difference in a page that is not allowed.
    pub(super) fn page(&mut self, page: usize) -> Option<Finding> {
        let start = page.checked_mul(PAGE)?;
        let end = self.expected.len().min(start.checked_add(PAGE)?);
        let expected = self.expected.get(start..end)?;
        let mut bytes = [0; PAGE];
        let now = bytes.get_mut(..expected.len())?;
        // CAST: widening.
        if !self.memory.read(self.place.gpa + start as u64, now) {
            return Some(self.finding(start, start, expected, &[]));
        }
        if now == expected {
            return None;
        }
        let mut at = start;
        for (old, new) in expected.iter().zip(now.iter()) {
            let here = at;
            at += 1;
            if old == new {
                continue;
            }
            let offset = u32::try_from(here).ok()?;
            match sites::covering(&self.image.sites, offset).copied() {
                Some(site) if self.is_allowed(site) => {}
                _ => {
                    let from = here - start;
                    return Some(self.finding(
                        start,
                        here,
                        expected.get(from..)?,
                        now.get(from..)?,
                    ));
                }
            }
        }
        None
    }

    /// Reads the site anew: it may reach into another page, and change meanwhile.
    fn is_allowed(&mut self, site: Site) -> bool {
        let mut bytes = [0; LONGEST];
        let Some(now) = bytes.get_mut(..site.len()) else {
            return false;
        };
        if !self.memory.read(self.place.gpa + u64::from(site.at), now) {
            return false;
        }
        let is_allowed = match site.judge(now, &self.image.map()) {
            Verdict::Allowed => true,
            Verdict::Refused => false,
            Verdict::Trampoline(distance) => self.is_trampoline(distance),
        };
        if !is_allowed || !sites::is_in_change(&bytes) {
            return is_allowed;
        }
        self.changing.insert(site.at);
        true
    }

    /// Looks at the places with INT3 again, all together: the guest decides how many there are. Those that are whole
    /// once are in a change, even if it is the next one each time. Returns which of the others had INT3 too often.
    pub(super) fn settle(&mut self) -> Vec<Finding> {
        let (memory, text) = (self.memory, self.place.gpa);
        for _ in 1..LOOKS {
            if self.changing.is_empty() {
                break;
            }
            memory.pause();
            self.changing.retain(|at| {
                let mut first = [0];
                memory.read(text + u64::from(*at), &mut first) && sites::is_in_change(&first)
            });
        }
        let is_stuck = |at: &&u32| self.in_change.get(at).is_some_and(|it| it.are_enough());
        let stuck = self.changing.iter().filter(is_stuck);
        stuck.filter_map(|at| self.found_at(*at)).collect()
    }

    /// What is at a place.
    fn found_at(&self, at: u32) -> Option<Finding> {
        let at = usize::try_from(at).ok()?;
        let start = at - at % PAGE;
        let end = self.expected.len().min(start.checked_add(PAGE)?);
        let expected = self.expected.get(at..end)?;
        let mut bytes = [0; PAGE];
        let now = bytes.get_mut(..expected.len())?;
        // CAST: widening.
        let is_read = self.memory.read(self.place.gpa + at as u64, now);
        is_read.then(|| self.finding(start, at, expected, now))
    }

    fn is_trampoline(&mut self, distance: i64) -> bool {
        if let Some(known) = self.trampolines.get(&distance) {
            return *known;
        }
        let linear = self.place.linear.wrapping_add_signed(distance);
        // What userspace has there, a process can write.
        let is_one = Half::of(linear) == Half::Kernel
            && !self.used.is_empty()
            && self
                .used
                .iter()
                .all(|it| self.may_call(it, linear, distance));
        self.trampolines.insert(distance, is_one);
        is_one
    }

    /// Returns true if there is a copy of the tracer's entry. Userspace's separate tables may have nothing there.
    fn may_call(&self, used: &Tables, linear: u64, distance: i64) -> bool {
        let is_copy = |template: &Template| {
            let mut copy = vec![0; template.len()];
            read_linear(self.memory, used.root, linear, &mut copy)
                && template.is_copy(&copy, distance, self.expected, &self.image.map())
        };
        let is_absent = |template: &Template| {
            // CAST: widening.
            let last = linear.wrapping_add(template.len() as u64 - 1);
            let mut both = [linear, last].into_iter();
            both.all(|at| tables::leaf(self.memory, used.root, at).is_none())
        };
        let templates = &self.image.templates;
        let may_lack = used.whose == Whose::Userspace;
        templates.iter().any(is_copy)
            || (may_lack && templates.iter().all(is_absent))
            || !used.are_still(self.memory)
    }

    fn finding(&self, start: usize, at: usize, expected: &[u8], found: &[u8]) -> Finding {
        const SHOWN: usize = 8;
        let some = |bytes: &[u8]| match bytes.get(..SHOWN.min(bytes.len())) {
            Some(some) if !some.is_empty() => hex(some),
            _ => "no memory".to_owned(),
        };
        // CAST: widening.
        let linear = self.place.linear.wrapping_add(at as u64);
        let name = u32::try_from(at)
            .ok()
            .and_then(|at| self.image.symbols.name_at(at));
        Finding {
            key: Key {
                kind: Kind::Text,
                // CAST: widening.
                place: start as u64,
                processor: None,
                name: "",
                gpa: None,
            },
            place: format!("{linear:#x} ({})", name.unwrap_or_default()),
            expected: some(expected),
            found: some(found),
        }
    }
}
