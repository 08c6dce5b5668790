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
use crate::monitor::finding::{Finding, Key, Kind};
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
    /// The kernel's tables that were in use last.
    roots: Vec<Root>,
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
    let pages = Pages::new(image, place);
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
        let mut roots: Vec<Root> = Vec::new();
        // Those of userspace alone, which have only a part of the kernel.
        let mut partial: Vec<Root> = Vec::new();
        for (processor, registers) in all.iter().enumerate() {
            let Some(registers) = registers else { continue };
            let starting = self.starting.get_mut(processor);
            if starting.is_some_and(|it| it.is_left_alone(registers)) {
                continue;
            }
            found.extend(self.expected.check(processor, registers, &self.text));
            let Some(root) = kernel_root(memory, registers, self.pages.layout().probe()) else {
                continue;
            };
            // The processor takes the gates from its own tables.
            let (gates, own) = (&self.gates, registers.root().unwrap_or(root));
            if own != root && !partial.contains(&own) {
                partial.push(own);
            }
            found.extend(gates.check(memory, own, registers.idtr, &self.text, processor));
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        for root in &roots {
            found.extend(self.pages.layout().kernel_is_mapped(memory, *root, true));
        }
        for root in &partial {
            found.extend(self.pages.layout().kernel_is_mapped(memory, *root, false));
        }
        let tables = self.tables_of_trampolines(memory, &roots);
        let again = reports.previous().filter_map(|key| match key.kind {
            Kind::Text => self.text.check_again(memory, &tables, key),
            Kind::Constants => self.constants.check_again(memory, key),
            _ => self.pages.check_again(memory, &roots, key),
        });
        found.extend(again);
        found.extend(self.text.check(memory, &tables, budget.pages));
        found.extend(self.constants.check(memory, budget.pages));
        roots.extend(partial);
        found.extend(self.pages.check(memory, &roots, reports, budget.tables));
        found
    }

    /// Those in use; if no processor is checked in this round the last ones, as long as they have the kernel.
    fn tables_of_trampolines<P: Physical>(&mut self, memory: &P, roots: &[Root]) -> Vec<Root> {
        if roots.is_empty() {
            let layout = self.pages.layout();
            self.roots.retain(|root| layout.has_kernel(memory, *root));
        } else {
            self.roots = roots.to_vec();
        }
        self.roots.clone()
    }
}

/// Returns true if the kernel has begun to protect its text.
pub(super) fn kernel_is_read_only<P: Physical>(memory: &P, all: &[Option<Registers>]) -> bool {
    let mut roots = all.iter().flatten().filter_map(Registers::root);
    let first = roots.find_map(|root| text::find(memory, root));
    first.is_some_and(|leaf| leaf.rights.executes && !leaf.rights.writes)
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
    let has = |root| tables::leaf(memory, root, probe).is_some();
    Some(if !has(root) && has(other) {
        other
    } else {
        root
    })
}

pub(super) fn no_text() -> Finding {
    unchecked(
        "text",
        "the kernel's text",
        "read-only and executable pages at 0xffffffff80000000..0xffffffffc0000000",
        "none",
    )
}

pub(super) fn not_started() -> Finding {
    unchecked(
        "start",
        "the start of the kernel",
        "read-only text, or a process",
        "neither in ten minutes; nothing is checked",
    )
}

pub(super) fn unchecked(name: &'static str, place: &str, expected: &str, found: &str) -> Finding {
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
