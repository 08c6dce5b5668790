// SPDX-License-Identifier: GPL-2.0
//! The proof that the current thread is on the CPU of a VP.
//!
//! What the TDX module keeps of a VP, only that CPU can reach; what the kernel keeps of it and changes
//! without a lock, only code on that CPU touches. Either takes an [`OnCpu`], which is made from a guard
//! that keeps the task where it is, and lasts no longer. Whether another task may come in between is
//! a question of its own: who must not be disturbed takes a `PreemptOff` or an `IrqsOff`, too.

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
    /// The VP of the CPU on which `stay` keeps the task; `None` where that has none.
    pub(crate) fn new(machine: &'vp Machine, stay: &'vp impl OnOneCpu) -> Option<Self> {
        machine.vp(stay.cpu()).map(Self::of)
    }

    /// For a VP whose CPU the current thread is kept on for `'vp`.
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
