// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the TDX module does for the host: pages change between private and shared.
//!
//! The emulator's host calls this for the MapGPA request of TDG.VP.VMCALL and to answer EPT
//! violations. Page functions without an effect on running guests are in `page_state.rs`.

use crate::gpa::{Gpa, Level, VmIndex};
use crate::machine::{L1Mapping, Machine};
use crate::page_state::PageState;
use crate::td::Td;

/// What MapGPA turns a range into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Removed from the secure EPT and mapped shared.
    ToShared,
    /// No longer shared; given to the TD as pending 4 KiB pages.
    ToPrivate,
}

impl Td<'_> {
    /// Converts the 4 KiB pages of `start..start + len_bytes` (end exclusive).
    ///
    /// Pages that already have the requested state are not changed, so that a repeated request
    /// loses no content.
    ///
    /// # Errors
    ///
    /// The first page that does not exist; the pages before it are converted.
    pub fn host_convert<M: Machine>(
        &mut self,
        start: Gpa,
        len_bytes: u64,
        to: Conversion,
        machine: &mut M,
    ) -> Result<(), Gpa> {
        let start = start.without_shared().align_down(Level::Size4K);
        for page in 0..len_bytes.div_ceil(4096) {
            let gpa = Gpa(start.0.saturating_add(page << 12));
            if gpa >= self.pages.end() {
                return Err(gpa);
            }
            self.host_convert_page(gpa, to, machine);
        }
        Ok(())
    }

    /// TDH.MEM.RANGE.BLOCK and TDH.MEM.PAGE.REMOVE of one 4 KiB page, with demotion where needed.
    pub fn host_remove_page<M: Machine>(&mut self, gpa: Gpa, machine: &mut M) {
        let gpa = gpa.align_down(Level::Size4K);
        while self.pages.entry(gpa).level() != Level::Size4K {
            self.host_demote_page(gpa, machine);
        }
        let entry = self.pages.entry(gpa);
        if self.pages.host_remove(gpa) {
            for vm in VmIndex::ALL
                .into_iter()
                .filter(|vm| entry.rights(*vm).is_present())
            {
                machine.l2_mapping_changed(vm, gpa, Level::Size4K, None);
            }
            machine.l1_mapping_changed(gpa, Level::Size4K, L1Mapping::Absent);
            // The host calls TDH.MEM.TRACK before the removal.
            if self.stale.flush_everywhere() {
                machine.flush_l2_everywhere();
            }
        }
    }

    /// Adds one 4 KiB pending page to the TD. Returns false if the address is in use, by a page of the TD
    /// or one that is shared.
    pub fn host_give_page(&mut self, gpa: Gpa) -> bool {
        let page = gpa.align_down(Level::Size4K);
        self.pages.state(page) == PageState::Free
            && self.pages.host_aug_pending(page, Level::Size4K)
    }

    /// TDH.MEM.PAGE.DEMOTE around `gpa`: what the host does when a leaf requests a smaller page. Splits
    /// 1 GiB into 2 MiB, or 2 MiB into 4 KiB.
    ///
    /// Mappings do not change, so the machine is not notified.
    pub fn host_demote_page<M: Machine>(&mut self, gpa: Gpa, _machine: &mut M) {
        self.pages.host_demote(gpa);
    }

    fn host_convert_page<M: Machine>(&mut self, gpa: Gpa, to: Conversion, machine: &mut M) {
        match (to, self.pages.state(gpa)) {
            (Conversion::ToShared, PageState::Shared)
            | (Conversion::ToPrivate, PageState::Pending | PageState::Mapped) => {}
            (Conversion::ToShared, _) => {
                self.host_remove_page(gpa, machine);
                self.pages.host_share(gpa);
                machine.l1_mapping_changed(gpa, Level::Size4K, L1Mapping::Shared);
            }
            (Conversion::ToPrivate, _) => {
                machine.l1_mapping_changed(gpa, Level::Size4K, L1Mapping::Absent);
                self.pages.host_aug_pending(gpa, Level::Size4K);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpa::Rights;
    use crate::testing::{Event, with_td};

    #[test]
    fn page_loses_its_aliases_on_the_way_to_shared_and_comes_back_pending() {
        with_td(|td, _, m| {
            let gpa = Gpa(0x5000);
            td.pages
                .set_rights(gpa, Level::Size4K, VmIndex::Vm1, Rights::RWX);
            assert_eq!(
                td.host_convert(gpa, 0x1000, Conversion::ToShared, m),
                Ok(())
            );
            let level = Level::Size4K;
            let want = [
                Event::L2(VmIndex::Vm1, gpa, level, None),
                Event::L1(gpa, level, L1Mapping::Absent),
                Event::L1(gpa, level, L1Mapping::Shared),
            ];
            assert_eq!(m.events, want);
            assert_eq!(td.pages.state(gpa), PageState::Shared);
            assert_eq!(
                td.host_convert(gpa, 0x1000, Conversion::ToPrivate, m),
                Ok(())
            );
            assert_eq!(td.pages.state(gpa), PageState::Pending);
            assert_eq!(td.pages.entry(gpa).rights(VmIndex::Vm1), Rights::default());
        });
    }

    #[test]
    fn what_was_still_held_is_flushed_everywhere_with_the_removal_of_a_page() {
        with_td(|td, _, m| {
            let (vm, gpa) = (VmIndex::Vm1, Gpa(0x5000));
            td.stale.run(0, vm);
            td.stale
                .reduce(vm, gpa, Level::Size4K, Rights::RWX, Rights::R);
            td.host_remove_page(Gpa(0x6000), m);
            assert_eq!(td.stale.find(0, vm, gpa), None);
            assert_eq!(m.events.last(), Some(&Event::FlushEverywhere));
        });
    }

    #[test]
    fn page_that_is_shared_is_not_given_a_second_time() {
        with_td(|td, _, m| {
            let gpa = Gpa(0x5000);
            td.host_convert(gpa, 1, Conversion::ToShared, m).unwrap();
            assert!(!td.host_give_page(gpa));
            assert_eq!(td.pages.state(gpa), PageState::Shared);
            td.host_convert(gpa, 1, Conversion::ToPrivate, m).unwrap();
            td.host_remove_page(gpa, m);
            assert!(td.host_give_page(Gpa(0x5123)) && !td.host_give_page(gpa));
            assert_eq!(td.pages.state(gpa), PageState::Pending);
        });
    }

    #[test]
    fn large_page_is_demoted_before_a_part_of_it_is_converted() {
        with_td(|td, _, m| {
            assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size2M));
            assert_eq!(
                td.host_convert(Gpa(0x20_1000), 1, Conversion::ToShared, m),
                Ok(())
            );
            assert_eq!(td.pages.state(Gpa(0x20_1000)), PageState::Shared);
            assert_eq!(td.pages.state(Gpa(0x20_2000)), PageState::Pending);
        });
    }

    #[test]
    fn conversion_stops_at_the_end_of_memory() {
        with_td(|td, _, m| {
            let end = td.pages.end();
            let start = Gpa(end.0 - 0x1000);
            assert_eq!(
                td.host_convert(start, 0x2000, Conversion::ToShared, m),
                Err(end)
            );
            assert_eq!(td.pages.state(start), PageState::Shared);
            assert!(
                td.host_convert(Gpa(u64::MAX), u64::MAX, Conversion::ToPrivate, m)
                    .is_err()
            );
        });
    }
}
