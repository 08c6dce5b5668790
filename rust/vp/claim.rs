// SPDX-License-Identifier: GPL-2.0
//! Who may use a VP: states, expressed as types.
//!
//! ```text
//! (any thread) ── claim ──► Claimed ── pin ──► Pinned ── Loaded::new ──► Loaded
//!              EBUSY, ENXIO    ▲        ENXIO     │  ▲                      │
//!                              └───── drop ───────┘  └──────── drop ────────┘
//!              on any CPU, may sleep       on the VP's CPU, preemption off
//! ```
//!
//! A [`Claimed`] thread has the VP to itself, but the scheduler may migrate it, so that changing
//! its CPU affinity never waits for a lower VTL. A [`Pinned`] thread is on the CPU of the VP and
//! stays there, with preemption disabled; it must not sleep. Only `&mut Pinned` gives access to the
//! VP's private state, and sleeping takes `&mut Claimed`, which a `Pinned` borrows: so no reference to
//! that state is held on another CPU. The last state is in `run/context.rs`: the processor holds the lower VTL's
//! state.

use kernel::prelude::*;

use super::on_cpu::OnCpu;
use super::{Private, Vp};
use crate::cpu::features::Features;
use crate::cpu::guards::{OnOneCpu, PreemptOff};
use crate::glue::ffi::Taken;
use crate::pure::audit::EntryReason;
use crate::pure::controls::{Before, Entry, Refusal};
use crate::pure::deadline::Deadlines;
use crate::pure::field::VmIndex;
use crate::pure::halt_poll::HaltPoll;
use crate::pure::msr::SharedMsrs;
use crate::vp::machine::Machine;

/// The current thread, on any CPU, has the exclusive right to run a VP.
#[must_use]
pub(crate) struct Claimed<'m> {
    vp: &'m Vp,
    features: &'m Features,
    private: Taken<'m, Private>,
}

impl<'m> Claimed<'m> {
    /// Claims the VP of the current CPU.
    ///
    /// # Errors
    ///
    /// ENXIO if there is no VP, EBUSY if another thread has claimed it.
    #[inline]
    pub(crate) fn new(machine: &'m Machine, stay: &PreemptOff) -> Result<Self> {
        let vp = machine.vp(stay.cpu()).ok_or(ENXIO)?;
        let private = vp.private.take().ok_or(EBUSY)?;
        Ok(Self {
            vp,
            features: machine.features(),
            private,
        })
    }

    /// The VP.
    pub(crate) fn vp(&self) -> &'m Vp {
        self.vp
    }

    /// What a halt reads and updates. None of it describes a register of the processor, so it may
    /// be used on any CPU.
    pub(crate) fn halt(&mut self) -> (&mut HaltPoll, &Deadlines) {
        let Private {
            halt_poll,
            deadlines,
            ..
        } = &mut *self.private;
        (halt_poll, deadlines)
    }

    /// The shared MSRs of a VM that does not run.
    pub(crate) fn msrs(&self, vm: VmIndex) -> &SharedMsrs {
        self.private.vms.of(vm).msrs()
    }

    /// Takes the reason for the next entry, which an earlier call has left.
    pub(crate) fn take_unrecorded(&mut self) -> EntryReason {
        core::mem::replace(&mut self.private.unrecorded, EntryReason::USERSPACE)
    }

    /// As [`Private::keep_unrecorded`].
    pub(crate) fn keep_unrecorded(&mut self, reason: EntryReason) {
        self.private.keep_unrecorded(reason);
    }

    /// Has records hashed, if the next one would be too many. May sleep.
    pub(crate) fn make_room(&mut self) {
        let switches = &mut self.private.switches;
        if switches.is_at_limit() {
            if let Some(sealer) = &self.vp.sealer {
                sealer.make_room(&self.vp.ring, switches);
            }
        }
    }

    /// Regains access to the VP's CPU state, if the thread is on its CPU.
    ///
    /// # Errors
    ///
    /// ENXIO if the scheduler has migrated the thread.
    #[inline]
    pub(crate) fn pin(&mut self, stay: PreemptOff) -> Result<Pinned<'_, 'm>> {
        if stay.cpu() != u32::from(self.vp.cpu) {
            return Err(ENXIO);
        }
        Ok(Pinned {
            claimed: self,
            stay,
        })
    }
}

// Compiles only if threads can't share a claim: otherwise it would be ambiguous which `Shared` is meant.
const _: fn() = {
    trait Shared<A> {
        fn named() {}
    }
    impl<T> Shared<()> for T {}
    impl<T: Sync> Shared<u8> for T {}
    || <Claimed<'static> as Shared<_>>::named()
};

/// What the run page wants to be entered; every value was checked.
pub(crate) struct Wanted {
    entry: Entry,
    msrs: SharedMsrs,
}

impl Wanted {
    /// The VM to enter.
    pub(crate) fn vm(&self) -> VmIndex {
        self.entry.rcx.vm()
    }
}

/// The current thread has claimed the VP of the CPU that it is pinned to.
#[must_use]
pub(crate) struct Pinned<'c, 'm> {
    claimed: &'c mut Claimed<'m>,
    stay: PreemptOff,
}

impl<'c, 'm> Pinned<'c, 'm> {
    /// Lets the scheduler migrate the thread again.
    pub(crate) fn unpin(self) -> &'c mut Claimed<'m> {
        self.claimed
    }

    /// Claims the VP of the current CPU for a short action that does not sleep.
    ///
    /// # Errors
    ///
    /// As [`Claimed::new`].
    pub(crate) fn with<T>(
        machine: &Machine,
        act: impl FnOnce(&mut Pinned<'_, '_>) -> T,
    ) -> Result<T> {
        let stay = PreemptOff::new();
        let mut claimed = Claimed::new(machine, &stay)?;
        let mut pinned = claimed.pin(stay)?;
        Ok(act(&mut pinned))
    }

    /// The VP.
    pub(crate) fn vp(&self) -> &'m Vp {
        self.claimed.vp
    }

    /// The state that only this thread may access.
    pub(crate) fn private(&mut self) -> &mut Private {
        &mut self.claimed.private
    }

    /// Returns true if the run page wants what was entered last, which was checked then; see
    /// `pure::controls`.
    #[inline(always)]
    pub(crate) fn is_entry_wanted_again(&mut self) -> bool {
        let Claimed { vp, features, .. } = *self.claimed;
        let Private { entry, vms, .. } = &mut *self.claimed.private;
        let msrs = vms.of(entry.rcx.vm()).msrs();
        entry.is_wanted_again(msrs, &vp.run_page, &features.limits)
    }

    /// Reads each field of the run page once, and checks the copy. Also returns what has to be done
    /// before the entry.
    ///
    /// # Errors
    ///
    /// As [`Controls::validate`](crate::pure::controls::Controls::validate).
    pub(crate) fn read_entry(&mut self) -> Result<(Wanted, Before), Refusal> {
        let Claimed { vp, features, .. } = *self.claimed;
        let controls = vp.run_page.read_controls();
        let given = self.private().given_msrs();
        let (entry, msrs, before) = controls.validate(&features.limits, given)?;
        Ok((Wanted { entry, msrs }, before))
    }

    /// Keeps it for the entry. Nothing must refuse it any more: the MSRs of the VM that it names may
    /// be those of another VTL, if userspace has renamed the VM in mid-run.
    pub(crate) fn accept(&mut self, wanted: &Wanted) {
        let private = self.private();
        private.entry = wanted.entry;
        private.set_msrs(wanted.vm(), &wanted.msrs);
        private.heed_intercepts(wanted.vm());
    }

    /// ID of the thread.
    pub(crate) fn thread(&self) -> u32 {
        self.stay.thread()
    }

    /// ID of its process.
    pub(crate) fn process(&self) -> u32 {
        self.stay.process()
    }

    /// The VP, the features of the processor, and the state that only this thread may access.
    pub(crate) fn parts(&mut self) -> (OnCpu<'_>, &'m Features, &mut Private) {
        let Claimed { vp, features, .. } = *self.claimed;
        (OnCpu::of(vp), features, &mut self.claimed.private)
    }
}
