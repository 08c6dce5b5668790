// SPDX-License-Identifier: GPL-2.0
//! Timers of the lower VTLs: the TSC_DEADLINE field of each L2 VM, as userspace set it.
//!
//! Once the deadline has passed, the TDX module ends the current run, and each later run
//! immediately, until the field is written again. A halted lower VTL does not run, so the kernel's
//! own timer stands in. [ABI TSC_DEADLINE]

use super::field::{PerVm, VmIndex};

/// Value of the field for no deadline.
pub const NEVER: u64 = u64::MAX;

/// The armed deadlines, per VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deadlines(PerVm<Option<u64>>);

/// The kernel drops a deadline that userspace has seen pass and has not replaced, this many TSC
/// ticks (some microseconds) after its time. It does not do so immediately: userspace counts time
/// in coarser units, so it may find that the time has not quite come and leave the same deadline in
/// place.
const STALE_TICKS: u64 = 1 << 15;

impl Deadlines {
    /// Deadline of a VM in TSC ticks.
    pub const fn get(&self, vm: VmIndex) -> Option<u64> {
        *self.0.of(vm)
    }

    /// Records a value written to the field.
    pub const fn set(&mut self, vm: VmIndex, field: u64) {
        *self.0.of_mut(vm) = if field == NEVER { None } else { Some(field) };
    }

    /// Returns true if the deadline has passed at `tsc`.
    pub const fn is_due(&self, vm: VmIndex, tsc: u64) -> bool {
        match self.get(vm) {
            Some(deadline) => tsc >= deadline,
            None => false,
        }
    }

    /// Returns true if it passed so long ago that it must be dropped.
    pub const fn is_stale(&self, vm: VmIndex, tsc: u64) -> bool {
        match self.get(vm) {
            Some(deadline) => tsc >= deadline.saturating_add(STALE_TICKS),
            None => false,
        }
    }

    /// Ticks from `tsc` until the deadline; `None` if none is armed.
    pub const fn ticks_left(&self, vm: VmIndex, tsc: u64) -> Option<u64> {
        match self.get(vm) {
            Some(deadline) => Some(deadline.saturating_sub(tsc)),
            None => None,
        }
    }
}

/// Value of the field for a deadline of the run page, where 0 means none.
pub const fn field_value(deadline: u64) -> u64 {
    if deadline == 0 {
        NEVER
    } else {
        deadline
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_deadline),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_has_its_own_deadline() {
        let mut deadlines = Deadlines::default();
        let vms = [1, 2, 3].map(|vm| VmIndex::new(vm).unwrap());
        for vm in vms {
            deadlines.set(vm, 100 * u64::from(vm.get()));
        }
        for vm in vms {
            assert_eq!(deadlines.get(vm), Some(100 * u64::from(vm.get())));
        }
        deadlines.set(vms[1], NEVER);
        assert_eq!(deadlines.get(vms[1]), None);
        assert_eq!(deadlines.get(vms[2]), Some(300));
    }

    #[test]
    fn due_from_its_time_on_and_stale_some_time_later() {
        let mut deadlines = Deadlines::default();
        let vm = VmIndex::VM1;
        assert!(!deadlines.is_due(vm, u64::MAX) && !deadlines.is_stale(vm, u64::MAX));
        assert_eq!(deadlines.ticks_left(vm, 0), None);
        deadlines.set(vm, 1000);
        assert!(!deadlines.is_due(vm, 999));
        assert!(deadlines.is_due(vm, 1000));
        assert!(!deadlines.is_stale(vm, 1000 + STALE_TICKS - 1));
        assert!(deadlines.is_stale(vm, 1000 + STALE_TICKS));
        assert_eq!(deadlines.ticks_left(vm, 400), Some(600));
        assert_eq!(deadlines.ticks_left(vm, 1001), Some(0));
        // Close to the end of the counter nothing wraps.
        deadlines.set(vm, NEVER - 1);
        assert!(!deadlines.is_stale(vm, NEVER - 1));
    }

    #[test]
    fn zero_in_the_run_page_means_none() {
        assert_eq!(field_value(0), NEVER);
        assert_eq!(field_value(1), 1);
        assert_eq!(field_value(NEVER), NEVER);
    }
}
