// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page tables of the guest, all of them, a few at a time. [SDM3 4.5]
//!
//! Tables may point to each other in circles, and out of memory. A table that was visited with the same
//! rights is not visited again, and their number is bounded.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use super::random;
use super::text::IMAGES;
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

/// The table that an entry of the root leads to.
pub fn top_table<P: Physical>(memory: &P, root: Root, linear: u64) -> Option<u64> {
    let index = (linear >> top_shift(root)) & (ENTRIES - 1);
    let mut bytes = [0; 8];
    let is_read = memory.read((root.cr3 & ADDRESS) + 8 * index, &mut bytes);
    match decode(u64::from_le_bytes(bytes), top_shift(root)) {
        Entry::Table(table) if is_read => Some(table),
        _ => None,
    }
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

impl Half {
    /// The one that an address is in.
    pub const fn of(linear: u64) -> Self {
        match linear >> 63 {
            0 => Self::User,
            _ => Self::Kernel,
        }
    }
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

/// One pass through a half, from an address that the guest can't know to the end, and from the begin to that
/// address. Each call of [`Self::go`] continues from the root that it gets: what was freed meanwhile is not
/// followed.
#[derive(Debug)]
pub struct Pass {
    half: Half,
    leg: Option<Leg>,
    seen: HashSet<(u64, u32, Rights)>,
}

/// A part of a pass: translated bits of addresses.
#[derive(Clone, Copy, Debug)]
struct Leg {
    /// Where the pass has begun.
    start: u64,
    /// This part goes from here to there.
    from: u64,
    end: u64,
    /// The next address.
    cursor: u64,
}

impl Pass {
    /// Tables of a pass: those of 2 TiB in small pages.
    const MOST: usize = 1 << 20;

    /// A pass that has not begun.
    pub fn new(half: Half) -> Self {
        Self {
            half,
            leg: None,
            seen: HashSet::new(),
        }
    }

    /// Which half it is of.
    pub const fn half(&self) -> Half {
        self.half
    }

    /// Visits the pages of at most `budget` tables, and some that lead there, until `visit` breaks off.
    pub fn go<P: Physical>(
        &mut self,
        memory: &P,
        root: Root,
        budget: usize,
        visit: &mut impl FnMut(Leaf) -> ControlFlow<()>,
    ) -> Progress {
        let middle = 1 << (top_shift(root) + 8);
        let (begin, end) = match self.half {
            Half::User => (0, middle),
            Half::Kernel => (middle, 2 * middle),
        };
        let first = || Leg::new(any_address(memory, root, begin..end), end);
        let mut leg = self.leg.unwrap_or_else(first);
        let mut step = Step {
            memory,
            root,
            leg,
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
        let mut flow = step.table(place);
        if flow.is_continue() && leg.start == leg.from {
            leg = Leg {
                from: begin,
                end: leg.start,
                cursor: begin,
                // There is no third part.
                start: if leg.start == begin { end } else { leg.start },
            };
            step.leg = leg;
            flow = step.table(place);
        }
        match flow {
            ControlFlow::Break(cursor) if self.seen.len() < Self::MOST => {
                self.leg = Some(Leg { cursor, ..leg });
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
        self.leg = None;
        // Its memory, too.
        self.seen = HashSet::new();
    }
}

impl Leg {
    /// The first one.
    const fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            from: start,
            end,
            cursor: start,
        }
    }
}

/// An address of a page, any one; translated bits.
fn any_address<P: Physical>(memory: &P, root: Root, half: Range<u64>) -> u64 {
    let (mut table, mut shift, mut base) = (root.cr3 & ADDRESS, top_shift(root), 0);
    let mut bytes = [0; TABLE_LEN];
    loop {
        if !memory.read(table, &mut bytes) {
            return base.clamp(half.start, half.end);
        }
        let here = |index: usize| base + ((index as u64) << shift); // CAST: below 512
        let entries = bytes.chunks_exact(8).enumerate();
        let present = entries.filter(|(index, entry)| {
            entry
                .first()
                .is_some_and(|first| u64::from(*first) & PRESENT != 0)
                && half.contains(&here(*index))
        });
        let present: Vec<(usize, &[u8])> = present.collect();
        // CAST: any number.
        let any = random::number() as usize % present.len().max(1);
        let Some((index, entry)) = present.get(any) else {
            return base.clamp(half.start, half.end);
        };
        base = here(*index);
        let entry = u64::from_le_bytes((*entry).try_into().unwrap_or_default());
        match decode(entry, shift) {
            Entry::Table(next) if shift > 12 => (table, shift) = (next, shift - 9),
            _ => return base,
        }
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
    leg: Leg,
    seen: &'a mut HashSet<(u64, u32, Rights)>,
    budget: usize,
    visit: &'a mut V,
}

impl<P: Physical, V: FnMut(Leaf) -> ControlFlow<()>> Step<'_, P, V> {
    /// Returns true if the table is also about addresses at which the kernel's image may be. What may be there
    /// depends on the address, so a table that was visited elsewhere is visited again.
    fn is_of_images(&self, place: Place) -> bool {
        let first = canonical(self.root, place.base);
        let last = first.wrapping_add((ENTRIES << place.shift) - 1);
        first < IMAGES.end && last >= IMAGES.start
    }

    /// Visits a table. Breaks with the address to go on from.
    fn table(&mut self, place: Place) -> ControlFlow<u64> {
        let Leg {
            cursor: from, end, ..
        } = self.leg;
        let name = (place.table, place.shift, place.rights);
        // One in the middle of which the last step ended is visited again, from there on.
        if from <= place.base && self.seen.contains(&name) && !self.is_of_images(place) {
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
                Entry::Page(gpa, len) => {
                    let leaf = Leaf {
                        linear: canonical(self.root, here),
                        gpa,
                        len,
                        rights,
                    };
                    if (self.visit)(leaf).is_break() {
                        return ControlFlow::Break(base);
                    }
                }
                Entry::Table(table) => self.table(Place {
                    table,
                    shift: place.shift - 9,
                    base: here,
                    rights,
                })?,
            }
        }
        // Not before: one whose visit breaks off is visited again. One in the middle of which this part begins is
        // not visited as a whole.
        if self.leg.from <= place.base {
            self.seen.insert(name);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
