// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One VM on one virtual processor: its VMCB and general registers, and how to run it.
//!
//! [`crate::vmrun`] does the one unsafe step; [`crate::exit`] decodes the exit.

use crate::exit::SvmExit;
use crate::gprs::Gprs;
use crate::vmcb::{Event, INTERRUPT_SHADOW, Vmcb};
use crate::vmrun::{self, VmrunReady};

/// Whose guest a context is. Only what counts instructions makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The host's own.
    L1 = 0,
    /// A guest of L1.
    L2 = 1,
}

/// A guest context: VMCB and registers. The memory of both belongs to it alone.
pub struct Vcpu {
    /// Control block. Its physical address is its address: the emulator runs identity mapped.
    pub vmcb: &'static mut Vmcb,
    /// General registers. RAX and RSP are exchanged with the VMCB around each run.
    pub gprs: Gprs,
    /// Whose guest it is.
    pub level: Level,
}

impl Vcpu {
    /// Makes a context of L1 out of a zeroed VMCB page.
    pub fn new(vmcb: &'static mut Vmcb) -> Self {
        Self {
            vmcb,
            gprs: Gprs::default(),
            level: Level::L1,
        }
    }

    /// Runs the guest until something is intercepted.
    pub fn run_to_exit(&mut self, ready: &VmrunReady) -> SvmExit {
        self.vmcb.save.rax = self.gprs.rax;
        self.vmcb.save.rsp = self.gprs.rsp;
        vmrun::run(ready, self.vmcb, &mut self.gprs, self.level);
        self.gprs.rax = self.vmcb.save.rax;
        self.gprs.rsp = self.vmcb.save.rsp;
        // An event is injected once; the processor does not clear the word on every path.
        self.vmcb.control.event_inj = Event::new();
        SvmExit::decode(&self.vmcb.control)
    }

    /// Completes an emulated instruction: RIP moves on and the interrupt shadow ends.
    pub fn skip_instruction(&mut self, len_bytes: u64) {
        let next = self.vmcb.save.rip.wrapping_add(len_bytes);
        // Outside 64-bit mode the instruction pointer wraps at 32 bits.
        self.vmcb.save.rip = if self.is_64_bit() {
            next
        } else {
            next & 0xffff_ffff
        };
        self.vmcb.control.int_state &= !INTERRUPT_SHADOW;
    }

    /// Injects an event at the next run.
    pub fn inject(&mut self, event: Event) {
        self.vmcb.control.event_inj = event;
    }

    /// Returns true if the last exit stored the host's state in the place of the guest's: its next
    /// instruction, and the address of the VMCB in RAX.
    pub fn has_lost_state(&self) -> bool {
        let save = &self.vmcb.save;
        let vmcb_pa = core::ptr::from_ref::<Vmcb>(self.vmcb) as u64;
        save.rip == vmrun::exit_rip() && save.rax == vmcb_pa
    }

    /// Returns true if the next run begins with the delivery of an interrupt.
    pub fn has_interrupt(&self) -> bool {
        let event = self.vmcb.control.event_inj;
        event.is_valid() && event.kind() == Event::INTERRUPT
    }

    /// The event whose delivery the last exit interrupted.
    pub fn interrupted_event(&self) -> Option<Event> {
        // TCG leaves stale bits beside a clear valid bit.
        Some(self.vmcb.control.exit_int_info)
            .filter(Event::is_valid)
            .map(Event::with_true_kind)
    }

    /// Returns true if the guest executes 64-bit code.
    pub fn is_64_bit(&self) -> bool {
        const LMA: u64 = 1 << 10;
        self.vmcb.save.efer & LMA != 0 && self.vmcb.save.cs.attributes & crate::segment::LONG != 0
    }
}
