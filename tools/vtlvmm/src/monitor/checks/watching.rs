// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is compared after the baseline, and how the baseline is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::layout::{Tables, kernel_root};
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
use crate::monitor::tables;
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
    /// The tables that were in use last, and which of them each processor used.
    roots: Vec<Tables>,
    used: Vec<Option<Root>>,
    /// A processor uses some that are not known.
    has_strange: bool,
    starting: Vec<Starting>,
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
    let top = tables::top_table(memory, root, place.linear);
    let pages = Pages::new(image, place, top);
    let is_ready = first_page.rights.executes
        && !first_page.rights.writes
        && pages.are_clean(memory, root, || is_over.load(Ordering::Relaxed));
    if !is_ready && !is_last {
        return None;
    }
    let text = Text::baseline(Arc::clone(image), memory, root, place, trusted);
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
        is_ready,
        roots: Vec::new(),
        used: vec![None; all.len()],
        has_strange: false,
    })
}

impl Watching {
    /// What a later start can be compared with. `None` if the guest was not as it ought to be when the baseline
    /// was taken, or not all of it was looked at since.
    pub(super) fn learned(&self) -> Option<Baseline> {
        if !self.is_ready || !self.pages.are_all_visited() {
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

    /// Returns true if a processor used tables that nobody knows, which are looked at the next time.
    pub(super) const fn has_strange(&self) -> bool {
        self.has_strange
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
        self.has_strange = false;
        let mut found = Vec::new();
        let mut roots: Vec<Tables> = Vec::new();
        for (processor, registers) in all.iter().enumerate() {
            let Some(registers) = registers else { continue };
            let starting = self.starting.get_mut(processor);
            if starting.is_some_and(|it| it.is_left_alone(registers)) {
                continue;
            }
            found.extend(self.expected.check(processor, registers, &self.text));
            let Some(tables) = self.tables(memory, processor, registers) else {
                continue;
            };
            found.extend(self.check_gates(memory, &tables, registers, processor));
            if !roots.contains(&tables) {
                roots.push(tables);
            }
        }
        for tables in &roots {
            found.extend(self.check_kernel(memory, tables));
        }
        let kernels = self.tables_of_trampolines(memory, &roots);
        let walked = both_of_each(&roots);
        let again = reports.previous().filter_map(|key| match key.kind {
            Kind::Text => self.text.check_again(memory, &kernels, key),
            Kind::Constants => self.constants.check_again(memory, key),
            _ => self.pages.check_again(memory, &walked, key),
        });
        found.extend(again);
        found.extend(self.text.check(memory, &kernels, budget.pages));
        found.extend(self.constants.check(memory, budget.pages));
        found.extend(self.pages.check(memory, &walked, reports, budget.tables));
        found
    }

    /// The tables that a processor uses. `None` if there are none, or none that are known: those are looked at if it
    /// still uses them the next time.
    fn tables<P: Physical>(
        &mut self,
        memory: &P,
        processor: usize,
        registers: &Registers,
    ) -> Option<Tables> {
        let layout = self.pages.layout();
        let kernel = kernel_root(memory, registers, layout.probe())?;
        let tables = Tables {
            root: registers.root()?,
            kernel,
            are_strange: !layout.knows(memory, kernel),
        };
        let used = self.used.get_mut(processor);
        let before = used.and_then(|used| used.replace(kernel));
        self.has_strange |= tables.are_strange;
        (!tables.are_strange || before == Some(kernel)).then_some(tables)
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
        self.counted(memory, tables, found)
    }

    /// The addresses of the kernel. Userspace's own tables have only a part of it.
    fn check_kernel<P: Physical>(&self, memory: &P, tables: &Tables) -> Vec<Finding> {
        let layout = self.pages.layout();
        let mut found = layout.kernel_is_mapped(memory, tables.kernel, true);
        if tables.root != tables.kernel {
            found.extend(layout.kernel_is_mapped(memory, tables.root, false));
        }
        self.counted(memory, tables, found)
    }

    /// What was found by way of tables, if they are still those.
    fn counted<P: Physical>(
        &self,
        memory: &P,
        tables: &Tables,
        found: Vec<Finding>,
    ) -> Vec<Finding> {
        match found.is_empty() || self.pages.layout().trusts(memory, tables) {
            true => found,
            false => Vec::new(),
        }
    }

    /// Those in use; if no processor is checked in this round the last ones.
    fn tables_of_trampolines<P: Physical>(&mut self, memory: &P, used: &[Tables]) -> Vec<Root> {
        if !used.is_empty() {
            self.roots = used.to_vec();
        }
        let layout = self.pages.layout();
        let kernels = self.roots.iter().map(|tables| tables.kernel);
        kernels
            .filter(|root| !used.is_empty() || layout.knows(memory, *root))
            .collect()
    }
}

/// The kernel's tables, and userspace's if they are separate, each once.
fn both_of_each(used: &[Tables]) -> Vec<Tables> {
    let mut all: Vec<Tables> = Vec::new();
    for tables in used {
        for root in [tables.kernel, tables.root] {
            if all.iter().all(|it| it.root != root) {
                all.push(Tables { root, ..*tables });
            }
        }
    }
    all
}

/// Returns true if the kernel has begun to protect its text.
pub(super) fn kernel_is_read_only<P: Physical>(memory: &P, all: &[Option<Registers>]) -> bool {
    let mut roots = all.iter().flatten().filter_map(Registers::root);
    let first = roots.find_map(|root| text::find(memory, root));
    first.is_some_and(|leaf| leaf.rights.executes && !leaf.rights.writes)
}
