// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rights of the guest's pages: what no page may be.

use super::reports::{MOST_FINDINGS, reported_as};
use super::watching::unchecked;
use crate::monitor::finding::{Finding, Key, Kind};
use crate::monitor::image::KernelImage;
use crate::monitor::tables::{self, Half, Leaf, Pass, Progress};
use crate::monitor::text::{IMAGES, PAGE, Place};
use crate::monitor::view::{Physical, Root};

/// Physical memory that is never writable, in whole pages.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
    name: &'static str,
}

/// The passes through the tables of the processors, one processor after the other.
#[derive(Debug)]
pub(super) struct Pages {
    text: Place,
    read_only: [Range; 2],
    passes: [Pass; 2],
    /// Whose tables each of them goes through.
    turns: [usize; 2],
    are_too_many: bool,
}

impl Pages {
    pub(super) fn new(image: &KernelImage, text: Place) -> Self {
        // CAST: widening.
        let (page, len) = (PAGE as u64, image.text.len() as u64);
        let (from, to) = image.constants;
        let range = |from: u64, to: u64, name| Range {
            start: text.gpa.wrapping_add(from),
            end: text.gpa.wrapping_add(to),
            name,
        };
        Self {
            text,
            read_only: [
                range(0, len.next_multiple_of(page), "the kernel's text"),
                range(from, to & !(page - 1), "the kernel's constants"),
            ],
            passes: [Pass::new(Half::Kernel), Pass::new(Half::User)],
            turns: [0; 2],
            are_too_many: false,
        }
    }

    /// An address that only the kernel's tables have.
    pub(super) const fn probe(&self) -> u64 {
        let [text, _] = &self.read_only;
        self.text.linear + (text.end - text.start) - 1
    }

    /// Returns true if there is something to execute where only one image can be, outside of that. What follows the
    /// text up to the constants is in its last large page.
    fn is_other_image(&self, leaf: &Leaf) -> bool {
        let [text, constants] = &self.read_only;
        let own = self.text.linear..self.text.linear.wrapping_add(constants.start - text.start);
        let last = leaf.linear.wrapping_add(leaf.len - 1);
        leaf.rights.executes
            && last >= IMAGES.start
            && leaf.linear < IMAGES.end
            && !(own.contains(&leaf.linear) && own.contains(&last))
    }

    /// Returns true if a whole pass through the kernel's half finds nothing.
    pub(super) fn are_clean<P: Physical>(&mut self, memory: &P, root: Root) -> bool {
        let mut is_clean = true;
        let mut pass = Pass::new(Half::Kernel);
        let progress = pass.go(memory, root, usize::MAX / 2, &mut |leaf| {
            is_clean &= self.judge(Half::Kernel, leaf).is_none();
        });
        is_clean && progress == Progress::Finished
    }

    /// Visits the next tables.
    pub(super) fn check<P: Physical>(
        &mut self,
        memory: &P,
        roots: &[Root],
        budget: usize,
    ) -> Vec<Finding> {
        const MOST: usize = 2 * MOST_FINDINGS;
        let mut found: Vec<Finding> = Vec::new();
        let new = [Pass::new(Half::Kernel), Pass::new(Half::User)];
        let mut passes = std::mem::replace(&mut self.passes, new);
        let mut turns = self.turns;
        for (pass, turn) in passes.iter_mut().zip(&mut turns) {
            let Some(root) = roots.get(*turn % roots.len().max(1)).copied() else {
                break;
            };
            let half = pass.half();
            let progress = pass.go(memory, root, budget, &mut |leaf| {
                let next = self.judge(half, leaf);
                // Neighbours of what is wrong are the same mistake.
                let is_new = |next: &Finding| {
                    found
                        .last()
                        .is_none_or(|last| reported_as(&last.key) != reported_as(&next.key))
                };
                if let Some(next) = next.filter(is_new).filter(|_| found.len() < MOST) {
                    found.push(next);
                }
            });
            if progress != Progress::Unfinished {
                *turn = turn.wrapping_add(1);
            }
            self.are_too_many |= progress == Progress::TooMany;
        }
        (self.passes, self.turns) = (passes, turns);
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
    pub(super) fn check_again<P: Physical>(
        &self,
        memory: &P,
        roots: &[Root],
        key: &Key,
    ) -> Option<Finding> {
        let half = match key.kind {
            Kind::WritableExecutable | Kind::WritableText | Kind::OtherImage => Half::Kernel,
            Kind::LowExecutable => Half::User,
            _ => return None,
        };
        roots.iter().find_map(|root| {
            let leaf = tables::leaf(memory, *root, key.place)?;
            self.judge(half, leaf)
        })
    }

    /// The addresses of the text and of the constants lead there. If not `all` of them, they lead nowhere
    /// else.
    pub(super) fn kernel_is_mapped<P: Physical>(
        &self,
        memory: &P,
        root: Root,
        all: bool,
    ) -> Option<Finding> {
        let mut ranges = self.read_only.iter();
        ranges.find_map(|range| self.is_mapped(memory, root, range, all))
    }

    fn is_mapped<P: Physical>(
        &self,
        memory: &P,
        root: Root,
        range: &Range,
        all: bool,
    ) -> Option<Finding> {
        // CAST: widening.
        let page = PAGE as u64;
        let mut offset = range.start.wrapping_sub(self.text.gpa);
        let end = range.end.wrapping_sub(self.text.gpa);
        while offset < end {
            let linear = self.text.linear.wrapping_add(offset);
            let expected = self.text.gpa.wrapping_add(offset);
            let leaf = tables::leaf(memory, root, linear);
            let found = leaf.map(|leaf| leaf.gpa.wrapping_add(linear & (leaf.len - 1)));
            if found != Some(expected) && (all || found.is_some()) {
                return Some(finding(
                    Kind::TextMoved,
                    linear,
                    format!("{linear:#x}"),
                    format!("guest-physical address {expected:#x}"),
                    found.map_or("none".to_owned(), |it| format!("{it:#x}")),
                ));
            }
            offset += leaf.map_or(page, |leaf| leaf.len - (linear & (leaf.len - 1)));
        }
        None
    }

    fn judge(&self, half: Half, leaf: Leaf) -> Option<Finding> {
        let Leaf {
            linear,
            gpa,
            len,
            rights,
        } = leaf;
        // Not before something is wrong: most leaves are not.
        let place = || format!("{linear:#x} ({} KiB at {gpa:#x})", len / 1024);
        if half == Half::User {
            return (rights.executes && !rights.is_user).then(|| {
                finding(
                    Kind::LowExecutable,
                    linear,
                    place(),
                    "no page that only the kernel can execute".to_owned(),
                    "one".to_owned(),
                )
            });
        }
        if self.is_other_image(&leaf) {
            let expected = "no code but the text of the image".to_owned();
            let found = "an executable page".to_owned();
            return Some(finding(Kind::OtherImage, linear, place(), expected, found));
        }
        if !rights.writes {
            return None;
        }
        let overlap = |range: &&Range| range.start < gpa.saturating_add(len) && gpa < range.end;
        if let Some(range) = self.read_only.iter().find(overlap) {
            let found = format!("a writable page of {}", range.name);
            let expected = "read-only".to_owned();
            return Some(finding(
                Kind::WritableText,
                linear,
                place(),
                expected,
                found,
            ));
        }
        rights.executes.then(|| {
            finding(
                Kind::WritableExecutable,
                linear,
                place(),
                "either writable or executable".to_owned(),
                "both".to_owned(),
            )
        })
    }
}

fn finding(kind: Kind, linear: u64, place: String, expected: String, found: String) -> Finding {
    Finding {
        key: Key {
            kind,
            place: linear,
            processor: None,
            name: "",
        },
        place,
        expected,
        found,
    }
}
