// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One round of checks after the other. Nothing is checked until userspace runs: then the kernel has
//! patched itself and made its text read-only, and what is there is the baseline.
//!
//! The guest goes on while its memory is read, so what a round finds may be a change that is half made. A
//! finding is reported if two rounds in a row have it, and once.

mod layout;
mod pages;
mod reports;
mod restless;
mod starting;
mod turns;
mod unchecked;
mod watching;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::baseline::Baseline;
use super::finding::Finding;
use super::image::KernelImage;
use super::text::Place;
use super::view::{Physical, Registers};

use reports::Reports;
use unchecked::{no_text, not_started};
use watching::{Watching, baseline, kernel_is_read_only};

/// What a round may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Pages of text, and of constants, that are compared.
    pub pages: usize,
    /// Page tables of each half of the addresses that are read.
    pub tables: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            pages: 1024,
            tables: 1024,
        }
    }
}

/// What is compared with from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the text is.
    pub text: Place,
    /// Bytes of text.
    pub text_len: usize,
    /// Bytes of it that the kernel has changed while it started.
    pub adopted: usize,
    /// Places that it may change later.
    pub sites: usize,
    /// Pages of constants.
    pub constants: usize,
}

/// What a round tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The baseline was taken.
    Baseline(Facts),
    /// Something is wrong.
    Finding(Finding),
    /// There were so many findings that no further ones are told.
    Silenced,
}

/// See the module.
#[derive(Debug)]
pub struct Checks {
    image: Arc<KernelImage>,
    trusted: Option<Baseline>,
    budget: Budget,
    state: State,
    reports: Reports,
    /// The guest has ended.
    is_over: Arc<AtomicBool>,
}

#[derive(Debug)]
enum State {
    /// No processor has been seen at CPL 3, or the kernel has not made its text read-only yet.
    Waiting {
        has_user: bool,
        /// The text was read-only before that.
        is_read_only: bool,
        /// It has lasted too long.
        is_overdue: bool,
    },
    Watching(Box<Watching>),
}

impl Checks {
    /// Checks of a guest that has not begun, perhaps with the baseline of a trusted start.
    pub fn new(image: Arc<KernelImage>, trusted: Option<Baseline>, budget: Budget) -> Self {
        Self {
            image,
            trusted,
            budget,
            state: State::Waiting {
                has_user: false,
                is_read_only: false,
                is_overdue: false,
            },
            reports: Reports::default(),
            is_over: Arc::default(),
        }
    }

    /// What takes long ends when this is set: the guest has ended.
    #[must_use]
    pub fn until(mut self, is_over: Arc<AtomicBool>) -> Self {
        self.is_over = is_over;
        self
    }

    /// Returns true until there is a baseline.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Returns true if there is no baseline yet although the kernel has started, or is about to: it should not
    /// take long.
    pub const fn expects_baseline(&self) -> bool {
        match &self.state {
            State::Waiting {
                has_user,
                is_read_only,
                ..
            } => *has_user || *is_read_only,
            State::Watching(_) => false,
        }
    }

    /// A processor was at CPL 3, even if none is when a round looks.
    pub fn saw_user(&mut self) {
        if let State::Waiting { has_user, .. } = &mut self.state {
            *has_user = true;
        }
    }

    /// It has taken too long: the next round takes the baseline even if the page tables are not as they ought to
    /// be, or a first process whose kernel module keeps the processor is never seen.
    pub fn hurry(&mut self) {
        if let State::Waiting { is_overdue, .. } = &mut self.state {
            *is_overdue = true;
        }
    }

    /// It has not begun at all for so long that this is told: nothing is checked until it has.
    pub fn never_started(&mut self) -> Vec<Event> {
        match self.state {
            State::Waiting { .. } => self.reports.report(vec![not_started()]),
            State::Watching(_) => Vec::new(),
        }
    }

    /// Returns true if a further round decides about findings of the last one.
    pub const fn has_suspects(&self) -> bool {
        self.reports.has_suspects()
    }

    /// What a later start can be compared with. `None` before the baseline, if there is, or may be, a finding, and
    /// if a processor that runs was not looked at.
    pub fn learned(&self, runs: impl Fn(usize) -> bool) -> Option<Baseline> {
        let State::Watching(watching) = &self.state else {
            return None;
        };
        let is_clean = self.reports.are_none();
        let learned = is_clean.then(|| watching.learned(runs))??;
        // A later start takes no other.
        learned.fits(&self.image).then_some(learned)
    }

    /// A processor starts from its reset state.
    pub fn restarted(&mut self, processor: usize) {
        if let State::Watching(watching) = &mut self.state {
            watching.restarted(processor);
        }
    }

    /// One round. A processor whose registers could not be read has none.
    pub fn round<P: Physical>(&mut self, memory: &P, all: &[Option<Registers>]) -> Vec<Event> {
        let mut events = Vec::new();
        if let State::Waiting {
            has_user,
            is_read_only,
            is_overdue,
        } = &mut self.state
        {
            *has_user |= all.iter().flatten().any(|it| it.cpl == 3);
            *is_read_only |= !*has_user && kernel_is_read_only(memory, all);
            // Without a processor that answers, there is nothing to see.
            let is_last = *is_overdue && all.iter().any(Option::is_some);
            if !*has_user && !is_last {
                return events;
            }
            let trusted = self.trusted.as_ref();
            let is_over = &self.is_over;
            match baseline(&self.image, trusted, memory, all, is_last, is_over) {
                Some(watching) => {
                    events.push(Event::Baseline(watching.facts(&self.image)));
                    self.state = State::Watching(Box::new(watching));
                }
                None if is_last => events.extend(self.reports.report(vec![no_text()])),
                None => return events,
            }
        }
        if let State::Watching(watching) = &mut self.state {
            let budget = if events.is_empty() {
                self.budget
            } else {
                // The first time all of the text is compared with the image.
                Budget {
                    pages: usize::MAX,
                    ..self.budget
                }
            };
            let found = watching.round(memory, all, &self.reports, budget);
            events.extend(self.reports.confirm(found, all));
        }
        events
    }
}

#[cfg(test)]
mod baseline_tests;
#[cfg(test)]
mod evasion_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod tests;
