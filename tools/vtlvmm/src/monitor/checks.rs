// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One round of checks after the other. Nothing is checked until userspace runs: then the kernel has
//! patched itself and made its text read-only, and what is there is the baseline.
//!
//! The guest goes on while its memory is read, so what a round finds may be a change that is half made. A
//! finding is reported if two rounds in a row have it, and once.

mod pages;
mod restless;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::baseline::Baseline;
use super::constants::Constants;
use super::finding::{Finding, Key, Kind};
use super::gates::Gates;
use super::image::KernelImage;
use super::registers::Expected;
use super::text::{self, Place, Text};
use super::view::{Physical, Registers, Root};

use pages::Pages;
use restless::Restless;

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
    previous: BTreeMap<Key, Finding>,
    has_suspects: bool,
    restless: Restless,
    reported: HashSet<Key>,
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

#[derive(Debug)]
struct Watching {
    expected: Expected,
    gates: Gates,
    text: Text,
    constants: Constants,
    pages: Pages,
    starting: Vec<Starting>,
}

/// Whether a processor that was started anew is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starting {
    /// It is checked.
    No,
    /// For so many rounds, unless it reaches userspace.
    For(u32),
    /// It is checked, and is not left alone again before so many rounds.
    Was(u32),
}

/// Findings that are told; the guest must not be able to fill a disk.
const MOST_FINDINGS: usize = 64;
/// Rounds that a processor has to start.
const MOST_STARTING: u32 = 10;

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
            previous: BTreeMap::new(),
            has_suspects: false,
            restless: Restless::default(),
            reported: HashSet::new(),
        }
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

    /// Returns true if a further round decides about findings of the last one.
    pub const fn has_suspects(&self) -> bool {
        self.has_suspects
    }

    /// What a later start can be compared with. `None` before the baseline, and if there is, or may be, a
    /// finding.
    pub fn learned(&self) -> Option<Baseline> {
        let State::Watching(watching) = &self.state else {
            return None;
        };
        let is_clean = self.reported.is_empty() && self.previous.is_empty();
        is_clean.then(|| Baseline {
            gates: watching.gates.relative(watching.text.place().linear),
            patched: watching.text.patched(),
            ..watching.expected.learned()
        })
    }

    /// A processor starts from its reset state.
    pub fn restarted(&mut self, processor: usize) {
        if let State::Watching(watching) = &mut self.state {
            watching.expected.forget(processor);
            // One that starts again and again has no more time because of that.
            if let Some(starting @ Starting::No) = watching.starting.get_mut(processor) {
                *starting = Starting::For(MOST_STARTING);
            }
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
            match baseline(&self.image, trusted, memory, all, is_last) {
                Some(watching) => {
                    events.push(Event::Baseline(watching.facts(&self.image)));
                    self.state = State::Watching(Box::new(watching));
                }
                None if is_last => events.extend(self.report(vec![no_text()])),
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
            let found = watching.round(memory, all, &self.previous, budget);
            events.extend(self.confirm(found, all));
        }
        events
    }

    /// Reports what the previous round has found, too. What it has found on a processor that does not
    /// answer now is kept until it does.
    fn confirm(&mut self, found: Vec<Finding>, all: &[Option<Registers>]) -> Vec<Event> {
        let found: BTreeMap<Key, Finding> = found
            .into_iter()
            .take(4 * MOST_FINDINGS)
            .map(|finding| (finding.key.clone(), finding))
            .collect();
        let mut before = std::mem::replace(&mut self.previous, found);
        // A register may have its wrong value on one processor after the other.
        let wrong: HashSet<Key> = before.keys().map(wherever).collect();
        let new = |key: &Key| !self.reported.contains(&reported_as(key));
        let restless = self
            .restless
            .round(self.previous.keys().filter(|key| new(key)));
        let twice = self.previous.values();
        let twice = twice
            .filter(|it| wrong.contains(&wherever(&it.key)) || restless.contains(&it.key.kind));
        let twice = twice.cloned().collect();
        let events = self.report(twice);
        let mut keys = self.previous.keys();
        self.has_suspects = self.reported.len() <= MOST_FINDINGS
            && keys.any(|key| !self.reported.contains(&reported_as(key)));
        before.retain(|key, _| {
            let own = key.processor.and_then(|processor| all.get(processor));
            own.is_some_and(Option::is_none) && !self.previous.contains_key(key)
        });
        self.previous.append(&mut before);
        events
    }

    fn report(&mut self, findings: Vec<Finding>) -> Vec<Event> {
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
fn reported_as(key: &Key) -> Key {
    const LARGE_PAGE: u64 = 1 << 21;
    let mut key = key.clone();
    match key.kind {
        Kind::WritableExecutable
        | Kind::WritableText
        | Kind::TextMoved
        | Kind::OtherImage
        | Kind::LowExecutable => {
            key.place &= !(LARGE_PAGE - 1);
            key.processor = None;
        }
        Kind::Gate => key.processor = None,
        _ => {}
    }
    key
}

fn no_text() -> Finding {
    unchecked(
        "text",
        "the kernel's text",
        "read-only and executable pages at 0xffffffff80000000..0xffffffffc0000000",
        "none",
    )
}

fn unchecked(name: &'static str, place: &str, expected: &str, found: &str) -> Finding {
    Finding {
        key: Key {
            kind: Kind::Unchecked,
            place: 0,
            processor: None,
            name,
        },
        place: place.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

/// The tables that have the kernel. If the kernel's and userspace's are separate, userspace's are in the
/// page after the kernel's, and a processor at CPL 3 uses them.
fn kernel_root<P: Physical>(memory: &P, registers: &Registers, probe: u64) -> Option<Root> {
    const OF_USER: u64 = 1 << 12;
    let root = registers.root()?;
    if registers.cpl != 3 || root.cr3 & OF_USER == 0 {
        return Some(root);
    }
    let other = Root {
        cr3: root.cr3 & !OF_USER,
        ..root
    };
    let has = |root| super::tables::leaf(memory, root, probe).is_some();
    Some(if !has(root) && has(other) {
        other
    } else {
        root
    })
}

/// Returns true if the kernel has begun to protect its text.
fn kernel_is_read_only<P: Physical>(memory: &P, all: &[Option<Registers>]) -> bool {
    let mut roots = all.iter().flatten().filter_map(Registers::root);
    let first = roots.find_map(|root| text::find(memory, root));
    first.is_some_and(|leaf| leaf.rights.executes && !leaf.rights.writes)
}

/// Looks at the guest for the first time. `None` if it is not ready, unless this is the last try.
fn baseline<P: Physical>(
    image: &Arc<KernelImage>,
    trusted: Option<&Baseline>,
    memory: &P,
    all: &[Option<Registers>],
    is_last: bool,
) -> Option<Watching> {
    let first = all.iter().flatten().find(|it| it.root().is_some())?;
    let first_page = text::find(memory, first.root()?)?;
    // CAST: widening.
    let probe = first_page.linear + (image.text.len() as u64 - 1);
    let root = kernel_root(memory, first, probe)?;
    let first_page = text::find(memory, root)?;
    let place = Place {
        linear: first_page.linear,
        gpa: first_page.gpa,
    };
    let mut pages = Pages::new(image, place);
    let is_ready =
        first_page.rights.executes && !first_page.rights.writes && pages.are_clean(memory, root);
    if !is_ready && !is_last {
        return None;
    }
    let patched = trusted.map(|it| it.patched.as_slice());
    let text = Text::baseline(Arc::clone(image), memory, place, patched);
    let mut expected = Expected::baseline(first, all.len(), &text);
    let mut gates = Gates::baseline(memory, root, expected.idtr());
    if let Some(trusted) = trusted {
        expected.trust(trusted);
        gates = Gates::trusted(&trusted.gates, place.linear);
    }
    Some(Watching {
        gates,
        constants: Constants::baseline(memory, place, image.constants),
        starting: vec![Starting::No; all.len()],
        expected,
        text,
        pages,
    })
}

impl Watching {
    fn facts(&self, image: &KernelImage) -> Facts {
        Facts {
            text: self.text.place(),
            text_len: self.text.len(),
            adopted: self.text.adopted(),
            sites: image.sites.len(),
            constants: self.constants.pages(),
        }
    }

    fn round<P: Physical>(
        &mut self,
        memory: &P,
        all: &[Option<Registers>],
        previous: &BTreeMap<Key, Finding>,
        budget: Budget,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut roots: Vec<Root> = Vec::new();
        // Those of userspace alone, which have only a part of the kernel.
        let mut partial: Vec<Root> = Vec::new();
        for (processor, registers) in all.iter().enumerate() {
            let Some(registers) = registers else { continue };
            if self.is_starting(processor, registers) {
                continue;
            }
            found.extend(self.expected.check(processor, registers, &self.text));
            let Some(root) = kernel_root(memory, registers, self.pages.probe()) else {
                continue;
            };
            partial.extend(registers.root().filter(|own| *own != root));
            // The processor takes them from its own tables.
            let (gates, own) = (&self.gates, registers.root().unwrap_or(root));
            found.extend(gates.check(memory, own, registers.idtr, &self.text, processor));
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        for root in &roots {
            found.extend(self.pages.kernel_is_mapped(memory, *root, true));
        }
        for root in &partial {
            found.extend(self.pages.kernel_is_mapped(memory, *root, false));
        }
        let again = previous.keys().filter_map(|key| match key.kind {
            Kind::Text => self.text.check_again(memory, &roots, key),
            Kind::Constants => self.constants.check_again(memory, key),
            _ => self.pages.check_again(memory, &roots, key),
        });
        found.extend(again);
        found.extend(self.text.check(memory, &roots, budget.pages));
        found.extend(self.constants.check(memory, budget.pages));
        roots.extend(partial);
        found.extend(self.pages.check(memory, &roots, budget.tables));
        found
    }

    fn is_starting(&mut self, processor: usize, registers: &Registers) -> bool {
        let Some(starting) = self.starting.get_mut(processor) else {
            return false;
        };
        *starting = match *starting {
            _ if registers.cpl == 3 => Starting::No,
            Starting::No | Starting::Was(0) => Starting::No,
            Starting::For(0) => Starting::Was(MOST_STARTING),
            Starting::For(rounds) => Starting::For(rounds - 1),
            Starting::Was(rounds) => Starting::Was(rounds - 1),
        };
        matches!(starting, Starting::For(_))
    }
}

#[cfg(test)]
mod baseline_tests;
#[cfg(test)]
mod evasion_tests;
#[cfg(test)]
mod tests;
