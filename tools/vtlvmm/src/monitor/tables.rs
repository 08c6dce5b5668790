// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page tables of the guest, all of them, a few at a time. [SDM3 4.5]
//!
//! Tables may point to each other in circles, and out of memory. A table that was visited with the same
//! rights is not visited again, and their number is bounded.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::view::{Physical, Root};
use crate::walk::{ADDRESS, LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE, is_canonical};

/// A page, with the rights of all tables that lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Linear address.
    pub linear: u64,
    /// Guest-physical address.
    pub gpa: u64,
    /// Its bytes.
    pub len: u64,
    /// What may be done.
    pub rights: Rights,
}

/// Rights to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// It can be written.
    pub writes: bool,
    /// It can be executed.
    pub executes: bool,
    /// Userspace may access it.
    pub is_user: bool,
}

const ALL: Rights = Rights {
    writes: true,
    executes: true,
    is_user: true,
};

const TABLE_LEN: usize = 4096;
const ENTRIES: u64 = 512;
/// Tables between a root and a page.
const DEPTH: usize = 5;

impl Rights {
    const fn with(self, entry: u64) -> Self {
        Self {
            writes: self.writes && entry & WRITABLE != 0,
            executes: self.executes && entry & NO_EXECUTE == 0,
            is_user: self.is_user && entry & USER != 0,
        }
    }
}

/// What an entry is.
enum Entry {
    Nothing,
    Page(u64, u64),
    Table(u64),
}

/// Of a table whose entries stand for `1 << shift` bytes each.
const fn decode(entry: u64, shift: u32) -> Entry {
    if entry & PRESENT == 0 {
        return Entry::Nothing;
    }
    let len = 1 << shift;
    match shift {
        12 => Entry::Page(entry & ADDRESS, len),
        21 | 30 if entry & LARGE != 0 => Entry::Page(entry & ADDRESS & !(len - 1), len),
        _ => Entry::Table(entry & ADDRESS),
    }
}

const fn top_shift(root: Root) -> u32 {
    12 + 9 * (root.levels - 1)
}

/// The linear address with these translated bits.
const fn canonical(root: Root, translated: u64) -> u64 {
    let unused = 64 - (top_shift(root) + 9);
    // CAST: the sign is what this is about.
    ((translated << unused) as i64 >> unused) as u64
}

/// The page at a linear address.
pub fn leaf<P: Physical>(memory: &P, root: Root, linear: u64) -> Option<Leaf> {
    if !is_canonical(linear, root.levels) {
        return None;
    }
    let (mut table, mut rights) = (root.cr3 & ADDRESS, ALL);
    let mut shift = top_shift(root);
    loop {
        let index = (linear >> shift) & (ENTRIES - 1);
        let mut bytes = [0; 8];
        if !memory.read(table + 8 * index, &mut bytes) {
            return None;
        }
        let entry = u64::from_le_bytes(bytes);
        rights = rights.with(entry);
        match decode(entry, shift) {
            Entry::Nothing => return None,
            Entry::Page(gpa, len) => {
                return Some(Leaf {
                    linear: linear & !(len - 1),
                    gpa,
                    len,
                    rights,
                });
            }
            Entry::Table(next) => table = next,
        }
        shift = shift.checked_sub(9)?;
    }
}

/// Half of the linear addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The lower one, which is userspace's.
    User,
    /// The upper one.
    Kernel,
}

/// How far a pass has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    Unfinished,
    /// All was visited.
    Finished,
    /// There are more tables than a pass visits; the rest was not.
    TooMany,
}

/// One pass through a half. Each call of [`Self::go`] continues from the root that it gets: what was freed
/// meanwhile is not followed.
#[derive(Debug)]
pub struct Pass {
    half: Half,
    /// Translated bits of the next address.
    cursor: Option<u64>,
    seen: HashSet<(u64, u32, Rights)>,
}

impl Pass {
    /// Tables of a pass: those of 2 TiB in small pages.
    const MOST: usize = 1 << 20;

    /// A pass that has not begun.
    pub fn new(half: Half) -> Self {
        Self {
            half,
            cursor: None,
            seen: HashSet::new(),
        }
    }

    /// Which half it is of.
    pub const fn half(&self) -> Half {
        self.half
    }

    /// Visits the pages of at most `budget` tables, and some that lead there.
    pub fn go<P: Physical>(
        &mut self,
        memory: &P,
        root: Root,
        budget: usize,
        visit: &mut impl FnMut(Leaf),
    ) -> Progress {
        let middle = 1 << (top_shift(root) + 8);
        let (begin, end) = match self.half {
            Half::User => (0, middle),
            Half::Kernel => (middle, 2 * middle),
        };
        let from = self.cursor.map_or(begin, |cursor| cursor.clamp(begin, end));
        let mut step = Step {
            memory,
            root,
            range: (from, end),
            seen: &mut self.seen,
            budget: budget.max(1) + DEPTH,
            visit,
        };
        let place = Place {
            table: root.cr3 & ADDRESS,
            shift: top_shift(root),
            base: 0,
            rights: ALL,
        };
        match step.table(place) {
            ControlFlow::Break(cursor) if self.seen.len() < Self::MOST => {
                self.cursor = Some(cursor);
                return Progress::Unfinished;
            }
            ControlFlow::Break(_) => {
                self.start_again();
                return Progress::TooMany;
            }
            ControlFlow::Continue(()) => self.start_again(),
        }
        Progress::Finished
    }

    fn start_again(&mut self) {
        self.cursor = None;
        // Its memory, too.
        self.seen = HashSet::new();
    }
}

#[derive(Clone, Copy)]
struct Place {
    table: u64,
    shift: u32,
    /// Translated bits of its first address.
    base: u64,
    rights: Rights,
}

struct Step<'a, P, V> {
    memory: &'a P,
    root: Root,
    range: (u64, u64),
    seen: &'a mut HashSet<(u64, u32, Rights)>,
    budget: usize,
    visit: &'a mut V,
}

impl<P: Physical, V: FnMut(Leaf)> Step<'_, P, V> {
    /// Visits a table. Breaks with the address to go on from.
    fn table(&mut self, place: Place) -> ControlFlow<u64> {
        let (from, end) = self.range;
        let name = (place.table, place.shift, place.rights);
        // One in the middle of which the last step ended is visited again, from there on.
        if from <= place.base && self.seen.contains(&name) {
            return ControlFlow::Continue(());
        }
        if self.budget == 0 || self.seen.len() >= Pass::MOST {
            return ControlFlow::Break(from.max(place.base));
        }
        self.budget -= 1;
        let mut bytes = [0; TABLE_LEN];
        if !self.memory.read(place.table, &mut bytes) {
            self.seen.insert(name);
            return ControlFlow::Continue(());
        }
        let len = 1 << place.shift;
        let mut base = place.base;
        for entry in bytes.chunks_exact(8) {
            let here = base;
            base += len;
            if base <= from {
                continue;
            }
            if here >= end {
                break;
            }
            let entry = u64::from_le_bytes(entry.try_into().unwrap_or_default());
            let rights = place.rights.with(entry);
            match decode(entry, place.shift) {
                Entry::Nothing => {}
                Entry::Page(gpa, len) => (self.visit)(Leaf {
                    linear: canonical(self.root, here),
                    gpa,
                    len,
                    rights,
                }),
                Entry::Table(table) => self.table(Place {
                    table,
                    shift: place.shift - 9,
                    base: here,
                    rights,
                })?,
            }
        }
        // Not before: one whose visit breaks off is visited again.
        self.seen.insert(name);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
