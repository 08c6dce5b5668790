// SPDX-License-Identifier: GPL-2.0
//! Who may use a VP: states as types.
//!
//! ```text
//! (any thread) ── claim ──► Pinned ── Loaded::new ──► Loaded ── drop ──► Pinned ── drop ──► (any thread)
//!              EBUSY, ENXIO         preemption off          preemption on
//! ```
//!
//! A [`Pinned`] thread can't leave the CPU of the VP but may sleep. `run/context.rs` has the next
//! state, in which the processor has the lower VTL's state. Only through `&mut Pinned` does anyone
//! get at the VP's private state.

use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::Guard;

use super::{Private, Vp};
use crate::cpu::features::Features;
use crate::cpu::guards::MigrateOff;
use crate::vp::machine::Machine;

/// The current thread runs the VP of the CPU it can't leave.
#[must_use]
pub(crate) struct Pinned<'m> {
    vp: &'m Vp,
    features: &'m Features,
    // Dropped in this order: the claim ends while the thread is still on the CPU.
    private: Guard<'m, Private, MutexBackend>,
    _stay: MigrateOff,
}

impl<'m> Pinned<'m> {
    /// Claims the VP of the current CPU.
    ///
    /// # Errors
    ///
    /// ENXIO without such a VP, EBUSY when another thread has it.
    pub(crate) fn claim(machine: &'m Machine) -> Result<Self> {
        let stay = MigrateOff::new();
        let vp = machine.vp(stay.cpu()).ok_or(ENXIO)?;
        let private = vp.private.try_lock().ok_or(EBUSY)?;
        Ok(Self {
            vp,
            features: machine.features(),
            private,
            _stay: stay,
        })
    }

    /// The VP.
    pub(crate) fn vp(&self) -> &'m Vp {
        self.vp
    }

    /// What only this thread may touch.
    pub(crate) fn private(&mut self) -> &mut Private {
        &mut self.private
    }

    /// The VP, what the processor has, and what only this thread may touch.
    pub(crate) fn parts(&mut self) -> (&'m Vp, &'m Features, &mut Private) {
        (self.vp, self.features, &mut self.private)
    }
}
