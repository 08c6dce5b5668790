// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rights of L2 VMs that L1 has revoked and that logical processors may still use.
//!
//! The TDX module changes the secure EPT of an L2 for the whole TD, but flushes at most on the
//! logical processor on which it is called, and only if requested [ABI TDG.MEM.PAGE.ATTR.WR]. Every
//! other virtual processor that has run the VM since its own last flush may still cache the old
//! translation. INVEPT removes it; INVVPID does not, because it keeps translations of
//! guest-physical addresses; an EPT violation does, for the page that it concerns
//! [SDM3 caching translation information]. Before the host removes a page, it is flushed everywhere
//! (TDH.MEM.TRACK).
//!
//! A processor may drop any cached translation at any time. So it does no harm that the record is
//! bounded: when it is full, the oldest entry is dropped.

use crate::gpa::{Gpa, Level, Rights, VmIndex};

/// Virtual processors that are tracked separately.
pub const MAX_VCPUS: usize = 64;

/// A revoked right. All zero means a free entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reduction {
    first_pfn: u64,
    pages: u64,
    /// Virtual processors that may still use it, a bit for each.
    holders: u64,
    vm: u8,
    rights: u8,
}

impl Reduction {
    fn is_of(&self, vcpu: u32, vm: VmIndex, pfn: u64) -> bool {
        self.vm == vm.number()
            && self.holders & bit(vcpu) != 0
            && pfn.wrapping_sub(self.first_pfn) < self.pages
    }
}

/// What a virtual processor may still do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldRights {
    /// The rights.
    pub rights: Rights,
    /// L1 has since declared its revocations complete.
    pub is_declared_gone: bool,
}

/// The record, one per TD.
#[derive(Debug)]
pub struct Stale<'m> {
    /// A ring: reduction `number` is at `number % len`.
    reductions: &'m mut [Reduction],
    /// How many there were, which is the number of the latest.
    count: u64,
    /// The latest that each virtual processor has flushed, per VM.
    flushed: [[u64; 3]; MAX_VCPUS],
    /// The latest that all have.
    flushed_everywhere: u64,
    /// The latest that L1 has declared complete.
    declared: u64,
    /// Virtual processors that have run a VM since they flushed it last, a bit for each.
    users: [u64; 3],
}

/// The bit of a virtual processor; none beyond [`MAX_VCPUS`].
const fn bit(vcpu: u32) -> u64 {
    if (vcpu as usize) < MAX_VCPUS {
        1 << vcpu
    } else {
        0
    }
}

const fn index(vm: VmIndex) -> usize {
    vm.number() as usize - 1
}

impl<'m> Stale<'m> {
    /// An empty record with room for as many reductions. Without room nothing is ever stale.
    #[must_use]
    pub fn new(reductions: &'m mut [Reduction]) -> Self {
        Self {
            reductions,
            count: 0,
            flushed: [[0; 3]; MAX_VCPUS],
            flushed_everywhere: 0,
            declared: 0,
            users: [0; 3],
        }
    }

    /// A virtual processor runs a VM from now on.
    pub(crate) fn run(&mut self, vcpu: u32, vm: VmIndex) {
        if let Some(users) = self.users.get_mut(index(vm)) {
            *users |= bit(vcpu);
        }
    }

    /// INVEPT of a VM on the logical processor of `vcpu`.
    pub(crate) fn flush(&mut self, vcpu: u32, vm: VmIndex) {
        if let Some(users) = self.users.get_mut(index(vm)) {
            *users &= !bit(vcpu);
        }
        let flushed = self.flushed.get_mut(vcpu as usize);
        if let Some(flushed) = flushed.and_then(|vms| vms.get_mut(index(vm))) {
            *flushed = self.count;
        }
    }

    /// INVEPT of all VMs on all processors. Returns true if that removed a right that was still
    /// cached.
    pub(crate) fn flush_everywhere(&mut self) -> bool {
        let is_needed = self.flushed_everywhere != self.count;
        self.flushed_everywhere = self.count;
        is_needed
    }

    /// L1 revoked rights of a VM to a leaf, or removed the page.
    pub(crate) fn reduce(&mut self, vm: VmIndex, gpa: Gpa, level: Level, old: Rights, new: Rights) {
        let holders = self.users.get(index(vm)).copied().unwrap_or(0);
        if self.reductions.is_empty() || holders == 0 || new.contains(old) {
            return;
        }
        self.count += 1;
        let slot = self.slot(self.count);
        if let Some(reduction) = self.reductions.get_mut(slot) {
            *reduction = Reduction {
                first_pfn: gpa.align_down(level).pfn(),
                pages: level.pages(),
                holders,
                vm: vm.number(),
                rights: old.bits(),
            };
        }
    }

    /// What a virtual processor may still do with a page although L1 revoked it.
    #[must_use]
    pub fn find(&self, vcpu: u32, vm: VmIndex, gpa: Gpa) -> Option<OldRights> {
        let mut found = None;
        for number in self.alive(vcpu, vm) {
            let reduction = self.reductions.get(self.slot(number));
            let Some(reduction) = reduction.filter(|r| r.is_of(vcpu, vm, gpa.pfn())) else {
                continue;
            };
            let so_far = found.map_or(0, |old: OldRights| old.rights.bits());
            found = Some(OldRights {
                rights: Rights::from_bits(so_far | reduction.rights),
                is_declared_gone: number <= self.declared,
            });
        }
        found
    }

    /// An EPT violation of a VM: its processor drops its translations of the page.
    pub fn forget(&mut self, vcpu: u32, vm: VmIndex, gpa: Gpa) {
        for number in self.alive(vcpu, vm) {
            let slot = self.slot(number);
            if let Some(reduction) = self.reductions.get_mut(slot) {
                if reduction.is_of(vcpu, vm, gpa.pfn()) {
                    reduction.holders &= !bit(vcpu);
                }
            }
        }
    }

    /// L1 declares that no processor can use any longer what it has revoked so far.
    pub fn declare_gone(&mut self) {
        self.declared = self.count;
    }

    fn slot(&self, number: u64) -> usize {
        // CAST: below the length of a slice.
        number
            .checked_rem(self.reductions.len() as u64)
            .unwrap_or(0) as usize
    }

    /// Numbers of the reductions that a processor has not flushed, as far as there was room.
    fn alive(&self, vcpu: u32, vm: VmIndex) -> core::ops::RangeInclusive<u64> {
        let own = self.flushed.get(vcpu as usize);
        let own = own.and_then(|vms| vms.get(index(vm))).copied();
        let kept = self.count.saturating_sub(self.reductions.len() as u64);
        let gone = kept.max(self.flushed_everywhere).max(own.unwrap_or(0));
        gone + 1..=self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpa::VmIndex::{Vm1, Vm2};

    const PAGE: Gpa = Gpa(0x5000);
    const NONE: Rights = Rights::from_bits(0);

    fn with_room(room: usize, test: impl FnOnce(&mut Stale<'_>)) {
        let mut reductions = std::vec![Reduction::default(); room];
        let mut stale = Stale::new(&mut reductions);
        stale.run(0, Vm1);
        stale.run(1, Vm1);
        test(&mut stale);
    }

    fn take(stale: &mut Stale<'_>, gpa: Gpa) {
        stale.reduce(Vm1, gpa, Level::Size4K, Rights::RWX, NONE);
    }

    fn rights(stale: &Stale<'_>, vcpu: u32, gpa: Gpa) -> Option<Rights> {
        stale.find(vcpu, Vm1, gpa).map(|old| old.rights)
    }

    #[test]
    fn an_old_right_lasts_until_its_processor_flushes_its_vm() {
        with_room(8, |stale| {
            take(stale, PAGE);
            stale.flush(0, Vm1);
            stale.flush(1, Vm2);
            assert_eq!(rights(stale, 0, PAGE), None);
            assert_eq!(rights(stale, 1, Gpa(PAGE.0 + 0xfff)), Some(Rights::RWX));
            assert_eq!(rights(stale, 1, Gpa(PAGE.0 + 0x1000)), None);
            assert_eq!(stale.find(1, Vm2, PAGE), None);
            stale.flush(1, Vm1);
            assert_eq!(rights(stale, 1, PAGE), None);
        });
    }

    #[test]
    fn a_processor_that_has_not_run_the_vm_since_its_flush_holds_nothing() {
        with_room(8, |stale| {
            stale.flush(0, Vm1);
            take(stale, PAGE);
            assert_eq!(rights(stale, 0, PAGE), None);
            assert_eq!(rights(stale, 2, PAGE), None);
            assert_eq!(rights(stale, 1, PAGE), Some(Rights::RWX));
            // Running it afterwards brings nothing back.
            stale.run(0, Vm1);
            assert_eq!(rights(stale, 0, PAGE), None);
        });
    }

    #[test]
    fn more_rights_leave_nothing_behind_and_fewer_add_up() {
        with_room(8, |stale| {
            let r = Rights::R;
            stale.reduce(Vm1, PAGE, Level::Size4K, r, Rights::RWX);
            assert_eq!(rights(stale, 0, PAGE), None);
            let rw = Rights::from_bits(3);
            stale.reduce(Vm1, PAGE, Level::Size4K, rw, r);
            stale.reduce(Vm1, PAGE, Level::Size4K, Rights::from_bits(5), NONE);
            assert_eq!(rights(stale, 0, PAGE), Some(Rights::from_bits(7)));
        });
    }

    #[test]
    fn a_large_page_is_held_whole() {
        with_room(8, |stale| {
            let start = Gpa(0x20_0000);
            stale.reduce(Vm1, start, Level::Size2M, Rights::R, NONE);
            assert_eq!(rights(stale, 0, Gpa(0x3f_ffff)), Some(Rights::R));
            assert_eq!(rights(stale, 0, Gpa(0x40_0000)), None);
            assert_eq!(rights(stale, 0, Gpa(0x1f_ffff)), None);
        });
    }

    #[test]
    fn a_violation_ends_it_for_that_page_and_processor() {
        with_room(8, |stale| {
            take(stale, PAGE);
            take(stale, Gpa(0x6000));
            stale.forget(0, Vm1, PAGE);
            assert_eq!(rights(stale, 0, PAGE), None);
            assert_eq!(rights(stale, 0, Gpa(0x6000)), Some(Rights::RWX));
            assert_eq!(rights(stale, 1, PAGE), Some(Rights::RWX));
        });
    }

    #[test]
    fn what_the_host_tracks_is_gone_everywhere() {
        with_room(8, |stale| {
            assert!(!stale.flush_everywhere());
            take(stale, PAGE);
            assert!(stale.flush_everywhere());
            assert!(!stale.flush_everywhere());
            assert_eq!(
                (rights(stale, 0, PAGE), rights(stale, 1, PAGE)),
                (None, None)
            );
            take(stale, PAGE);
            assert_eq!(rights(stale, 1, PAGE), Some(Rights::RWX));
        });
    }

    #[test]
    fn what_was_taken_after_the_declaration_is_not_declared() {
        with_room(8, |stale| {
            take(stale, PAGE);
            stale.declare_gone();
            take(stale, Gpa(0x6000));
            let declared = |gpa| stale.find(0, Vm1, gpa).map(|old| old.is_declared_gone);
            assert_eq!(declared(PAGE), Some(true));
            assert_eq!(declared(Gpa(0x6000)), Some(false));
        });
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_is_no_room() {
        with_room(2, |stale| {
            for page in 1..=3 {
                take(stale, Gpa(page << 12));
            }
            assert_eq!(rights(stale, 0, Gpa(0x1000)), None);
            assert_eq!(rights(stale, 0, Gpa(0x2000)), Some(Rights::RWX));
            assert_eq!(rights(stale, 0, Gpa(0x3000)), Some(Rights::RWX));
        });
        with_room(0, |stale| {
            take(stale, PAGE);
            assert_eq!(rights(stale, 0, PAGE), None);
            stale.forget(0, Vm1, PAGE);
            assert!(!stale.flush_everywhere());
        });
    }

    #[test]
    fn processors_beyond_the_limit_hold_nothing() {
        with_room(8, |stale| {
            stale.run(64, Vm1);
            take(stale, PAGE);
            stale.flush(64, Vm1);
            assert_eq!(rights(stale, 64, PAGE), None);
        });
    }
}
