// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From a device's line through the I/O APIC to virtual processors.

use std::convert::Infallible;
use std::sync::Arc;

use super::Gsi;
use super::ioapic::{IoApic, Message};
use crate::parking::Mutex;

/// Where interrupts are delivered: the virtual processors.
pub trait Deliver: Send + Sync {
    /// Delivers an interrupt, from any thread.
    fn deliver(&self, message: Message);
}

/// The I/O APIC and the way from it.
pub struct Interrupts {
    io_apic: Mutex<IoApic>,
    to: Arc<dyn Deliver>,
}

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupts")
            .field("io_apic", &self.io_apic)
            .finish_non_exhaustive()
    }
}

impl Interrupts {
    /// Lines that end at `to`.
    pub fn new(to: Arc<dyn Deliver>) -> Arc<Self> {
        Arc::new(Self {
            io_apic: Mutex::default(),
            to,
        })
    }

    /// The line of this number.
    pub fn line(self: &Arc<Self>, gsi: Gsi) -> Line {
        Line {
            interrupts: Arc::clone(self),
            gsi,
        }
    }

    /// Reads a register of the I/O APIC.
    pub fn read(&self, offset: u32) -> u32 {
        self.io_apic.lock().read(offset)
    }

    /// Writes a register of the I/O APIC.
    pub fn write(&self, offset: u32, value: u32) {
        self.io_apic.lock().write(offset, value);
    }
}

/// A device's interrupt.
#[derive(Clone, Debug)]
pub struct Line {
    interrupts: Arc<Interrupts>,
    gsi: Gsi,
}

impl Line {
    /// Raises the interrupt once.
    pub fn pulse(&self) {
        // The lock is not held while it is delivered, which takes other locks.
        let message = self.interrupts.io_apic.lock().pulse(self.gsi);
        if let Some(message) = message {
            self.interrupts.to.deliver(message);
        }
    }
}

impl vm_superio::Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.pulse();
        Ok(())
    }
}
