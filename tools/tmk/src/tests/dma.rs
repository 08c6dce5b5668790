// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a device reaches: QEMU's teaching device copies between memory and a buffer of its own.
//! [QEMU docs/specs/edu]

use super::Memory;
use super::memory::shared_window;
use crate::cpu::{peek, poke, take_interrupts, taken_vector};
use crate::host;
use crate::pci;
use crate::tdx::{self, leaf};
use crate::vm::{Outcome, Vm, equal};
use core::sync::atomic::AtomicU64;

const SHARED: u64 = 1 << 47;
/// Memory of VTL0 that no other test uses: a page that is shared, then a private one.
const PAGES: u64 = 40 << 20;

/// The device, by its registers.
struct Device {
    registers: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToDevice,
    ToMemory,
}

impl Device {
    fn find() -> Self {
        const EDU: u64 = 0x11e8_1234;
        let registers = pci::Device::find(EDU).bar(0);
        Self { registers }
    }

    /// Copies a page between this address and the device's buffer, and waits until it is done.
    fn copy(&self, address: u64, direction: Direction) {
        const SOURCE: u64 = 0x80;
        const TARGET: u64 = 0x88;
        const COUNT: u64 = 0x90;
        const COMMAND: u64 = 0x98;
        const BUFFER: u64 = 0x4_0000;
        const RUN: u64 = 1;
        let (source, target, command) = match direction {
            Direction::ToDevice => (address, BUFFER, RUN),
            Direction::ToMemory => (BUFFER, address, RUN | 2),
        };
        for (register, value) in [(SOURCE, source), (TARGET, target), (COUNT, 4096)] {
            host::write_mmio32(self.registers + register, value);
        }
        host::write_mmio32(self.registers + COMMAND, command);
        while host::read_mmio32(self.registers + COMMAND) & RUN != 0 {}
    }
}

/// In what the device has copied, and in this program's own page. No bit is in both.
const PATTERN: u64 = 0x5050_0a0a_1111_4444;
const OWN: u64 = !PATTERN;

/// A private page of this program.
fn own_page() -> u64 {
    #[repr(C, align(4096))]
    struct Page([AtomicU64; 512]);
    static PAGE: Page = Page([const { AtomicU64::new(OWN) }; 512]);
    PAGE.0.as_ptr() as u64
}

fn words(page: u64) -> impl Iterator<Item = u64> {
    (page..page + 0x1000).step_by(8)
}

fn fill(page: u64, value: u64) {
    words(page).for_each(|at| poke(at, value));
}

fn accept(page: u64) -> u64 {
    tdx::call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0)[0]
}

/// A shared page, where this program sees it, and a private page.
fn pages(memory: &Memory) -> (u64, u64, u64) {
    let shared = memory.start + PAGES;
    host::map_gpa(shared | SHARED, 0x1000);
    let private = shared + 0x1000;
    // Accepted by the first test that comes here.
    accept(private);
    (shared, shared_window() + shared, private)
}

pub fn device_reaches_what_l1_shares(_: &mut Vm, memory: &Memory) -> Outcome {
    let (shared, window, _) = pages(memory);
    let device = Device::find();
    poke(window + 8, 0x1122_3344_5566_7788);
    device.copy(shared, Direction::ToDevice);
    poke(window + 8, 0);
    device.copy(shared, Direction::ToMemory);
    equal!(peek(window + 8), 0x1122_3344_5566_7788);
    Ok(())
}

pub fn device_does_not_write_to_private_pages(_: &mut Vm, memory: &Memory) -> Outcome {
    let (shared, window, private) = pages(memory);
    let device = Device::find();
    poke(window, 0xbad);
    poke(private, 0x900d);
    device.copy(shared, Direction::ToDevice);
    device.copy(private, Direction::ToMemory);
    equal!(peek(private), 0x900d);
    Ok(())
}

pub fn device_does_not_read_private_pages(_: &mut Vm, memory: &Memory) -> Outcome {
    let (shared, window, private) = pages(memory);
    let device = Device::find();
    poke(window, 0x900d);
    poke(private, 0x5ec4e7);
    device.copy(shared, Direction::ToDevice);
    device.copy(private, Direction::ToDevice);
    device.copy(shared, Direction::ToMemory);
    equal!(u64::from(peek(window) == 0x5ec4e7), 0);
    Ok(())
}

pub fn device_loses_a_page_that_is_private_again(_: &mut Vm, memory: &Memory) -> Outcome {
    let (shared, window, _) = pages(memory);
    let device = Device::find();
    poke(window, 0xbad);
    device.copy(shared, Direction::ToDevice);
    // The device knows where the page is, from here on.
    device.copy(shared, Direction::ToMemory);
    host::map_gpa(shared, 0x1000);
    equal!(accept(shared), 0);
    device.copy(shared, Direction::ToMemory);
    equal!(peek(shared), 0);
    Ok(())
}

pub fn device_does_not_reach_l1_nor_the_emulator(_: &mut Vm, memory: &Memory) -> Outcome {
    const L1: u64 = 0x100_0000;
    const EMULATOR: u64 = 0x2fe0_0000;
    let (shared, window, _) = pages(memory);
    let device = Device::find();
    for page in [L1, own_page(), EMULATOR] {
        fill(window, PATTERN);
        device.copy(shared, Direction::ToDevice);
        device.copy(page, Direction::ToDevice);
        device.copy(shared, Direction::ToMemory);
        // What the device read there, if anything: it keeps what it had, or gets zeros.
        for at in words(window) {
            equal!(peek(at) & !PATTERN, 0);
        }
    }
    for page in [own_page(), EMULATOR] {
        fill(own_page(), OWN);
        fill(window, PATTERN);
        device.copy(shared, Direction::ToDevice);
        // The emulator would notice.
        device.copy(page, Direction::ToMemory);
        for at in words(own_page()) {
            equal!(peek(at), OWN);
        }
    }
    Ok(())
}

pub fn l1_does_not_reach_the_unit(_: &mut Vm, _: &Memory) -> Outcome {
    const UNIT: u64 = 0xfed9_0000;
    const GLOBAL_COMMAND: u64 = UNIT + 0x18;
    equal!(u64::from(host::refuses_mmio32(GLOBAL_COMMAND)), 1);
    // Which would switch it off.
    equal!(u64::from(host::refuses_mmio32_write(GLOBAL_COMMAND, 0)), 1);
    Ok(())
}

/// What a device writes there is a message-signalled interrupt, here for the APIC ID 0, which is QEMU's
/// first processor's. Where that keeps the timers of the host, it has interrupts enabled.
pub fn interrupts_of_a_device_for_no_processor_are_dropped(_: &mut Vm, memory: &Memory) -> Outcome {
    const MESSAGES: u64 = 0xfee0_0000;
    const FIXED: u64 = 0x41;
    let (shared, window, _) = pages(memory);
    let device = Device::find();
    fill(window, FIXED | (FIXED << 32));
    device.copy(shared, Direction::ToDevice);
    taken_vector();
    device.copy(MESSAGES, Direction::ToMemory);
    take_interrupts();
    equal!(taken_vector(), 0);
    device_reaches_what_l1_shares(&mut Vm::new(1), memory)
}
