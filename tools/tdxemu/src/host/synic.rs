// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The synthetic interrupt controllers of the Hyper-V host: messages and event flags go into
//! pages that L1 shares, interrupts into L1's local APIC.

use super::debug_port;
use crate::hostile::{Fate, What};
use crate::hyperv::{self, Message, Queue, Synic};
use crate::l1_apic::MAX_CPUS;
use crate::smp;
use crate::vp::Vp;
use spin::Mutex;
use tdx_model::gpa::{Gpa, SHARED_BIT};
use tdx_model::page_state::PageState;

/// Its registers among the synthetic MSRs.
pub const REGISTERS: core::ops::RangeInclusive<u64> = 0x4000_0080..=0x4000_009f;

static SYNICS: [Mutex<Synic>; MAX_CPUS] = [const { Mutex::new(Synic::RESET) }; MAX_CPUS];

/// Those that the host keeps for VTL0.
static VTL0_SYNICS: [Mutex<Synic>; MAX_CPUS] = [const { Mutex::new(Synic::ENABLED) }; MAX_CPUS];
/// Messages that wait for their slots.
static QUEUES: [Mutex<Queue>; MAX_CPUS] = [const { Mutex::new(Queue::EMPTY) }; MAX_CPUS];
/// The SINT by which VTL2 is notified about a lower VTL.
const INTERCEPTION: u8 = 0;

/// Why nothing was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// No such processor.
    NoProcessor,
    /// The SINT or its page is disabled, or the page is not shared.
    Off,
    /// The slot still holds a message, and as many wait as can.
    Full,
}

/// RDMSR of a register of processor `index`.
pub fn read(index: usize, register: u32) -> Option<u64> {
    if debug_port::refuses_register() {
        return None;
    }
    SYNICS[index].lock().read(register)
}

/// WRMSR of a register of the processor itself.
pub fn write(vp: &mut Vp, register: u32, value: u64) -> Option<()> {
    if debug_port::refuses_register() {
        return None;
    }
    SYNICS[vp.index].lock().write(register, value)?;
    if register == hyperv::msr::EOM {
        deliver_waiting(vp, vp.index);
    }
    Some(())
}

/// What the controller of a processor is set to.
fn synic(index: usize) -> Result<Synic, Undelivered> {
    if index >= smp::count() {
        return Err(Undelivered::NoProcessor);
    }
    Ok(*SYNICS[index].lock())
}

/// Returns true if the host can access this memory: it can neither read nor write private memory.
pub fn is_shared(vp: &Vp, gpa: u64, len_bytes: u64) -> bool {
    let first = gpa & !SHARED_BIT;
    let is_one_page = (first >> 12) == (first.saturating_add(len_bytes.max(1) - 1) >> 12);
    let world = vp.platform.world();
    is_one_page
        && first < world.td.pages.end().0
        && world.td.pages.state(Gpa(first & !0xfff)) == PageState::Shared
}

/// Posts a message to a SINT of a processor. If the slot is full, the message is queued, and
/// delivered when L1 has emptied the slot and written EOM.
///
/// # Errors
///
/// It can neither be delivered nor queued.
pub fn post_message(
    vp: &mut Vp,
    index: usize,
    sint: u8,
    message: &Message,
) -> Result<(), Undelivered> {
    slot(vp, index, sint)?;
    match vp.host.chaos.fate(What::Message) {
        Fate::Never => Ok(()),
        Fate::Once => deliver_or_queue(vp, index, sint, message),
        Fate::Twice => {
            deliver_or_queue(vp, index, sint, message)?;
            // There may be no room for the second one.
            let _ = deliver_or_queue(vp, index, sint, message);
            Ok(())
        }
        // Later messages overtake it.
        Fate::Late => {
            vp.host.late_message = Some((index, sint, *message));
            Ok(())
        }
    }
}

/// Notifies VTL2 on a processor of interrupts for VTL0 there.
///
/// # Errors
///
/// As [`post_message`].
pub fn proxy_interrupts(
    vp: &mut Vp,
    index: usize,
    first: u8,
    count: u8,
) -> Result<(), Undelivered> {
    post_message(vp, index, INTERCEPTION, &hyperv::proxied(first, count))
}

/// Address of the slot of a source, which the host reaches.
fn slot(vp: &Vp, index: usize, sint: u8) -> Result<u64, Undelivered> {
    let slot = synic(index)?.message_slot(sint).ok_or(Undelivered::Off)? & !SHARED_BIT;
    if is_shared(vp, slot, hyperv::MESSAGE_BYTES) {
        Ok(slot)
    } else {
        Err(Undelivered::Off)
    }
}

fn deliver_or_queue(
    vp: &mut Vp,
    index: usize,
    sint: u8,
    message: &Message,
) -> Result<(), Undelivered> {
    let slot = slot(vp, index, sint)?;
    let mut queue = QUEUES[index].lock();
    let memory = &vp.platform.memory;
    let mut old = [0; 8];
    if !memory.read(slot, &mut old) {
        return Err(Undelivered::Off);
    }
    if queue.has(sint) || old[..4] != [0; 4] {
        if !queue.push(sint, message) {
            return Err(Undelivered::Full);
        }
        let is_marked = memory.set_bits(slot + hyperv::MESSAGE_FLAGS, hyperv::MESSAGE_PENDING);
        drop(queue);
        // L1 may have emptied the slot before it could see the mark, and then says nothing.
        deliver_waiting(vp, index);
        return if is_marked {
            Ok(())
        } else {
            Err(Undelivered::Off)
        };
    }
    let is_written = write_message(vp, slot, message);
    drop(queue);
    if !is_written {
        return Err(Undelivered::Off);
    }
    notify(vp, index, synic(index)?.vector(sint));
    Ok(())
}

/// Writes the type last, because L1 checks it first.
fn write_message(vp: &Vp, slot: u64, message: &Message) -> bool {
    let memory = &vp.platform.memory;
    memory.write(slot + 4, &message[4..]) && memory.write(slot, &message[..4])
}

/// Puts messages that wait into slots that are free. One that is not the last is marked.
fn deliver_waiting(vp: &mut Vp, index: usize) {
    for sint in 0..hyperv::SINTS as u8 {
        let Ok(slot) = slot(vp, index, sint) else {
            continue;
        };
        let mut queue = QUEUES[index].lock();
        let mut kind = [0; 4];
        if !queue.has(sint) || !vp.platform.memory.read(slot, &mut kind) || kind != [0; 4] {
            continue;
        }
        let Some(mut message) = queue.pop(sint) else {
            continue;
        };
        if queue.has(sint) {
            message[5] |= hyperv::MESSAGE_PENDING;
        }
        let is_written = write_message(vp, slot, &message);
        drop(queue);
        if is_written {
            let vector = synic(index).ok().and_then(|synic| synic.vector(sint));
            notify(vp, index, vector);
        }
    }
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

/// Sets a register of the SynIC that the host keeps for VTL0 of processor `index`.
pub fn write_vtl0(index: usize, register: u32, value: u64) -> Option<()> {
    VTL0_SYNICS[index].lock().write(register, value)
}

/// Writes a message to a slot of VTL0, and notifies VTL2 of the interrupt.
///
/// # Errors
///
/// The SINT or its page is disabled or not shared, or the slot is full.
pub fn post_to_vtl0(
    vp: &mut Vp,
    index: usize,
    sint: u8,
    message: &Message,
) -> Result<(), Undelivered> {
    let synic = *VTL0_SYNICS[index].lock();
    let slot = synic.message_slot(sint).ok_or(Undelivered::Off)? & !SHARED_BIT;
    let mut kind = [0; 4];
    if !is_shared(vp, slot, hyperv::MESSAGE_BYTES) || !vp.platform.memory.read(slot, &mut kind) {
        return Err(Undelivered::Off);
    }
    if kind != [0; 4] {
        return Err(Undelivered::Full);
    }
    if !write_message(vp, slot, message) {
        return Err(Undelivered::Off);
    }
    proxy(vp, index, synic.vector(sint))
}

/// Sets an event flag of VTL0. If it was clear, notifies VTL2 of the interrupt and returns true.
///
/// # Errors
///
/// The SINT or its page is disabled or not shared.
pub fn signal_to_vtl0(vp: &mut Vp, index: usize, sint: u8, flag: u32) -> Result<bool, Undelivered> {
    let synic = *VTL0_SYNICS[index].lock();
    let (byte, bit) = synic.event_flag(sint, flag).ok_or(Undelivered::Off)?;
    let byte = byte & !SHARED_BIT;
    let mut old = [0];
    if !is_shared(vp, byte, 1) || !vp.platform.memory.read(byte, &mut old) {
        return Err(Undelivered::Off);
    }
    if old[0] & bit != 0 {
        return Ok(false);
    }
    if !vp.platform.memory.set_bits(byte, bit) {
        return Err(Undelivered::Off);
    }
    proxy(vp, index, synic.vector(sint))?;
    Ok(true)
}

fn proxy(vp: &mut Vp, index: usize, vector: Option<u8>) -> Result<(), Undelivered> {
    match vector {
        Some(vector) => proxy_interrupts(vp, index, vector, 1),
        None => Ok(()),
    }
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
    match vp.host.chaos.fate(What::Irq) {
        Fate::Once => smp::send_interrupt(index, vector),
        Fate::Never => {}
        Fate::Twice => {
            smp::send_interrupt(index, vector);
            smp::send_interrupt(index, vector);
        }
        Fate::Late => vp.host.late_interrupt = Some((index, vector)),
    }
}

/// Posts what was kept back.
pub fn deliver_late(vp: &mut Vp) {
    if let Some((index, sint, message)) = vp.host.late_message.take() {
        // A SINT that was disabled meanwhile gets nothing.
        let _ = deliver_or_queue(vp, index, sint, &message);
    }
    if let Some((index, vector)) = vp.host.late_interrupt.take() {
        smp::send_interrupt(index, vector);
    }
}
