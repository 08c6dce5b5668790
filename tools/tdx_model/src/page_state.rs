// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The secure EPT of the TD as a flat table: state, level and L2 rights of each 4 KiB page.
//!
//! Read by the page leaves (`leaf/tdg_mem_page_*.rs`) and by `l2_exit.rs`; changed by them and by
//! the host's side (`host.rs`). The TDX module has a tree per VM; a table gives the same answers.
//! Of the L2 trees only the lowest tables can be missing: a bit in the first entry of each 2 MiB.

use crate::gpa::{Gpa, Level, Rights, VmIndex};

/// What the secure EPT says about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// The host has given nothing here.
    Free,
    /// Given by the host, not yet accepted by L1.
    Pending,
    /// Private and accepted.
    Mapped,
    /// Free in the secure EPT; the host maps it shared.
    Shared,
}

/// The table's entry for one 4 KiB page. Its default is [`PageState::Free`].
///
/// Bits 1:0 state, bit 2 set for a part of a 2 MiB or 1 GiB leaf, bit 3 for a part that an interrupted
/// acceptance has cleared, bit 4 for a part of a 1 GiB leaf, 14:8, 22:16 and 30:24 rights of VM 1 to 3;
/// 15, 23 and 31, in the first page of 2 MiB only: the VM has a table for them.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageEntry(u32);

impl PageEntry {
    /// A page the host has not given.
    pub const FREE: Self = Self(0);

    const LARGE: u32 = 1 << 2;
    const CLEARED: u32 = 1 << 3;
    const HUGE: u32 = 1 << 4;
    const TABLES: u32 = 1 << 15 | 1 << 23 | 1 << 31;
    const RIGHTS: u32 = 0x7f7f_7f00;

    const fn new(state: PageState, level: Level) -> Self {
        let state = match state {
            PageState::Free => 0,
            PageState::Pending => 1,
            PageState::Mapped => 2,
            PageState::Shared => 3,
        };
        match level {
            Level::Size4K => Self(state),
            Level::Size2M | Level::Size1G => Self(state | Self::LARGE),
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(self) -> PageState {
        match self.0 & 3 {
            0 => PageState::Free,
            1 => PageState::Pending,
            2 => PageState::Mapped,
            _ => PageState::Shared,
        }
    }

    /// The level of the leaf this page is mapped by.
    #[must_use]
    pub const fn level(self) -> Level {
        if self.0 & Self::HUGE != 0 {
            Level::Size1G
        } else if self.0 & Self::LARGE != 0 {
            Level::Size2M
        } else {
            Level::Size4K
        }
    }

    /// Returns true if the secure EPT has a leaf here.
    #[must_use]
    pub const fn is_leaf(self) -> bool {
        matches!(self.state(), PageState::Pending | PageState::Mapped)
    }

    /// The rights of a VM's alias; an alias exists if they are present.
    #[must_use]
    pub const fn rights(self, vm: VmIndex) -> Rights {
        // CAST: the shift brings the seven bits into the low byte.
        Rights::from_bits((self.0 >> (8 * vm.number())) as u8)
    }

    const fn with_state(self, state: PageState) -> Self {
        Self((self.0 & !(3 | Self::CLEARED)) | (Self::new(state, Level::Size4K).0))
    }

    const fn with_rights(self, vm: VmIndex, rights: Rights) -> Self {
        let shift = 8 * vm.number();
        Self((self.0 & !(0x7f << shift)) | ((rights.bits() as u32) << shift))
    }
}

/// What a walk of the secure EPT down to a level ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// A leaf at the requested level, or a larger one.
    Leaf(PageEntry),
    /// An entry that points to a table: the page is mapped smaller.
    Table,
    /// Nothing.
    Missing,
}

/// The page table of a TD, from address 0 to the end of RAM.
#[derive(Debug)]
pub struct Pages<'m> {
    entries: &'m mut [PageEntry],
}

impl<'m> Pages<'m> {
    /// Makes a table of memory the emulator provides; every page becomes free.
    pub fn new(entries: &'m mut [PageEntry]) -> Self {
        entries.fill(PageEntry::FREE);
        Self { entries }
    }

    /// The end (exclusive) of the addresses in the table.
    #[must_use]
    pub fn end(&self) -> Gpa {
        Gpa((self.entries.len() as u64) << 12)
    }

    /// The entry of a page; an address beyond the table, or a shared one, is free.
    #[must_use]
    pub fn entry(&self, gpa: Gpa) -> PageEntry {
        let found = usize::try_from(gpa.pfn())
            .ok()
            .and_then(|pfn| self.entries.get(pfn));
        found.copied().unwrap_or(PageEntry::FREE)
    }

    /// The state of a page.
    #[must_use]
    pub fn state(&self, gpa: Gpa) -> PageState {
        self.entry(gpa).state()
    }

    /// What an L2 may do with a page; `None` without an alias or while the page is not accepted.
    #[must_use]
    pub fn l2_rights(&self, vm: VmIndex, gpa: Gpa) -> Option<Rights> {
        let entry = self.entry(gpa);
        let rights = entry.rights(vm);
        (entry.state() == PageState::Mapped && rights.is_present()).then_some(rights)
    }

    /// Walks to `level`. `gpa` must be private.
    #[must_use]
    pub fn walk(&self, gpa: Gpa, level: Level) -> Walk {
        let entry = self.entry(gpa);
        if entry.is_leaf() && entry.level() >= level {
            return Walk::Leaf(entry);
        }
        let below = self.slice(gpa.align_down(level), level.pages());
        if level > Level::Size4K && below.iter().any(|e| e.is_leaf()) {
            return Walk::Table;
        }
        Walk::Missing
    }

    /// TDH.MEM.PAGE.ADD: measured memory of the TD's build, mapped and accepted.
    pub fn host_add_mapped(&mut self, start: Gpa, len_bytes: u64) {
        self.fill(
            start,
            len_bytes >> 12,
            PageEntry::new(PageState::Mapped, Level::Size4K),
        );
    }

    /// TDH.MEM.PAGE.AUG: memory that L1 must accept before it can use it.
    ///
    /// Returns false, changing nothing, unless the range is aligned to the level, known and free.
    pub fn host_aug_pending(&mut self, start: Gpa, level: Level) -> bool {
        if level == Level::Size1G || start.align_down(level) != start {
            return false;
        }
        let below = self.slice(start, level.pages());
        if below.len() as u64 != level.pages() || below.iter().any(|e| e.is_leaf()) {
            return false;
        }
        self.fill(
            start,
            level.pages(),
            PageEntry::new(PageState::Pending, level),
        );
        true
    }

    /// TDH.MEM.PAGE.REMOVE of the 4 KiB page at `gpa`, with all its aliases.
    ///
    /// A larger leaf must be demoted first; until then this returns false and changes nothing.
    pub fn host_remove(&mut self, gpa: Gpa) -> bool {
        let is_small = self.entry(gpa).level() == Level::Size4K;
        if is_small {
            self.fill(gpa.align_down(Level::Size4K), 1, PageEntry::FREE);
        }
        is_small
    }

    /// Records that the host maps the 4 KiB page shared. It must not be mapped private.
    pub fn host_share(&mut self, gpa: Gpa) -> bool {
        let is_free = !self.entry(gpa).is_leaf();
        if is_free {
            let entry = PageEntry::new(PageState::Shared, Level::Size4K);
            self.fill(gpa.align_down(Level::Size4K), 1, entry);
        }
        is_free
    }

    /// TDH.MEM.PAGE.PROMOTE: merges the 2 MiB leaves of the 1 GiB that begins at `start`. Returns false,
    /// changing nothing, unless all of it is accepted in such leaves, with the same rights.
    pub fn host_promote(&mut self, start: Gpa) -> bool {
        let level = Level::Size1G;
        let parts = self.slice(start, level.pages());
        let first = self.entry(start).0 & !PageEntry::TABLES;
        let is_possible = start.align_down(level) == start
            && parts.len() as u64 == level.pages()
            && first & !PageEntry::RIGHTS == PageEntry::new(PageState::Mapped, Level::Size2M).0
            && parts.iter().all(|e| e.0 & !PageEntry::TABLES == first);
        if is_possible {
            for entry in self.slice_mut(start, level.pages()) {
                entry.0 |= PageEntry::HUGE;
            }
        }
        is_possible
    }

    /// TDH.MEM.PAGE.DEMOTE: splits the leaf around `gpa` into leaves of the next smaller size with the
    /// same state and rights, and gives each L2 the table that 4 KiB leaves need. Does nothing if the
    /// leaf has 4 KiB, or there is none.
    pub fn host_demote(&mut self, gpa: Gpa) {
        let level = self.entry(gpa).level();
        let lost = match level {
            Level::Size4K => return,
            Level::Size2M => PageEntry::LARGE | PageEntry::CLEARED,
            Level::Size1G => PageEntry::HUGE,
        };
        if level == Level::Size2M {
            for vm in VmIndex::ALL {
                self.host_add_l2_table(vm, gpa);
            }
        }
        for entry in self.slice_mut(gpa.align_down(level), level.pages()) {
            entry.0 &= !lost;
        }
    }

    /// TDH.MEM.SEPT.ADD for an L2: a table for the 4 KiB pages of the 2 MiB around `gpa`.
    pub fn host_add_l2_table(&mut self, vm: VmIndex, gpa: Gpa) {
        for entry in self.slice_mut(gpa.align_down(Level::Size2M), 1) {
            entry.0 |= 1 << (8 * vm.number() + 7);
        }
    }

    /// Returns true if the host has given that table.
    #[must_use]
    pub fn has_l2_table(&self, vm: VmIndex, gpa: Gpa) -> bool {
        let first = self.entry(gpa.align_down(Level::Size2M));
        first.0 >> (8 * vm.number() + 7) & 1 != 0
    }

    /// Turns a mapped leaf back into a pending one; aliases keep their rights.
    pub(crate) fn release(&mut self, start: Gpa, level: Level) {
        for entry in self.slice_mut(start, level.pages()) {
            *entry = entry.with_state(PageState::Pending);
        }
    }

    /// The first 4 KiB page of a pending leaf that its acceptance has not yet cleared.
    pub(crate) fn next_to_clear(&self, start: Gpa, level: Level) -> Option<Gpa> {
        let parts = self.slice(start, level.pages());
        let first = parts.iter().position(|e| e.0 & PageEntry::CLEARED == 0)?;
        Some(Gpa(start.0 + ((first as u64) << 12)))
    }

    /// Notes that a page has been cleared. What the host does to the leaf makes it forgotten.
    pub(crate) fn set_cleared(&mut self, page: Gpa) {
        for entry in self.slice_mut(page, 1) {
            entry.0 |= PageEntry::CLEARED;
        }
    }

    /// Turns a pending leaf into a mapped one; aliases keep their rights.
    pub(crate) fn accept(&mut self, start: Gpa, level: Level) {
        for entry in self.slice_mut(start, level.pages()) {
            *entry = entry.with_state(PageState::Mapped);
        }
    }

    /// Gives a VM's alias of a leaf these rights.
    pub(crate) fn set_rights(&mut self, start: Gpa, level: Level, vm: VmIndex, rights: Rights) {
        for entry in self.slice_mut(start, level.pages()) {
            *entry = entry.with_rights(vm, rights);
        }
    }

    fn fill(&mut self, start: Gpa, pages: u64, entry: PageEntry) {
        for slot in self.slice_mut(start, pages) {
            slot.0 = (slot.0 & PageEntry::TABLES) | entry.0;
        }
    }

    fn bounds(&self, start: Gpa, pages: u64) -> (usize, usize) {
        let len = self.entries.len() as u64;
        let first = start.pfn().min(len);
        let end = first.saturating_add(pages).min(len);
        // CAST: both are at most the length of a slice.
        (first as usize, end as usize)
    }

    fn slice(&self, start: Gpa, pages: u64) -> &[PageEntry] {
        let (first, end) = self.bounds(start, pages);
        self.entries.get(first..end).unwrap_or(&[])
    }

    fn slice_mut(&mut self, start: Gpa, pages: u64) -> &mut [PageEntry] {
        let (first, end) = self.bounds(start, pages);
        self.entries.get_mut(first..end).unwrap_or(&mut [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_MIB: u64 = 2 << 20;

    fn with_pages(test: impl FnOnce(Pages<'_>)) {
        let mut entries = [PageEntry::default(); 1024];
        test(Pages::new(&mut entries));
    }

    #[test]
    fn large_page_is_a_leaf_for_small_walks_and_a_table_after_demotion() {
        with_pages(|mut p| {
            assert!(p.host_aug_pending(Gpa(TWO_MIB), Level::Size2M));
            let inner = Gpa(TWO_MIB + 0x5000);
            assert!(
                matches!(p.walk(inner, Level::Size4K), Walk::Leaf(e) if e.level() == Level::Size2M)
            );
            assert!(!p.host_remove(inner));
            p.set_rights(Gpa(TWO_MIB), Level::Size2M, VmIndex::Vm2, Rights::RWX);
            p.host_demote(inner);
            assert_eq!(p.walk(Gpa(TWO_MIB), Level::Size2M), Walk::Table);
            assert_eq!(p.entry(inner).rights(VmIndex::Vm2), Rights::RWX);
            assert_eq!(p.entry(inner).rights(VmIndex::Vm1), Rights::default());
            assert!(p.host_remove(inner));
            assert_eq!(p.entry(inner), PageEntry::FREE);
        });
    }

    #[test]
    fn accepted_large_pages_of_equal_rights_become_one_that_is_split_step_by_step() {
        const GIB: u64 = 1 << 30;
        let mut entries = std::vec![PageEntry::default(); 3 << 18];
        let mut p = Pages::new(&mut entries);
        let (start, last) = (Gpa(GIB), Gpa(2 * GIB - TWO_MIB));
        for gpa in (GIB..3 * GIB).step_by(2 << 20).map(Gpa) {
            assert!(p.host_aug_pending(gpa, Level::Size2M));
            assert!(gpa != last || !p.host_promote(start));
            p.accept(gpa, Level::Size2M);
        }
        p.set_rights(last, Level::Size2M, VmIndex::Vm3, Rights::R);
        assert!(!p.host_promote(start));
        p.set_rights(last, Level::Size2M, VmIndex::Vm3, Rights::default());
        assert!(!p.host_promote(Gpa(GIB + TWO_MIB)) && !p.host_promote(Gpa(0)));
        assert!(!p.host_promote(Gpa(3 * GIB)));
        // A table of an L2 is no difference.
        p.host_add_l2_table(VmIndex::Vm1, last);
        assert!(p.host_promote(start) && !p.host_promote(start));

        let level = |p: &Pages<'_>, gpa| p.entry(gpa).level();
        assert!(matches!(p.walk(last, Level::Size1G), Walk::Leaf(_)));
        assert_eq!(level(&p, Gpa(2 * GIB)), Level::Size2M);
        p.set_rights(start, Level::Size1G, VmIndex::Vm1, Rights::RWX);
        assert_eq!(
            p.l2_rights(VmIndex::Vm1, Gpa(2 * GIB - 1)),
            Some(Rights::RWX)
        );
        assert_eq!(p.l2_rights(VmIndex::Vm1, Gpa(2 * GIB)), None);
        assert!(!p.host_remove(last));
        p.host_demote(last);
        assert_eq!(p.walk(start, Level::Size1G), Walk::Table);
        assert_eq!(
            (level(&p, start), level(&p, last)),
            (Level::Size2M, Level::Size2M)
        );
        p.host_demote(last);
        assert_eq!(
            (level(&p, start), level(&p, last)),
            (Level::Size2M, Level::Size4K)
        );
        assert_eq!(p.l2_rights(VmIndex::Vm1, last), Some(Rights::RWX));
        assert!(p.host_remove(last) && !p.host_promote(start));
    }

    #[test]
    fn alias_of_a_pending_page_is_blocked_until_acceptance() {
        with_pages(|mut p| {
            assert!(p.host_aug_pending(Gpa(0x3000), Level::Size4K));
            p.set_rights(Gpa(0x3000), Level::Size4K, VmIndex::Vm1, Rights::R);
            assert_eq!(p.l2_rights(VmIndex::Vm1, Gpa(0x3000)), None);
            p.accept(Gpa(0x3000), Level::Size4K);
            assert_eq!(p.l2_rights(VmIndex::Vm1, Gpa(0x3fff)), Some(Rights::R));
            assert_eq!(p.l2_rights(VmIndex::Vm3, Gpa(0x3fff)), None);
        });
    }

    #[test]
    fn addresses_beyond_the_table_are_free() {
        with_pages(|mut p| {
            assert_eq!(p.state(Gpa(u64::MAX)), PageState::Free);
            assert_eq!(p.walk(Gpa(4 * TWO_MIB), Level::Size1G), Walk::Missing);
            assert!(!p.host_aug_pending(Gpa(4 * TWO_MIB), Level::Size4K));
            assert!(!p.host_aug_pending(Gpa(0x1000), Level::Size2M));
            p.host_add_mapped(Gpa(0), u64::MAX);
            assert!(!p.host_share(Gpa(0x1000)));
        });
    }
}
