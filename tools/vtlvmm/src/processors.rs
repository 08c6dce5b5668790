// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual processors as seen by each other: their start-up state, and how one interrupts
//! another.

mod activity;

use std::sync::atomic::{AtomicBool, Ordering};

use vtl::{Kick, RunPage, Vtl};

use crate::apic::{Command, Sent};
use crate::platform::interrupts::Deliver;
use crate::platform::ioapic::Message;

pub use activity::{Activity, Phase};

/// One processor, for other threads.
#[derive(Debug)]
pub struct Processor {
    /// CPU that runs it.
    pub cpu: u32,
    /// x2APIC ID.
    pub apic_id: u32,
    /// What it does.
    pub activity: Activity,
    page: RunPage,
}

/// All of them, the boot processor first.
#[derive(Debug)]
pub struct Processors {
    vtl: Vtl,
    list: Vec<Processor>,
    is_over: AtomicBool,
}

impl Processors {
    /// Those of these CPUs and x2APIC IDs. All but the first wait to be started.
    ///
    /// # Errors
    /// [`vtl::Error::Map`].
    pub fn new(vtl: Vtl, ids: &[(u32, u32)]) -> vtl::Result<Self> {
        let list = ids.iter().enumerate().map(|(number, (cpu, apic_id))| {
            let phase = if number == 0 {
                Phase::Running
            } else {
                Phase::Waiting
            };
            Ok(Processor {
                cpu: *cpu,
                apic_id: *apic_id,
                page: vtl.map_run_page(*cpu)?,
                activity: Activity::new(phase),
            })
        });
        Ok(Self {
            list: list.collect::<vtl::Result<_>>()?,
            vtl,
            is_over: AtomicBool::new(false),
        })
    }

    /// The VTL file.
    pub fn vtl(&self) -> &Vtl {
        &self.vtl
    }

    /// All of them.
    pub fn list(&self) -> &[Processor] {
        &self.list
    }

    /// Set when all processors have to stop.
    pub fn is_over(&self) -> &AtomicBool {
        &self.is_over
    }

    /// Stops all of them.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        for processor in &self.list {
            processor.page.canceller().cancel();
            processor.activity.wake();
        }
        // Without the kick each would stop at its next exit. It can only fail for lack of memory.
        let _ = self.vtl.kick(
            self.list.iter().map(|it| it.cpu),
            Kick::new().with_cancel(true),
        );
    }

    /// After all of them have stopped: the next user of their CPUs does not find them cancelled.
    pub fn clear_cancellations(&self) {
        for processor in &self.list {
            processor.page.canceller().clear();
        }
    }

    /// Carries out an interrupt command of the processor `sender`.
    ///
    /// # Errors
    /// [`vtl::Error::Command`].
    pub fn send(&self, command: Command, sender: &Processor) -> vtl::Result<()> {
        let is_meant = |it: &&Processor| command.to.include(it.apic_id, sender.apic_id);
        for target in self.list.iter().filter(is_meant) {
            match command.what {
                Sent::Interrupt(vector) => self.interrupt(target, vector)?,
                Sent::Nmi => {
                    target.activity.nmi();
                    self.cancel(target)?;
                }
                Sent::Init => {
                    target.activity.init();
                    self.cancel(target)?;
                }
                Sent::StartUp(page) => target.activity.start(page),
            }
        }
        Ok(())
    }

    /// Requests an interrupt. The kernel delivers it, without the target's thread where it runs.
    fn interrupt(&self, target: &Processor, vector: u8) -> vtl::Result<()> {
        // A processor that waits to be started takes none.
        if matches!(target.activity.phase(), Phase::Waiting | Phase::Starting(_)) {
            return Ok(());
        }
        target.page.request_interrupt(vector);
        self.vtl.kick([target.cpu], Kick::new())
    }

    fn cancel(&self, target: &Processor) -> vtl::Result<()> {
        self.vtl.kick([target.cpu], Kick::new().with_cancel(true))
    }

    /// Has each processor return to its thread, once.
    ///
    /// # Errors
    /// [`vtl::Error::Command`].
    pub fn interrupt_all(&self) -> vtl::Result<()> {
        let cpus = self.list.iter().map(|it| it.cpu);
        self.vtl.kick(cpus, Kick::new().with_cancel(true))
    }

    /// Has all processors but `own` invalidate their translations, after the guest has lost rights to
    /// memory.
    ///
    /// # Errors
    /// [`vtl::Error::Command`].
    pub fn flush_others(&self, own: &Processor) -> vtl::Result<()> {
        let others = self.list.iter().filter(|it| it.cpu != own.cpu);
        self.vtl.flush(others.map(|it| &it.page))
    }

    /// Returns true if any processor could still do something.
    pub fn has_live(&self) -> bool {
        activity::has_live(self.list.iter().map(|it| &it.activity))
    }
}

impl Deliver for Processors {
    fn deliver(&self, message: Message) {
        let is_meant = |it: &&Processor| message.destination.includes(it.apic_id);
        for target in self.list.iter().filter(is_meant) {
            // It can only fail for lack of memory; the interrupt is then delivered at the next
            // exit.
            let _ = self.interrupt(target, message.vector);
        }
    }
}
