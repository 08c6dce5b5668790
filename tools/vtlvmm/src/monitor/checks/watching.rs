// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is compared after the baseline, and how the baseline is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pages::Pages;
use super::reports::Reports;
use super::starting::Starting;
use super::{Budget, Facts};
use crate::monitor::baseline::Baseline;
use crate::monitor::constants::Constants;
use crate::monitor::finding::{Finding, Kind};
use crate::monitor::gates::Gates;
use crate::monitor::image::KernelImage;
use crate::monitor::registers::Expected;
use crate::monitor::roots::{Tables, Tops, Whose};
use crate::monitor::tables::{self, Leaf};
use crate::monitor::text::{self, Place, Text};
use crate::monitor::view::{Physical, Registers, Root};

#[derive(Debug)]
pub(super) struct Watching {
    expected: Expected,
    gates: Gates,
    text: Text,
    constants: Constants,
    pages: Pages,
    /// Its pages were as they ought to be when the baseline was taken.
    is_ready: bool,
    starting: Vec<Starting>,
    /// Which processors were checked while they used tables of Linux.
    were_seen: Vec<bool>,
}

/// Looks at the guest for the first time. `None` if it is not ready, unless this is the last try.
pub(super) fn baseline<P: Physical>(
    image: &Arc<KernelImage>,
    trusted: Option<&Baseline>,
    memory: &P,
    all: &[Option<Registers>],
    is_last: bool,
    is_over: &AtomicBool,
) -> Option<Watching> {
    let registers = all.iter().flatten().find(|it| it.root().is_some())?;
    let First { root, table, page } = first(memory, registers, image.text.len())?;
    let place = Place {
        linear: page.linear,
        gpa: page.gpa,
    };
    let pages = Pages::new(image, place, table);
    let is_ready = page.rights.executes
        && !page.rights.writes
        && pages.are_clean(memory, root, || is_over.load(Ordering::Relaxed));
    if !is_ready && !is_last {
        return None;
    }
    let text = Text::baseline(Arc::clone(image), memory, root, place, trusted);
    let mut expected = Expected::baseline(registers, all.len(), &text);
    let mut gates = Gates::baseline(memory, root, expected.idtr());
    if let Some(trusted) = trusted {
        expected.trust(trusted);
        gates = Gates::trusted(&trusted.gates, place.linear);
    }
    Some(Watching {
        gates,
        constants: Constants::baseline(memory, place, image.constants),
        starting: vec![Starting::No; all.len()],
        were_seen: vec![false; all.len()],
        expected,
        text,
        pages,
        is_ready,
    })
}

/// Page tables that have the kernel, the table of the image in them, and the first page of the text.
struct First {
    root: Root,
    table: Root,
    page: Leaf,
}

/// Finds the kernel. If userspace's tables are separate, they lack a part of it, and the tables before those have it.
fn first<P: Physical>(memory: &P, registers: &Registers, len: usize) -> Option<First> {
    let Tops { own, neighbour } = registers.tops;
    let both = [(registers.root(), own), (registers.neighbour(), neighbour)];
    let mut found = both.into_iter().filter_map(|(root, top)| {
        let root = root?;
        let table = Root {
            cr3: top?,
            levels: root.levels - 1,
        };
        let page = text::find(memory, root)?;
        // CAST: widening.
        let last = page.linear + (len as u64 - 1);
        let is_whole = tables::leaf(memory, root, last).is_some();
        Some((is_whole, First { root, table, page }))
    });
    let (is_whole, first) = found.next()?;
    match (is_whole, found.next()) {
        (false, Some((true, other))) => Some(other),
        _ => Some(first),
    }
}

impl Watching {
    /// What a later start can be compared with. `None` if the guest was not as it ought to be when the baseline
    /// was taken, or not all of it was looked at since.
    pub(super) fn learned(&self, runs: impl Fn(usize) -> bool) -> Option<Baseline> {
        let mut were_seen = self.were_seen.iter().enumerate();
        let are_seen = were_seen.all(|(processor, was_seen)| *was_seen || !runs(processor));
        if !self.is_ready || !are_seen || !self.pages.are_all_visited() {
            return None;
        }
        let Baseline {
            patched, elsewhere, ..
        } = self.text.learned();
        Some(Baseline {
            gates: self.gates.relative(self.text.place().linear),
            patched,
            elsewhere,
            ..self.expected.learned()
        })
    }

    /// A processor starts from its reset state.
    pub(super) fn restarted(&mut self, processor: usize) {
        self.expected.forget(processor);
        if let Some(starting) = self.starting.get_mut(processor) {
            starting.begin();
        }
    }

    pub(super) fn facts(&self, image: &KernelImage) -> Facts {
        Facts {
            text: self.text.place(),
            text_len: self.text.len(),
            adopted: self.text.adopted(),
            sites: image.sites.len(),
            constants: self.constants.pages(),
        }
    }

    pub(super) fn round<P: Physical>(
        &mut self,
        memory: &P,
        all: &[Option<Registers>],
        reports: &Reports,
        budget: Budget,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut roots: Vec<Tables> = Vec::new();
        for (processor, registers) in all.iter().enumerate() {
            let Some(registers) = registers else { continue };
            let starting = self.starting.get_mut(processor);
            if starting.is_some_and(|it| it.is_left_alone(registers)) {
                continue;
            }
            found.extend(self.expected.check(processor, registers, &self.text));
            let used = self.pages.layout().tables(registers);
            if let Some(tables) = used.first() {
                if let Some(was_seen) = self.were_seen.get_mut(processor) {
                    *was_seen |= tables.whose != Whose::Nobody;
                }
                found.extend(self.check_gates(memory, tables, registers, processor));
            }
            for tables in used {
                if !roots.contains(&tables) {
                    roots.push(tables);
                }
            }
        }
        for tables in &roots {
            found.extend(self.check_kernel(memory, tables));
        }
        let image = self.pages.layout().tables_of_image();
        // All of the kernel's lead to it.
        let others = roots.iter().filter(|it| it.whose != Whose::Kernel);
        let near_text: Vec<Tables> = others.copied().chain([image]).collect();
        let again = reports.previous().filter(|key| key.kind == Kind::Constants);
        found.extend(again.filter_map(|key| self.constants.check_again(memory, key)));
        let again = reports.previous().filter(|key| key.kind == Kind::Text);
        found.extend(self.text.check(memory, &near_text, budget.pages, again));
        found.extend(self.constants.check(memory, budget.pages));
        found.extend(self.pages.check(memory, &roots, reports, budget.tables));
        found
    }

    /// The gates, of which the processor takes the address from its own tables.
    fn check_gates<P: Physical>(
        &self,
        memory: &P,
        tables: &Tables,
        registers: &Registers,
        processor: usize,
    ) -> Vec<Finding> {
        let (gates, table) = (&self.gates, registers.idtr);
        let found = gates.check(memory, tables.root, table, &self.text, processor);
        counted(memory, tables, found)
    }

    /// The addresses of the kernel.
    fn check_kernel<P: Physical>(&self, memory: &P, tables: &Tables) -> Vec<Finding> {
        let found = self.pages.layout().kernel_is_mapped(memory, tables);
        counted(memory, tables, found)
    }
}

/// What was found by way of tables, if they are still those.
fn counted<P: Physical>(memory: &P, tables: &Tables, found: Vec<Finding>) -> Vec<Finding> {
    match found.is_empty() || tables.are_still(memory) {
        true => found,
        false => Vec::new(),
    }
}

/// Returns true if the kernel has begun to protect its text.
pub(super) fn kernel_is_read_only<P: Physical>(memory: &P, all: &[Option<Registers>]) -> bool {
    let mut roots = all.iter().flatten().filter_map(Registers::root);
    let first = roots.find_map(|root| text::find(memory, root));
    first.is_some_and(|leaf| leaf.rights.executes && !leaf.rights.writes)
}
