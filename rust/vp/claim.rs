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
        self.private.msrs.of(vm)
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
    pub(crate) fn pin(&mut self, stay: PreemptOff) -> Result<Pinned<'_>> {
        if stay.cpu() != u32::from(self.vp.cpu) {
            return Err(ENXIO);
        }
        Ok(Pinned {
            vp: self.vp,
            features: self.features,
            private: &mut self.private,
            stay,
        })
    }
}

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
pub(crate) struct Pinned<'c> {
    vp: &'c Vp,
    features: &'c Features,
    private: &'c mut Private,
    stay: PreemptOff,
}

impl<'c> Pinned<'c> {
    /// Claims the VP of the current CPU for a short action that does not sleep.
    ///
    /// # Errors
    ///
    /// As [`Claimed::new`].
    pub(crate) fn with<T>(machine: &Machine, act: impl FnOnce(&mut Pinned<'_>) -> T) -> Result<T> {
        let stay = PreemptOff::new();
        let mut claimed = Claimed::new(machine, &stay)?;
        let mut pinned = claimed.pin(stay)?;
        Ok(act(&mut pinned))
    }

    /// The VP.
    pub(crate) fn vp(&self) -> &'c Vp {
        self.vp
    }

    /// The state that only this thread may access.
    pub(crate) fn private(&mut self) -> &mut Private {
        self.private
    }

    /// Returns true if the run page wants what was entered last, which was checked then; see
    /// `pure::controls`.
    #[inline(always)]
    pub(crate) fn is_entry_wanted_again(&mut self) -> bool {
        let limits = &self.features.limits;
        let entry = &mut self.private.entry;
        let msrs = self.private.msrs.of(entry.rcx.vm());
        entry.is_wanted_again(msrs, &self.vp.run_page, limits)
    }

    /// Reads each field of the run page once, and checks the copy. Also returns what has to be done
    /// before the entry.
    ///
    /// # Errors
    ///
    /// As [`Controls::validate`](crate::pure::controls::Controls::validate).
    pub(crate) fn read_entry(&self) -> Result<(Wanted, Before), Refusal> {
        let controls = self.vp.run_page.read_controls();
        let (entry, msrs, before) =
            controls.validate(&self.features.limits, &self.private.given_msrs)?;
        Ok((Wanted { entry, msrs }, before))
    }

    /// Keeps it for the entry. Nothing must refuse it any more: the MSRs of the VM that it names may
    /// be those of another VTL, if userspace has renamed the VM in mid-run.
    pub(crate) fn accept(&mut self, wanted: &Wanted) {
        self.private.entry = wanted.entry;
        self.private.set_msrs(wanted.vm(), &wanted.msrs);
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
    pub(crate) fn parts(&mut self) -> (OnCpu<'_>, &'c Features, &mut Private) {
        (OnCpu::of(self.vp), self.features, self.private)
    }
}
