// SPDX-License-Identifier: GPL-2.0
//! The page by which userspace and the kernel share the VTL switches of one VP. `pure::vtl_switch`
//! says what its contents mean.
//!
//! As with the run page, userspace may write to any byte at any time, so each field is read once
//! per use. During a call the kernel has its own copy of the state of the VTL that does not run.

use crate::glue::page::SharedPage;
use crate::pure::field::VmIndex;
use crate::pure::uapi::switch as offset;
use crate::pure::vtl_switch::{Enable, Left, Parked, PARKED_WORDS};

/// The switch page of one VP.
pub(crate) struct SwitchPage(SharedPage);

impl SwitchPage {
    /// Takes a zeroed page.
    pub(crate) fn new(page: SharedPage) -> Self {
        Self(page)
    }

    /// The page, to be mapped.
    pub(crate) fn page(&self) -> &SharedPage {
        &self.0
    }

    /// Resets the page to its initial contents, except the counters: the thread that has requested
    /// an invalidation by changing one will not do so again, and which value was taken is not
    /// forgotten either.
    pub(crate) fn reset(&self) {
        self.0.clear(0..offset::FLUSH);
        self.0.clear_from(offset::FLUSHED + offset::COUNTERS_SIZE);
    }

    /// Reads what the kernel may handle; `None` if an undefined bit is set.
    pub(crate) fn read_enable(&self) -> Option<Enable> {
        Enable::new(self.0.read_u32(offset::ENABLE))
    }

    /// Reads the private state of a VTL; `None` for VM 3, which is no VTL, and if an undefined bit
    /// is set.
    pub(crate) fn read_parked(&self, vm: VmIndex) -> Option<Parked> {
        let mut words = [0; PARKED_WORDS];
        self.0.read_words(place(vm)?, &mut words);
        Parked::from_words(&words)
    }

    /// Stores the private state of the VTL that does not run, and which one runs.
    pub(crate) fn store_parked(&self, vm: VmIndex, parked: &Parked, active: VmIndex) {
        if let Some(place) = place(vm) {
            self.0.write_words(place, &parked.to_words());
        }
        self.0.write_u32(offset::ACTIVE_VM, u32::from(active.get()));
    }

    /// Stores why a VTL call or return is left to userspace.
    pub(crate) fn store_left(&self, left: Option<Left>) {
        let number = left.map_or(0, |left| left as u32); // CAST: its number
        self.0.write_u32(offset::LEFT, number);
    }

    /// Reads the counter whose changes request an invalidation.
    pub(crate) fn read_flush(&self, vm: VmIndex) -> u64 {
        self.0.read_u64(offset::FLUSH + 8 * usize::from(vm.get()))
    }

    /// Reports which value of the counter an entry has carried out.
    pub(crate) fn store_flushed(&self, vm: VmIndex, counter: u64) {
        self.0
            .write_u64(offset::FLUSHED + 8 * usize::from(vm.get()), counter);
    }
}

/// Offset of the private state of a VTL.
const fn place(vm: VmIndex) -> Option<usize> {
    match vm {
        VmIndex::VM1 => Some(offset::PARKED),
        VmIndex::VM2 => Some(offset::PARKED + offset::PARKED_SIZE),
        _ => None,
    }
}

const _: () = assert!(PARKED_WORDS * 8 == offset::PARKED_SIZE);
