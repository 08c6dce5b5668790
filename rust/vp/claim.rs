// SPDX-License-Identifier: GPL-2.0
//! Who may use a VP: states as types.
//!
//! ```text
//! (any thread) ── claim ──► Claimed ── pin ──► Pinned ── Loaded::new ──► Loaded
//!              EBUSY, ENXIO    ▲        ENXIO     │  ▲                      │
//!                              └───── drop ───────┘  └──────── drop ────────┘
//!              on any CPU, may sleep       on the VP's CPU        preemption off
//! ```
//!
//! A [`Claimed`] thread has the VP to itself, but the scheduler may move it, so that whoever changes
//! its CPUs never waits for a lower VTL. A [`Pinned`] thread is on the CPU of the VP and stays there; it
//! lasts for as long as nothing waits. Only through `&mut Pinned` does anyone get at the VP's private
//! state, and a wait takes `&mut Claimed`, which a `Pinned` borrows: so no reference to that state
//! is held on another CPU. `run/context.rs` has the last state, in which the processor has the lower
//! VTL's state.

use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::Guard;

use super::on_cpu::OnCpu;
use super::{Private, Vp};
use crate::cpu::features::Features;
use crate::cpu::guards::{MigrateOff, OnOneCpu};
use crate::pure::deadline::Deadlines;
use crate::pure::halt_poll::HaltPoll;
use crate::vp::machine::Machine;

/// The current thread, wherever it is, has a VP that no other thread can run.
#[must_use]
pub(crate) struct Claimed<'m> {
    vp: &'m Vp,
    features: &'m Features,
    private: Guard<'m, Private, MutexBackend>,
}

impl<'m> Claimed<'m> {
    /// Claims the VP of the current CPU.
    ///
    /// # Errors
    ///
    /// ENXIO without such a VP, EBUSY when another thread has it.
    pub(crate) fn new(machine: &'m Machine, stay: &MigrateOff) -> Result<Self> {
        let vp = machine.vp(stay.cpu()).ok_or(ENXIO)?;
        let private = vp.private.try_lock().ok_or(EBUSY)?;
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

    /// What a halt needs to know and learns. It describes no register of the processor, so it may be
    /// used on any CPU.
    pub(crate) fn halt(&mut self) -> (&mut HaltPoll, &Deadlines) {
        let Private {
            halt_poll,
            deadlines,
            ..
        } = &mut *self.private;
        (halt_poll, deadlines)
    }

    /// Returns to the VP's CPU state, if this is its CPU.
    ///
    /// # Errors
    ///
    /// ENXIO when the scheduler has moved the thread away.
    pub(crate) fn pin(&mut self, stay: MigrateOff) -> Result<Pinned<'_>> {
        if stay.cpu() != u32::from(self.vp.cpu) {
            return Err(ENXIO);
        }
        Ok(Pinned {
            vp: self.vp,
            features: self.features,
            private: &mut self.private,
            _stay: stay,
        })
    }
}

/// The current thread has the VP of the CPU that it can't leave.
#[must_use]
pub(crate) struct Pinned<'c> {
    vp: &'c Vp,
    features: &'c Features,
    private: &'c mut Private,
    _stay: MigrateOff,
}

impl<'c> Pinned<'c> {
    /// Claims the VP of the current CPU for something short that does not wait.
    ///
    /// # Errors
    ///
    /// As [`Claimed::new`].
    pub(crate) fn with<T>(machine: &Machine, act: impl FnOnce(&mut Pinned<'_>) -> T) -> Result<T> {
        let stay = MigrateOff::new();
        let mut claimed = Claimed::new(machine, &stay)?;
        let mut pinned = claimed.pin(stay)?;
        Ok(act(&mut pinned))
    }

    /// The VP.
    pub(crate) fn vp(&self) -> &'c Vp {
        self.vp
    }

    /// What only this thread may touch.
    pub(crate) fn private(&mut self) -> &mut Private {
        self.private
    }

    /// The VP, what the processor has, and what only this thread may touch.
    pub(crate) fn parts(&mut self) -> (OnCpu<'_>, &'c Features, &mut Private) {
        (OnCpu::of(self.vp), self.features, self.private)
    }
}
