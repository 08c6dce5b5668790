// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The synthetic interrupt controllers of the Hyper-V host: messages and event flags go into
//! pages that L1 shares, interrupts into L1's local APIC.

use crate::cpu::apic;
use crate::hostile::{Fate, What};
use crate::hyperv::{self, Synic};
use crate::smp::{self, MAX_CPUS};
use crate::vp::Vp;
use spin::Mutex;
use tdx_model::gpa::{Gpa, SHARED_BIT};
use tdx_model::page_state::PageState;

/// Its registers among the synthetic MSRs.
pub const REGISTERS: core::ops::RangeInclusive<u64> = 0x4000_0080..=0x4000_009f;

static SYNICS: [Mutex<Synic>; MAX_CPUS] = [const { Mutex::new(Synic::RESET) }; MAX_CPUS];

/// Why nothing was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// No such processor.
    NoProcessor,
    /// The source or its page is off, or the page is not shared.
    Off,
    /// The slot still holds a message; it now says that another one waits.
    Full,
}

/// RDMSR of a register of processor `index`.
pub fn read(index: usize, register: u32) -> Option<u64> {
    SYNICS[index].lock().read(register)
}

/// WRMSR of a register of processor `index`.
pub fn write(index: usize, register: u32, value: u64) -> Option<()> {
    SYNICS[index].lock().write(register, value)
}

/// What the controller of a processor is set to.
fn synic(index: usize) -> Result<Synic, Undelivered> {
    if index >= smp::count() {
        return Err(Undelivered::NoProcessor);
    }
    Ok(*SYNICS[index].lock())
}

/// Whether the host reaches this memory: it can neither read nor write what is private.
pub fn is_shared(vp: &Vp, gpa: u64, len_bytes: u64) -> bool {
    let first = gpa & !SHARED_BIT;
    let is_one_page = (first >> 12) == (first.saturating_add(len_bytes.max(1) - 1) >> 12);
    let world = vp.platform.world();
    is_one_page
        && first < world.td.pages.end().0
        && world.td.pages.state(Gpa(first & !0xfff)) == PageState::Shared
}

/// Posts a message with eight bytes of payload to a source of a processor.
///
/// # Errors
///
/// When it cannot be delivered.
pub fn post_message(
    vp: &mut Vp,
    index: usize,
    sint: u8,
    kind: u32,
    payload: u64,
) -> Result<(), Undelivered> {
    let synic = synic(index)?;
    let slot = synic.message_slot(sint).ok_or(Undelivered::Off)? & !SHARED_BIT;
    if !is_shared(vp, slot, hyperv::MESSAGE_BYTES) {
        return Err(Undelivered::Off);
    }
    let times = times(vp.host.chaos.fate(What::Message));
    let memory = &vp.platform.memory;
    let mut old = [0; 8];
    if !memory.read(slot, &mut old) {
        return Err(Undelivered::Off);
    }
    if old[..4] != [0; 4] {
        let flags = old[5] | hyperv::MESSAGE_PENDING;
        let is_marked = memory.write(slot + hyperv::MESSAGE_FLAGS, &[flags]);
        return Err(if is_marked {
            Undelivered::Full
        } else {
            Undelivered::Off
        });
    }
    let bytes = hyperv::message(kind, &payload.to_le_bytes());
    for _ in 0..times {
        // The type is what L1 polls for, so it comes last.
        if !memory.write(slot + 4, &bytes[4..]) || !memory.write(slot, &bytes[..4]) {
            return Err(Undelivered::Off);
        }
        notify(vp, index, synic.vector(sint));
    }
    Ok(())
}

/// Sets an event flag of a source of a processor.
///
/// # Errors
///
/// When it cannot be delivered.
pub fn signal_event(vp: &mut Vp, index: usize, sint: u8, flag: u32) -> Result<(), Undelivered> {
    let synic = synic(index)?;
    let (byte, bit) = synic.event_flag(sint, flag).ok_or(Undelivered::Off)?;
    let byte = byte & !SHARED_BIT;
    if !is_shared(vp, byte, 1) {
        return Err(Undelivered::Off);
    }
    for _ in 0..times(vp.host.chaos.fate(What::Message)) {
        if !vp.platform.memory.set_bits(byte, bit) {
            return Err(Undelivered::Off);
        }
        notify(vp, index, synic.vector(sint));
    }
    Ok(())
}

fn times(fate: Fate) -> usize {
    match fate {
        Fate::Never => 0,
        Fate::Once | Fate::Late => 1,
        Fate::Twice => 2,
    }
}

/// Posts the interrupt of a source.
fn notify(vp: &mut Vp, index: usize, vector: Option<u8>) {
    let Some(vector) = vector else { return };
    let apic_id = smp::apic_id(index);
    match vp.host.chaos.fate(What::Irq) {
        Fate::Once => apic::send_interrupt(apic_id, vector),
        Fate::Never => {}
        Fate::Twice => {
            apic::send_interrupt(apic_id, vector);
            apic::send_interrupt(apic_id, vector);
        }
        Fate::Late => vp.host.late_interrupt = Some((apic_id, vector)),
    }
}

/// Posts what was kept back.
pub fn deliver_late(vp: &mut Vp) {
    if let Some((apic_id, vector)) = vp.host.late_interrupt.take() {
        apic::send_interrupt(apic_id, vector);
    }
}
