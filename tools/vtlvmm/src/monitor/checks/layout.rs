// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where the kernel is in memory, and what follows from that for the rights of a page.

use super::reports::LARGE_PAGE;
use crate::monitor::finding::{Finding, Key, Kind};
use crate::monitor::image::KernelImage;
use crate::monitor::roots::{Tables, Whose};
use crate::monitor::tables::{self, Half, Leaf};
use crate::monitor::text::{IMAGES, PAGE, Place};
use crate::monitor::view::{Physical, Registers, Root};

/// Physical memory that is never writable, in whole pages.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
    name: &'static str,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layout {
    text: Place,
    read_only: [Range; 2],
    /// The table of the image, which all roots lead to.
    image: Root,
}

impl Layout {
    pub(super) fn new(image: &KernelImage, text: Place, image_table: Root) -> Self {
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
            image: image_table,
            read_only: [
                range(0, len.next_multiple_of(page), "the kernel's text"),
                range(from, to & !(page - 1), "the kernel's constants"),
            ],
        }
    }

    /// The page tables of a processor, those in use first.
    pub(super) fn tables(&self, registers: &Registers) -> Vec<Tables> {
        Tables::of(registers, self.image.cr3)
    }

    /// Those by way of which addresses near the text are read whichever are in use.
    pub(super) const fn tables_of_image(&self) -> Tables {
        Tables::of_image(self.image)
    }

    /// Returns true if there is something to execute where only one image can be, outside of its text. What
    /// follows the text is freed after the start.
    fn is_other_image(&self, leaf: &Leaf) -> bool {
        let [text, _] = &self.read_only;
        let own = self.text.linear..self.text.linear.wrapping_add(text.end - text.start);
        let last = leaf.linear.wrapping_add(leaf.len - 1);
        leaf.rights.executes
            && last >= IMAGES.start
            && leaf.linear < IMAGES.end
            && !(own.contains(&leaf.linear) && own.contains(&last))
    }

    /// The addresses of the text and of the constants lead there. In userspace's own tables, which have only a
    /// part of them, they lead nowhere else.
    pub(super) fn kernel_is_mapped<P: Physical>(
        &self,
        memory: &P,
        tables: &Tables,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        for range in &self.read_only {
            self.is_mapped(memory, tables, range, &mut found);
        }
        found
    }

    /// Each large page of addresses of which one leads elsewhere.
    fn is_mapped<P: Physical>(
        &self,
        memory: &P,
        used: &Tables,
        range: &Range,
        wrong: &mut Vec<Finding>,
    ) {
        let all = used.whose != Whose::Userspace;
        // CAST: widening.
        let page = PAGE as u64;
        let mut offset = range.start.wrapping_sub(self.text.gpa);
        let end = range.end.wrapping_sub(self.text.gpa);
        while offset < end {
            let linear = self.text.linear.wrapping_add(offset);
            let expected = self.text.gpa.wrapping_add(offset);
            let leaf = tables::leaf(memory, used.root, linear);
            let found = leaf.map(|leaf| leaf.gpa.wrapping_add(linear & (leaf.len - 1)));
            if found != Some(expected) && (all || found.is_some()) {
                wrong.push(finding(
                    Kind::TextMoved,
                    linear,
                    format!("{linear:#x}"),
                    format!("guest-physical address {expected:#x}"),
                    found.map_or("none".to_owned(), |it| format!("{it:#x}")),
                ));
                offset += LARGE_PAGE - (linear & (LARGE_PAGE - 1));
            } else {
                offset += leaf.map_or(page, |leaf| leaf.len - (linear & (leaf.len - 1)));
            }
        }
    }

    /// What is wrong with a page.
    pub(super) fn judge(&self, leaf: &Leaf) -> Option<Wrong> {
        let rights = leaf.rights;
        let is_low = Half::of(leaf.linear) == Half::User;
        let (kind, of) = if is_low && rights.executes && !rights.is_user {
            (Kind::LowExecutable, "")
        } else if let Some(range) = self.writable(leaf) {
            (Kind::WritableText, range.name)
        } else if is_low {
            return None;
        } else if self.is_other_image(leaf) {
            (Kind::OtherImage, "")
        } else if rights.writes && rights.executes {
            (Kind::WritableExecutable, "")
        } else {
            return None;
        };
        Some(Wrong {
            leaf: *leaf,
            kind,
            of,
        })
    }

    /// What of the kernel can be written there.
    fn writable(&self, leaf: &Leaf) -> Option<&Range> {
        let end = leaf.gpa.saturating_add(leaf.len);
        let overlaps = |range: &&Range| range.start < end && leaf.gpa < range.end;
        let mut ranges = self.read_only.iter();
        ranges.find(overlaps).filter(|_| leaf.rights.writes)
    }
}

/// A page that is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrong {
    pub(super) leaf: Leaf,
    pub(super) kind: Kind,
    /// What of the kernel is there.
    of: &'static str,
}

impl Wrong {
    /// Linux has such a page itself for a moment: to patch its text it maps one page of it after the other at an
    /// address of userspace's half, in tables that nobody else uses.
    pub(super) fn may_be_patching(&self) -> bool {
        let Leaf { linear, rights, .. } = self.leaf;
        self.kind == Kind::WritableText && Half::of(linear) == Half::User && !rights.is_user
    }

    /// What tells it from others.
    pub(super) fn key(&self) -> Key {
        Key {
            kind: self.kind,
            place: self.leaf.linear,
            processor: None,
            name: "",
            gpa: self.may_be_patching().then_some(self.leaf.gpa),
        }
    }

    /// What is told of it.
    pub(super) fn finding(&self) -> Finding {
        let (expected, found) = match self.kind {
            Kind::LowExecutable => ("no page that only the kernel can execute", "one".to_owned()),
            Kind::WritableText => ("read-only", format!("a writable page of {}", self.of)),
            Kind::OtherImage => (
                "no code but the text of the image",
                "an executable page".to_owned(),
            ),
            _ => ("either writable or executable", "both".to_owned()),
        };
        let Leaf {
            linear, gpa, len, ..
        } = self.leaf;
        Finding {
            key: self.key(),
            place: format!("{linear:#x} ({} KiB at {gpa:#x})", len / 1024),
            expected: expected.to_owned(),
            found,
        }
    }
}

fn finding(kind: Kind, linear: u64, place: String, expected: String, found: String) -> Finding {
    Finding {
        key: Key {
            kind,
            place: linear,
            processor: None,
            name: "",
            gpa: None,
        },
        place,
        expected,
        found,
    }
}
