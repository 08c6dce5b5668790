// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual processors as seen by each other: their start-up state, and how one interrupts
//! another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, PoisonError};

use vtl::{Kick, RunPage, Vtl};

use crate::apic::{Command, Sent};
use crate::parking::Mutex;
use crate::platform::interrupts::Deliver;
use crate::platform::ioapic::Message;

/// What a processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a start-up IPI, as after INIT.
    Waiting,
    /// It is to start in real mode at this page.
    Starting(u8),
    /// It runs.
    Running,
    /// Halted forever: only an NMI or INIT could end that.
    Dead,
}

/// One processor, for other threads.
#[derive(Debug)]
pub struct Processor {
    /// CPU that runs it.
    pub cpu: u32,
    /// x2APIC ID.
    pub apic_id: u32,
    page: RunPage,
    phase: Mutex<Phase>,
    changed: Condvar,
    has_nmi: AtomicBool,
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
                phase: Mutex::new(phase),
                changed: Condvar::new(),
                has_nmi: AtomicBool::new(false),
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
            let _phase = processor.phase.lock();
            processor.changed.notify_all();
        }
        // Without the kick each would stop at its next exit. It can only fail for lack of memory.
        let _ = self.vtl.kick(
            self.list.iter().map(|it| it.cpu),
            Kick::new().with_cancel(true),
        );
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
                    target.has_nmi.store(true, Ordering::SeqCst);
                    target.wake_dead();
                    self.cancel(target)?;
                }
                Sent::Init => {
                    target.set_phase(Phase::Waiting);
                    self.cancel(target)?;
                }
                Sent::StartUp(page) => target.start(page),
            }
        }
        Ok(())
    }

    /// Requests an interrupt. The kernel delivers it, without the target's thread where it runs.
    fn interrupt(&self, target: &Processor, vector: u8) -> vtl::Result<()> {
        // A processor that waits to be started takes none.
        if matches!(*target.phase.lock(), Phase::Waiting | Phase::Starting(_)) {
            return Ok(());
        }
        target.page.request_interrupt(vector);
        self.vtl.kick([target.cpu], Kick::new())
    }

    fn cancel(&self, target: &Processor) -> vtl::Result<()> {
        self.vtl.kick([target.cpu], Kick::new().with_cancel(true))
    }

    /// How many processors could still do something.
    pub fn has_live(&self) -> bool {
        self.list
            .iter()
            .any(|it| matches!(*it.phase.lock(), Phase::Running | Phase::Starting(_)))
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

impl Processor {
    /// What it does.
    pub fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Sets what it does, and wakes its thread.
    pub fn set_phase(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify_all();
    }

    /// It is about to execute its first instruction, unless another INIT has arrived meanwhile.
    pub fn has_started(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Starting(_)) {
            *phase = Phase::Running;
        }
    }

    /// Takes a pending NMI. Returns true if there was one.
    pub fn take_nmi(&self) -> bool {
        self.has_nmi.swap(false, Ordering::SeqCst)
    }

    /// Puts an NMI back that can't be delivered yet.
    pub fn keep_nmi(&self) {
        self.has_nmi.store(true, Ordering::SeqCst);
    }

    /// Waits until it has something to do, or all is over.
    pub fn wait(&self, is_over: &AtomicBool) {
        let mut phase = self.phase.lock();
        while matches!(*phase, Phase::Waiting | Phase::Dead) && !is_over.load(Ordering::SeqCst) {
            phase = self
                .changed
                .wait(phase)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Only a processor that waits for a start-up IPI accepts one; further ones are ignored.
    fn start(&self, page: u8) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Waiting {
            *phase = Phase::Starting(page);
            self.changed.notify_all();
        }
    }

    fn wake_dead(&self) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Dead {
            *phase = Phase::Running;
            self.changed.notify_all();
        }
    }
}
