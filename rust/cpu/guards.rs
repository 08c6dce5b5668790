// SPDX-License-Identifier: GPL-2.0
//! Guards that prove what the CPU is kept from: leaving the task, taking interrupts.
//!
//! None can be sent to another thread: what they turned off is off on this CPU, for this task.

// UNSAFETY: declares C functions, and pairs them.
#![allow(unsafe_code)]

use kernel::types::NotThreadSafe;

use crate::cpu::fpu::Section;
use crate::glue::abi::{ends_in_c, safe_in_c};

// They can be nested as deep as one likes; the last leaves interrupts off or as they were.
safe_in_c! {
    fn vtl_migrate_disable() -> u32;
    fn vtl_preempt_disable() -> u32;
    fn vtl_irq_off();
    fn vtl_irq_off_for_guest() -> bool;
}

/// The task stays on a CPU.
pub(crate) trait OnOneCpu {
    /// The CPU.
    fn cpu(&self) -> u32;
}

/// The task stays on its CPU but may sleep.
#[must_use]
pub(crate) struct MigrateOff {
    cpu: u32,
    _not_send: NotThreadSafe,
}

impl MigrateOff {
    /// Keeps the task on the CPU it is on.
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

/// No other task runs on this CPU.
#[must_use]
pub(crate) struct PreemptOff {
    cpu: u32,
    _not_send: NotThreadSafe,
}

impl PreemptOff {
    /// Turns preemption off.
    pub(crate) fn new() -> Self {
        Self {
            cpu: vtl_preempt_disable(),
            _not_send: NotThreadSafe,
        }
    }
}

impl OnOneCpu for PreemptOff {
    fn cpu(&self) -> u32 {
        self.cpu
    }
}

/// This CPU takes no interrupts.
#[must_use]
pub(crate) struct IrqsOff(NotThreadSafe);

impl IrqsOff {
    /// Turns interrupts off, in a task that has them on.
    pub(crate) fn in_task(_on_its_cpu: &MigrateOff) -> Self {
        vtl_irq_off();
        Self(NotThreadSafe)
    }

    /// Turns interrupts off for an entry; `None`, and they stay on, when the task has something to do
    /// before.
    pub(crate) fn for_entry(_section: &Section) -> Option<Self> {
        vtl_irq_off_for_guest().then_some(Self(NotThreadSafe))
    }
}

// Interrupts were on before each `IrqsOff`, and a second one is not made while there is one.
ends_in_c! {
    MigrateOff: vtl_migrate_enable;
    PreemptOff: vtl_preempt_enable;
    IrqsOff: vtl_irq_on;
}
