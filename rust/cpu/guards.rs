// SPDX-License-Identifier: GPL-2.0
//! Guards that prove what can't happen on the current CPU: migration, preemption, interrupts.
//!
//! None can be sent to another thread: they apply to this CPU and this task.

// UNSAFETY: declares C functions, and pairs them.
#![allow(unsafe_code)]

use kernel::types::NotThreadSafe;

use crate::cpu::fpu::Section;
use crate::glue::abi::{ends_in_c, safe_in_c, vtl_here};

// They can be nested to any depth; the last leaves interrupts disabled, or restores their state.
safe_in_c! {
    fn vtl_migrate_disable() -> u32;
    fn vtl_preempt_disable() -> vtl_here;
    fn vtl_irq_off();
    fn vtl_irq_off_for_guest(noted: &mut usize as *mut usize) -> bool;
}

/// The task can't be migrated to another CPU.
pub(crate) trait OnOneCpu {
    /// The CPU.
    fn cpu(&self) -> u32;
}

/// Migration is disabled; the task may be preempted, and may sleep.
#[must_use]
pub(crate) struct MigrateOff {
    cpu: u32,
    _not_send: NotThreadSafe,
}

impl MigrateOff {
    /// Pins the task to its current CPU.
    pub(crate) fn new() -> Self {
        Self {
            cpu: vtl_migrate_disable(),
            _not_send: NotThreadSafe,
        }
    }
}

impl OnOneCpu for MigrateOff {
    fn cpu(&self) -> u32 {
        self.cpu
    }
}

/// Preemption is disabled: no other task runs on this CPU.
#[must_use]
pub(crate) struct PreemptOff {
    here: vtl_here,
    _not_send: NotThreadSafe,
}

impl PreemptOff {
    /// Disables preemption.
    pub(crate) fn new() -> Self {
        Self {
            here: vtl_preempt_disable(),
            _not_send: NotThreadSafe,
        }
    }

    /// ID of the current thread.
    pub(crate) fn thread(&self) -> u32 {
        self.here.thread
    }

    /// ID of its process.
    pub(crate) fn process(&self) -> u32 {
        self.here.process as u32 // CAST: never more
    }
}

impl OnOneCpu for PreemptOff {
    fn cpu(&self) -> u32 {
        self.here.cpu
    }
}

/// Interrupts are disabled on this CPU.
#[must_use]
pub(crate) struct IrqsOff(NotThreadSafe);

impl IrqsOff {
    /// Disables interrupts, in a task that has them enabled.
    pub(crate) fn in_task(_on_its_cpu: &MigrateOff) -> Self {
        vtl_irq_off();
        Self(NotThreadSafe)
    }

    /// Turns interrupts off, in a section that has them on.
    pub(crate) fn in_section(_section: &Section) -> Self {
        vtl_irq_off();
        Self(NotThreadSafe)
    }

    /// Disables interrupts for an entry. Returns `None`, with interrupts enabled, if the task has
    /// work to do first.
    ///
    /// Reports a quiescent state to RCU, once in a jiffy; `noted` keeps the last one. Nothing that RCU
    /// protects is held when entering a guest.
    pub(crate) fn for_entry(_section: &Section, noted: &mut usize) -> Option<Self> {
        vtl_irq_off_for_guest(noted).then_some(Self(NotThreadSafe))
    }
}

// Interrupts were enabled before each `IrqsOff`, and a second one is not made while one exists.
ends_in_c! {
    MigrateOff: vtl_migrate_enable;
    PreemptOff: vtl_preempt_enable;
    IrqsOff: vtl_irq_on;
}
