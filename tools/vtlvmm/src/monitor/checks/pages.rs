// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The passes through the page tables of the processors, one processor after the other.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use super::layout::{Layout, Wrong};
use super::reports::{MOST_FINDINGS, Reports, reported_as};
use super::turns::Turns;
use super::unchecked::unchecked;
use crate::monitor::finding::{Finding, Key, Kind};
use crate::monitor::image::KernelImage;
use crate::monitor::roots::Tables;
use crate::monitor::tables::{self, Half, Leaf, Pass, Progress};
use crate::monitor::text::Place;
use crate::monitor::view::{LOOKS, Physical, Root};

/// See the module.
#[derive(Debug)]
pub(super) struct Pages {
    layout: Layout,
    passes: [Pass; 2],
    /// Whose tables each of them goes through.
    turns: [Turns; 2],
    are_too_many: bool,
}

impl Pages {
    pub(super) fn new(image: &KernelImage, text: Place, image_table: Root) -> Self {
        Self {
            layout: Layout::new(image, text, image_table),
            passes: [Pass::new(Half::Kernel), Pass::new(Half::User)],
            turns: Default::default(),
            are_too_many: false,
        }
    }

    pub(super) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns true if the tables of each processor were gone through.
    pub(super) fn are_all_visited(&self) -> bool {
        self.turns.iter().all(Turns::were_all)
    }

    /// Returns true if a whole pass through the kernel's half finds nothing. It ends with the first page that
    /// is wrong, or with the guest.
    pub(super) fn are_clean<P: Physical>(
        &self,
        memory: &P,
        root: Root,
        is_over: impl Fn() -> bool,
    ) -> bool {
        const STEP: usize = 256;
        let mut pass = Pass::new(Half::Kernel);
        let mut is_clean = true;
        loop {
            let progress = pass.go(memory, root, STEP, &mut |leaf| {
                is_clean = self.layout.judge(&leaf).is_none();
                match is_clean {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            if !is_clean || progress != Progress::Unfinished || is_over() {
                return is_clean && progress == Progress::Finished;
            }
        }
    }

    /// Visits the next tables.
    pub(super) fn check<P: Physical>(
        &mut self,
        memory: &P,
        roots: &[Tables],
        reports: &Reports,
        budget: usize,
    ) -> Vec<Finding> {
        let mut found = New::besides(reports);
        // First, so that new ones don't hide them.
        for key in reports.previous() {
            let again = self.look_again(memory, roots, key);
            if let Some((root, wrong)) = again.filter(|(_, wrong)| found.is_new(wrong)) {
                found.push(root, wrong);
            }
        }
        for (pass, turn) in self.passes.iter_mut().zip(&mut self.turns) {
            let Some(root) = turn.next(roots) else {
                break;
            };
            let progress = pass.go(memory, root.root, budget, &mut |leaf| {
                let Some(wrong) = self.layout.judge(&leaf).filter(|it| found.is_new(it)) else {
                    return ControlFlow::Continue(());
                };
                match look(memory, &root, &leaf) {
                    Look::Same => found.push(root, wrong),
                    Look::Changed => {}
                    // There may be as many as a process likes.
                    Look::Gone => return ControlFlow::Break(()),
                }
                ControlFlow::Continue(())
            });
            if progress != Progress::Unfinished {
                turn.end(roots);
            }
            self.are_too_many |= progress == Progress::TooMany;
        }
        let mut found = found.settle(memory);
        if self.are_too_many {
            found.push(unchecked(
                "tables",
                "page tables",
                "at most 1048576 of them",
                "more; the rest is not checked",
            ));
        }
        found
    }

    /// Looks at the page of a finding again, in the tables of all processors.
    fn look_again<P: Physical>(
        &self,
        memory: &P,
        roots: &[Tables],
        key: &Key,
    ) -> Option<(Tables, Wrong)> {
        match key.kind {
            Kind::WritableExecutable
            | Kind::WritableText
            | Kind::OtherImage
            | Kind::LowExecutable => {}
            _ => return None,
        }
        roots.iter().find_map(|root| {
            let leaf = tables::leaf(memory, root.root, key.place)?;
            let wrong = self.layout.judge(&leaf)?;
            (look(memory, root, &leaf) == Look::Same).then_some((*root, wrong))
        })
    }
}

/// What has become of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A walk from the root still leads there.
    Same,
    /// It does not: a table may have been freed when it was read, and be memory of a process by then.
    Changed,
    /// The same is so of the root.
    Gone,
}

fn look<P: Physical>(memory: &P, tables: &Tables, leaf: &Leaf) -> Look {
    let now = tables::leaf(memory, tables.root, leaf.linear);
    if !tables.are_still(memory) {
        Look::Gone
    } else if now.as_ref() == Some(leaf) {
        Look::Same
    } else {
        Look::Changed
    }
}

/// What was not found before; of each kind so many that one does not hide another.
struct New<'a> {
    reports: &'a Reports,
    findings: Vec<Finding>,
    /// Those that are none if they change.
    doubtful: Vec<(Tables, Wrong)>,
    seen: HashSet<Key>,
    counts: BTreeMap<Kind, usize>,
}

impl<'a> New<'a> {
    fn besides(reports: &'a Reports) -> Self {
        Self {
            reports,
            findings: Vec::new(),
            doubtful: Vec::new(),
            seen: HashSet::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Neighbours of what is wrong are the same mistake; but not if it may be none.
    fn is_new(&self, wrong: &Wrong) -> bool {
        let key = reported_as(&wrong.key());
        !self.reports.knows(&key)
            && self.count(wrong) < MOST_FINDINGS
            && !self.seen.contains(&Self::seen_as(wrong))
    }

    fn seen_as(wrong: &Wrong) -> Key {
        let key = wrong.key();
        match wrong.may_be_patching() {
            true => key,
            false => reported_as(&key),
        }
    }

    fn count(&self, wrong: &Wrong) -> usize {
        match wrong.may_be_patching() {
            true => self.doubtful.len(),
            false => self.counts.get(&wrong.kind).copied().unwrap_or(0),
        }
    }

    fn push(&mut self, root: Tables, wrong: Wrong) {
        self.seen.insert(Self::seen_as(&wrong));
        if wrong.may_be_patching() {
            self.doubtful.push((root, wrong));
        } else {
            *self.counts.entry(wrong.kind).or_default() += 1;
            self.findings.push(wrong.finding());
        }
    }

    /// Looks at those again that may be none, all together: the guest decides how many there are.
    fn settle<P: Physical>(mut self, memory: &P) -> Vec<Finding> {
        for _ in 1..LOOKS {
            if self.doubtful.is_empty() {
                break;
            }
            memory.pause();
            let is_same =
                |(root, wrong): &(Tables, Wrong)| look(memory, root, &wrong.leaf) == Look::Same;
            self.doubtful.retain(is_same);
        }
        let last = self.doubtful.iter().map(|(_, wrong)| wrong.finding());
        self.findings.extend(last);
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::fake::{self, DELTA, Guest, LARGE, PRESENT, TEXT_GPA, WRITABLE};
    use std::cell::Cell;

    struct Counted<'a>(&'a Guest, Cell<u32>);

    impl Physical for Counted<'_> {
        fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
            self.1.set(self.1.get() + 1);
            Physical::read(&self.0.memory, gpa, bytes)
        }
    }

    fn pages() -> Pages {
        let place = Place {
            linear: fake::BASE + DELTA,
            gpa: TEXT_GPA,
        };
        let table = Root { cr3: 0, levels: 3 };
        Pages::new(&fake::image(), place, table)
    }

    #[test]
    fn the_first_wrong_page_ends_the_pass_before_the_baseline() {
        let mut guest = Guest::new();
        for number in 0..200 {
            let linear = 0xffff_c900_0000_0000 + (number << 30);
            guest.map(linear, PRESENT | WRITABLE | LARGE, 21);
        }
        let memory = Counted(&guest, Cell::new(0));
        assert!(!pages().are_clean(&memory, guest.root(), || false));
        assert!(memory.1.get() < 48, "{}", memory.1.get());
    }

    #[test]
    fn the_end_of_the_guest_ends_the_pass_before_the_baseline() {
        let mut guest = Guest::new();
        for number in 0..700 {
            guest.map(
                0xffff_c900_0000_0000 + (number << 21),
                0x9000 | PRESENT | fake::NO_EXECUTE,
                12,
            );
        }
        let memory = Counted(&guest, Cell::new(0));
        assert!(pages().are_clean(&memory, guest.root(), || false));
        let whole = memory.1.replace(0);
        assert!(!pages().are_clean(&memory, guest.root(), || true));
        assert!(memory.1.get() < whole / 2, "{} {whole}", memory.1.get());
    }
}
