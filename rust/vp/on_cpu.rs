// SPDX-License-Identifier: GPL-2.0
//! Proof that the current thread is on the CPU of a VP.
//!
//! Only that CPU can reach what the TDX module keeps for a VP, and only code on that CPU may access
//! what the kernel keeps for it and changes without a lock. Both need an [`OnCpu`], made from a
//! guard that prevents migration, and valid no longer than the guard. It does not exclude
//! preemption: code that must not be preempted takes a `PreemptOff` or an `IrqsOff`, too.

use core::ops::Deref;

use kernel::types::NotThreadSafe;

use super::machine::Machine;
use super::Vp;
use crate::cpu::guards::OnOneCpu;

/// The current thread is on the CPU of this VP, and stays there.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct OnCpu<'vp> {
    vp: &'vp Vp,
    _not_send: NotThreadSafe,
}

impl<'vp> OnCpu<'vp> {
    /// The VP of the CPU to which `stay` pins the task; `None` if it has none.
    pub(crate) fn new(machine: &'vp Machine, stay: &'vp impl OnOneCpu) -> Option<Self> {
        machine.vp(stay.cpu()).map(Self::of)
    }

    /// To be called with a VP to whose CPU the current thread is pinned for `'vp`.
    pub(super) fn of(vp: &'vp Vp) -> Self {
        Self {
            vp,
            _not_send: NotThreadSafe,
        }
    }

    /// The VP.
    pub(crate) fn vp(self) -> &'vp Vp {
        self.vp
    }
}

impl Deref for OnCpu<'_> {
    type Target = Vp;

    fn deref(&self) -> &Vp {
        self.vp
    }
}
