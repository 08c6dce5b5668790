// SPDX-License-Identifier: GPL-2.0
//! Timers of the lower VTLs: the TSC_DEADLINE field of each L2 VM.
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

/// The armed deadlines: those of userspace, and that of the timer of VM 1's APIC while the kernel
/// serves it. Neither replaces the other: the field of each VM has the earliest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deadlines {
    /// Userspace's own, per VM.
    own: PerVm<Option<u64>>,
    /// That of the timer.
    timer: Option<u64>,
    in_vtl1: InVtl1,
    /// The fields as they were last written.
    fields: PerVm<Option<u64>>,
}

/// What the deadline of the timer does while VM 2 runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum InVtl1 {
    /// Nothing: the kernel does not switch between the two.
    #[default]
    Nothing,
    /// It ends the run.
    EndsRun,
    /// It has ended a run, which happens once: VTL0, which does not run, can't take it back.
    HasEndedRun,
    /// Nothing: userspace has written the field of VM 2 itself.
    Withdrawn,
}

/// The kernel drops a deadline that userspace has seen pass and has not replaced, this many TSC
/// ticks (some microseconds) after its time. It does not do so immediately: userspace counts time
/// in coarser units, so it may find that the time has not quite come and leave the same deadline in
/// place.
const STALE_TICKS: u64 = 1 << 15;

/// What has to be done about a deadline that has passed in a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// The timer's: its interrupt is due.
    Timer(Vector),
    /// None yet. The TDX module counts in units of several ticks, and not further than 32 bits of
    /// them, so that it may end a run early.
    NotYet,
    /// One that userspace has to see.
    Userspaces,
}

impl Deadlines {
    /// The value of the VM's field, as it was last written.
    pub const fn field(&self, vm: VmIndex) -> Option<u64> {
        *self.fields.of(vm)
    }

    /// The value that it should have.
    pub const fn wanted(&self, vm: VmIndex) -> Option<u64> {
        let has_timer = match vm {
            VmIndex::VM1 => true,
            VmIndex::VM2 => matches!(self.in_vtl1, InVtl1::EndsRun),
            _ => false,
        };
        match (*self.own.of(vm), self.timer) {
            (Some(own), Some(timer)) if has_timer && timer < own => Some(timer),
            (None, timer) if has_timer => timer,
            (own, _) => own,
        }
    }

    /// Records a value written to the field. `NEVER` also stands for a deadline that is too far away
    /// for the TDX module; then userspace's own is no nearer.
    pub const fn note_written(&mut self, vm: VmIndex, field: u64) {
        *self.fields.of_mut(vm) = from_field(field);
        if field == NEVER {
            *self.own.of_mut(vm) = None;
        }
    }

    /// Takes the deadline that userspace arms for `vm`, and for `other` if the kernel switches
    /// between the two. It is the timer's if it has the timer's value.
    ///
    /// A timer that has ended a run of VM 2 does not end the next one, too: a paravisor that arms
    /// its own deadline before each run would never get VTL1 to execute anything.
    pub fn arm(&mut self, vm: VmIndex, other: Option<VmIndex>, field: u64, timer: ApicTimer) {
        let mut own = from_field(field);
        if vm == VmIndex::VM1 || other.is_some() {
            let served = timer.served();
            let has_ended_run = self.in_vtl1 == InVtl1::HasEndedRun && self.timer == served;
            self.set_timer(served, other.is_some());
            if has_ended_run && other.is_some() {
                self.in_vtl1 = InVtl1::HasEndedRun;
            }
            own = own.filter(|_| own != served);
        }
        *self.own.of_mut(vm) = own;
        if let Some(other) = other {
            *self.own.of_mut(other) = own;
        }
    }

    /// Sets the deadline of the timer. `is_in_vtl1` is true if it ends runs of VM 2 as well.
    pub const fn set_timer(&mut self, timer: Option<u64>, is_in_vtl1: bool) {
        self.timer = timer;
        self.in_vtl1 = if is_in_vtl1 {
            InVtl1::EndsRun
        } else {
            InVtl1::Nothing
        };
    }

    /// Makes an armed timer end runs of VM 2 as well, unless it has done so. Returns false if there
    /// is nothing to do.
    pub const fn share_timer(&mut self) -> bool {
        let is_new = self.timer.is_some() && matches!(self.in_vtl1, InVtl1::Nothing);
        if is_new {
            self.in_vtl1 = InVtl1::EndsRun;
        }
        is_new
    }

    /// Returns true if userspace has a deadline of its own in a VM.
    pub const fn has_own(&self, vm: VmIndex) -> bool {
        self.own.of(vm).is_some()
    }

    /// What a run of `vm` that a deadline has ended at `tsc` means.
    pub fn passed(&self, vm: VmIndex, timer: ApicTimer, tsc: u64) -> Passed {
        match (timer.served(), Vector::new(timer.vector)) {
            (Some(deadline), Some(vector)) if self.timer == Some(deadline) => {
                if tsc >= deadline {
                    Passed::Timer(vector)
                } else if self.field(vm) == Some(deadline) {
                    Passed::NotYet
                } else {
                    Passed::Userspaces
                }
            }
            _ => Passed::Userspaces,
        }
    }

    /// Userspace has seen that the field of a VM, or of `other`, has passed: drops what has passed
    /// so long ago that it would end each further run immediately. A `timer` that the kernel serves
    /// stays armed in VM 1 if VM 2 has seen it.
    pub fn drop_stale(&mut self, vm: VmIndex, other: Option<VmIndex>, timer: ApicTimer, tsc: u64) {
        for vm in [Some(vm), other].into_iter().flatten() {
            let own = self.own.of_mut(vm);
            *own = own.filter(|deadline| !is_stale(*deadline, tsc));
        }
        if !self.timer.is_some_and(|deadline| is_stale(deadline, tsc)) {
            return;
        }
        if vm == VmIndex::VM1 || self.timer != timer.served() {
            self.timer = None;
        } else {
            self.in_vtl1 = InVtl1::HasEndedRun;
        }
    }

    /// Userspace has written the field of a VM itself: forgets what was armed there.
    pub const fn forget(&mut self, vm: VmIndex) {
        *self.own.of_mut(vm) = None;
        *self.fields.of_mut(vm) = None;
        match vm {
            VmIndex::VM1 => self.timer = None,
            _ => self.in_vtl1 = InVtl1::Withdrawn,
        }
    }

    /// Returns true if the field of a VM has passed at `tsc`.
    pub const fn is_due(&self, vm: VmIndex, tsc: u64) -> bool {
        match self.field(vm) {
            Some(deadline) => tsc >= deadline,
            None => false,
        }
    }

    /// Returns true if it passed so long ago that it must be dropped.
    pub const fn is_stale(&self, vm: VmIndex, tsc: u64) -> bool {
        match self.field(vm) {
            Some(deadline) => is_stale(deadline, tsc),
            None => false,
        }
    }

    /// Ticks from `tsc` until the field has passed; `None` if none is armed.
    pub const fn ticks_left(&self, vm: VmIndex, tsc: u64) -> Option<u64> {
        match self.field(vm) {
            Some(deadline) => Some(deadline.saturating_sub(tsc)),
            None => None,
        }
    }
}

const fn is_stale(deadline: u64, tsc: u64) -> bool {
    tsc >= deadline.saturating_add(STALE_TICKS)
}

const fn from_field(field: u64) -> Option<u64> {
    if field == NEVER {
        None
    } else {
        Some(field)
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
    /// New value of IA32_TSC_DEADLINE.
    pub deadline: u64,
    /// The deadline to arm.
    pub armed: Option<u64>,
    /// The interrupt to post now, because the deadline has already passed.
    pub expired: Option<Vector>,
}

impl ApicTimer {
    /// The deadline that the kernel serves; `None` if there is none, or the timer is userspace's.
    pub const fn served(self) -> Option<u64> {
        match Vector::new(self.vector) {
            Some(_) => from_field(field_value(self.deadline)),
            None => None,
        }
    }

    /// Returns the effects of writing `value` at `tsc`; `None` if userspace has to handle it.
    pub const fn write(self, value: u64, tsc: u64) -> Option<TimerWrite> {
        let Some(vector) = Vector::new(self.vector) else {
            return None;
        };
        let has_passed = value != 0 && value <= tsc;
        let deadline = if has_passed { 0 } else { value };
        Some(TimerWrite {
            deadline,
            armed: from_field(field_value(deadline)),
            expired: if has_passed { Some(vector) } else { None },
        })
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

    const VM1: VmIndex = VmIndex::VM1;
    const VM2: VmIndex = VmIndex::VM2;
    const TIMER: ApicTimer = ApicTimer {
        deadline: 1000,
        vector: 0x41,
    };
    const NONE: ApicTimer = ApicTimer {
        deadline: 0,
        vector: 0,
    };

    /// Writes the fields that differ, as `run/deadline.rs` does.
    fn write(deadlines: &mut Deadlines) {
        for vm in [VM1, VM2] {
            deadlines.note_written(vm, deadlines.wanted(vm).unwrap_or(NEVER));
        }
    }

    fn fields(deadlines: &Deadlines) -> [Option<u64>; 2] {
        [deadlines.wanted(VM1), deadlines.wanted(VM2)]
    }

    #[test]
    fn each_vm_has_its_own_deadline() {
        let mut deadlines = Deadlines::default();
        let vms = [1, 2, 3].map(|vm| VmIndex::new(vm).unwrap());
        for vm in vms {
            deadlines.arm(vm, None, 100 * u64::from(vm.get()), NONE);
        }
        for vm in vms {
            assert_eq!(deadlines.wanted(vm), Some(100 * u64::from(vm.get())));
        }
        deadlines.arm(vms[1], None, NEVER, NONE);
        assert_eq!(deadlines.wanted(vms[1]), None);
        assert_eq!(deadlines.wanted(vms[2]), Some(300));
        deadlines.arm(VM2, Some(VM1), 50, NONE);
        assert_eq!(fields(&deadlines), [Some(50); 2]);
    }

    #[test]
    fn due_from_its_time_on_and_stale_some_time_later() {
        let mut deadlines = Deadlines::default();
        let vm = VM1;
        assert!(!deadlines.is_due(vm, u64::MAX) && !deadlines.is_stale(vm, u64::MAX));
        assert_eq!(deadlines.ticks_left(vm, 0), None);
        deadlines.note_written(vm, 1000);
        assert!(!deadlines.is_due(vm, 999));
        assert!(deadlines.is_due(vm, 1000));
        assert!(!deadlines.is_stale(vm, 1000 + STALE_TICKS - 1));
        assert!(deadlines.is_stale(vm, 1000 + STALE_TICKS));
        assert_eq!(deadlines.ticks_left(vm, 400), Some(600));
        assert_eq!(deadlines.ticks_left(vm, 1001), Some(0));
        // Close to the end of the counter nothing wraps.
        deadlines.note_written(vm, NEVER - 1);
        assert!(!deadlines.is_stale(vm, NEVER - 1));
    }

    #[test]
    fn neither_the_guest_nor_userspace_takes_the_deadline_of_the_other() {
        for own in [500, 1000, 1500] {
            let mut deadlines = Deadlines::default();
            deadlines.arm(VM1, None, own, NONE);
            for timer in [None, Some(400), Some(900), Some(1600), Some(u64::MAX - 1)] {
                deadlines.set_timer(timer, false);
                let first = timer.map_or(own, |timer| timer.min(own));
                assert_eq!(fields(&deadlines), [Some(first), None]);
            }
            // The other way round: userspace's is armed last, and is not the timer's.
            deadlines.arm(VM1, None, own, TIMER);
            assert_eq!(deadlines.wanted(VM1), Some(own.min(1000)));
            assert_eq!(deadlines.has_own(VM1), own != 1000);
            deadlines.arm(VM1, None, NEVER, TIMER);
            assert_eq!(deadlines.wanted(VM1), Some(1000));
            // The kernel does not serve it any more.
            deadlines.arm(VM1, None, NEVER, NONE);
            assert_eq!(deadlines.wanted(VM1), None);
        }
    }

    #[test]
    fn with_switches_the_timer_is_in_both_vms_and_vtl1_sees_it_once() {
        let late = 1000 + STALE_TICKS;
        let mut deadlines = Deadlines::default();
        deadlines.set_timer(Some(1000), false);
        assert_eq!(fields(&deadlines), [Some(1000), None]);
        assert!(deadlines.share_timer() && !deadlines.share_timer());
        assert_eq!(fields(&deadlines), [Some(1000); 2]);
        write(&mut deadlines);
        deadlines.drop_stale(VM2, Some(VM1), TIMER, late - 1);
        assert_eq!(fields(&deadlines), [Some(1000); 2]);
        deadlines.drop_stale(VM2, Some(VM1), TIMER, late);
        assert_eq!(fields(&deadlines), [Some(1000), None]);
        assert!(!deadlines.share_timer());
        // It is moved, and VTL1 sees the new one.
        deadlines.set_timer(Some(2000), true);
        assert_eq!(fields(&deadlines), [Some(2000); 2]);
        // One that userspace serves by now is gone in both.
        deadlines.drop_stale(VM2, Some(VM1), NONE, 2000 + STALE_TICKS);
        assert_eq!(fields(&deadlines), [None; 2]);
    }

    /// A paravisor that arms its own deadline before each run would otherwise never get VTL1 to
    /// execute anything: VTL0, whose timer has passed, does not run.
    #[test]
    fn vtl1_does_not_see_vtl0s_timer_again_when_userspace_arms_its_own() {
        let late = 1000 + STALE_TICKS;
        let mut deadlines = Deadlines::default();
        deadlines.arm(VM2, Some(VM1), NEVER, TIMER);
        assert_eq!(fields(&deadlines), [Some(1000); 2]);
        // It has not passed: nobody has seen it.
        deadlines.arm(VM2, Some(VM1), 9000, TIMER);
        assert_eq!(fields(&deadlines), [Some(1000); 2]);
        write(&mut deadlines);
        for own in [90_000, NEVER, 91_000] {
            deadlines.drop_stale(VM2, Some(VM1), TIMER, late);
            deadlines.arm(VM2, Some(VM1), own, TIMER);
            assert_eq!(fields(&deadlines), [Some(1000), from_field(own)]);
        }
        // Another one is news, and so is the same one to the runs of a kernel that did not switch.
        let moved = ApicTimer {
            deadline: 2000,
            ..TIMER
        };
        deadlines.arm(VM2, Some(VM1), 90_000, moved);
        assert_eq!(fields(&deadlines), [Some(2000); 2]);
        deadlines.drop_stale(VM2, Some(VM1), moved, 2000 + STALE_TICKS);
        deadlines.arm(VM1, None, NEVER, moved);
        assert!(deadlines.share_timer());
        // So is one whose field userspace had written, once it arms by the run page again.
        deadlines.forget(VM2);
        assert!(!deadlines.share_timer());
        deadlines.arm(VM2, Some(VM1), 90_000, moved);
        assert_eq!(fields(&deadlines), [Some(2000); 2]);
    }

    #[test]
    fn what_userspace_has_seen_pass_is_dropped_and_nothing_else() {
        let late = 1000 + STALE_TICKS;
        let mut deadlines = Deadlines::default();
        deadlines.arm(VM1, Some(VM2), 1000, NONE);
        deadlines.set_timer(Some(late + 1), true);
        deadlines.drop_stale(VM1, Some(VM2), NONE, late - 1);
        assert_eq!(fields(&deadlines), [Some(1000); 2]);
        deadlines.drop_stale(VM1, Some(VM2), NONE, late);
        assert_eq!(fields(&deadlines), [Some(late + 1); 2]);
        deadlines.forget(VM2);
        assert_eq!(fields(&deadlines), [Some(late + 1), None]);
        deadlines.forget(VM1);
        assert_eq!(fields(&deadlines), [None; 2]);
    }

    #[test]
    fn a_timer_without_a_vector_is_userspaces() {
        for vector in 0..=255 {
            let timer = ApicTimer { vector, ..TIMER };
            let mut deadlines = Deadlines::default();
            deadlines.set_timer(Some(1000), false);
            let passed = deadlines.passed(VM1, timer, 1000);
            let is_served = vector >= 16;
            let is_armed = timer.write(2000, 1).is_some();
            assert_eq!((vector, is_armed), (vector, is_served));
            assert_eq!((vector, timer.served().is_some()), (vector, is_served));
            assert_eq!((vector, passed == Passed::Userspaces), (vector, !is_served));
        }
    }

    #[test]
    fn a_write_arms_the_future_and_interrupts_for_the_past() {
        let write = |value| TIMER.write(value, 5000).unwrap();
        let vector = Vector::new(0x41);
        let expected = |deadline, armed, expired| TimerWrite {
            deadline,
            armed,
            expired,
        };
        assert_eq!(write(5001), expected(5001, Some(5001), None));
        assert_eq!(write(5000), expected(0, None, vector));
        assert_eq!(write(1), expected(0, None, vector));
        // Zero takes it back.
        assert_eq!(write(0), expected(0, None, None));
        assert_eq!(write(NEVER), expected(NEVER, None, None));
    }

    #[test]
    fn only_the_deadline_that_the_guest_has_set_is_an_interrupt() {
        let vector = Vector::new(0x41).unwrap();
        let mut deadlines = Deadlines::default();
        let passed = |deadlines: &Deadlines, tsc| deadlines.passed(VM1, TIMER, tsc);
        assert_eq!(passed(&deadlines, 1000), Passed::Userspaces);
        deadlines.set_timer(Some(1000), false);
        write(&mut deadlines);
        assert_eq!(passed(&deadlines, 1000), Passed::Timer(vector));
        assert_eq!(passed(&deadlines, 999), Passed::NotYet);
        // Userspace has armed an earlier one for itself, which may also be early.
        deadlines.arm(VM1, None, 500, TIMER);
        write(&mut deadlines);
        assert_eq!(passed(&deadlines, 999), Passed::Userspaces);
        assert_eq!(passed(&deadlines, 499), Passed::Userspaces);
        assert_eq!(passed(&deadlines, 1000), Passed::Timer(vector));
        // The run page has another one by now.
        let moved = ApicTimer {
            deadline: 900,
            ..TIMER
        };
        assert_eq!(deadlines.passed(VM1, moved, 1000), Passed::Userspaces);
        assert_eq!(deadlines.passed(VM1, NONE, 1000), Passed::Userspaces);
    }

    #[test]
    fn zero_in_the_run_page_means_none() {
        assert_eq!(field_value(0), NEVER);
        assert_eq!(field_value(1), 1);
        assert_eq!(field_value(NEVER), NEVER);
    }
}
