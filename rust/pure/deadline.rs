// SPDX-License-Identifier: GPL-2.0
//! Timers of the lower VTLs: the TSC_DEADLINE field of each L2 VM, as userspace set it.
//!
//! Once the deadline has passed, or slightly before, the TDX module ends the current run, and each later
//! run immediately, until the field is written again. A halted lower VTL does not run, so the kernel's
//! own timer stands in. [ABI TSC_DEADLINE]
//!
//! Userspace may leave the timer of VM 1's APIC to the kernel while it is in TSC-deadline mode: the
//! kernel then writes the guest's IA32_TSC_DEADLINE to the field, and posts the timer's interrupt once
//! the deadline has passed.

use super::apic::Vector;
use super::field::{PerVm, VmIndex};

/// IA32_TSC_DEADLINE. [SDM3 12.5.4.1]
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;

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

/// The timer of VM 1's APIC, as the run page has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApicTimer {
    /// Value of IA32_TSC_DEADLINE.
    pub deadline: u64,
    /// Vector of its interrupt. Below 16: the timer is userspace's.
    pub vector: u8,
}

/// The effects of a write of IA32_TSC_DEADLINE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerWrite {
    /// New value of the field.
    pub field: u64,
    /// New value of IA32_TSC_DEADLINE.
    pub deadline: u64,
    /// The interrupt to post now, because the deadline has already passed.
    pub expired: Option<Vector>,
}

/// What the end of a deadline means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// The deadline is not the timer's, so userspace has to handle it.
    Userspaces,
    /// The timer's deadline has not passed, and stays armed: the TDX module rounds it down to the rate of
    /// the VMX-preemption timer, which has 32 bits only. Each entry starts that timer again.
    Early,
    /// The timer's deadline has passed: this is the interrupt to post.
    Interrupt(Vector),
}

impl ApicTimer {
    /// Returns the effects of writing `value` at `tsc`; `None` if userspace has to handle it.
    pub const fn write(self, value: u64, tsc: u64) -> Option<TimerWrite> {
        let Some(vector) = Vector::new(self.vector) else {
            return None;
        };
        let has_passed = value != 0 && value <= tsc;
        let deadline = if has_passed { 0 } else { value };
        Some(TimerWrite {
            field: field_value(deadline),
            deadline,
            expired: if has_passed { Some(vector) } else { None },
        })
    }

    /// Returns what an exit of reason 52 means at `tsc`, with the field `armed`.
    pub const fn expired(self, armed: Option<u64>, tsc: u64) -> Expiry {
        match (armed, Vector::new(self.vector)) {
            (Some(deadline), Some(vector)) if deadline == self.deadline => {
                if tsc >= deadline {
                    Expiry::Interrupt(vector)
                } else {
                    Expiry::Early
                }
            }
            _ => Expiry::Userspaces,
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

    const TIMER: ApicTimer = ApicTimer {
        deadline: 1000,
        vector: 0x41,
    };

    #[test]
    fn a_timer_without_a_vector_is_userspaces() {
        for vector in 0..=255 {
            let timer = ApicTimer { vector, ..TIMER };
            let is_served = vector >= 16;
            assert_eq!(
                (vector, timer.write(2000, 1).is_some()),
                (vector, is_served)
            );
            for tsc in [999, 1000] {
                let is_ours = timer.expired(Some(1000), tsc) != Expiry::Userspaces;
                assert_eq!((vector, is_ours), (vector, is_served));
            }
        }
    }

    #[test]
    fn a_write_arms_the_future_and_interrupts_for_the_past() {
        let write = |value| TIMER.write(value, 5000).unwrap();
        let vector = Vector::new(0x41);
        let expected = |field, deadline, expired| TimerWrite {
            field,
            deadline,
            expired,
        };
        assert_eq!(write(5001), expected(5001, 5001, None));
        assert_eq!(write(5000), expected(NEVER, 0, vector));
        assert_eq!(write(1), expected(NEVER, 0, vector));
        // Zero takes it back.
        assert_eq!(write(0), expected(NEVER, 0, None));
        assert_eq!(write(NEVER), expected(NEVER, NEVER, None));
    }

    #[test]
    fn only_the_deadline_that_the_guest_has_set_is_an_interrupt() {
        let interrupt = Expiry::Interrupt(Vector::new(0x41).unwrap());
        assert_eq!(TIMER.expired(Some(1000), 1000), interrupt);
        assert_eq!(TIMER.expired(Some(1000), u64::MAX), interrupt);
        // Userspace has armed another one for itself.
        assert_eq!(TIMER.expired(Some(500), 1000), Expiry::Userspaces);
        assert_eq!(TIMER.expired(None, u64::MAX), Expiry::Userspaces);
        let none = ApicTimer {
            deadline: 0,
            ..TIMER
        };
        assert_eq!(none.expired(Some(1000), 1000), Expiry::Userspaces);
    }

    #[test]
    fn an_exit_before_the_deadline_is_no_interrupt_and_not_userspaces() {
        for tsc in [0, 1, 999] {
            assert_eq!(TIMER.expired(Some(1000), tsc), Expiry::Early);
            assert_eq!(TIMER.expired(Some(1001), tsc), Expiry::Userspaces);
        }
    }

    #[test]
    fn zero_in_the_run_page_means_none() {
        assert_eq!(field_value(0), NEVER);
        assert_eq!(field_value(1), 1);
        assert_eq!(field_value(NEVER), NEVER);
    }
}
