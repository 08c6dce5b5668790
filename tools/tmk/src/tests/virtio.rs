// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A virtio disk of QEMU's: what it reads gets to pages that are shared, and to no other.
//! [virtio 1.2: 2.7, 4.1, 5.2]

use super::Memory;
use super::memory::shared_window;
use crate::cpu::{peek, poke};
use crate::host;
use crate::pci;
use crate::tdx::{self, leaf};
use crate::vm::{Outcome, Vm, equal};

const SHARED: u64 = 1 << 47;
/// Memory of VTL0 that no other test uses: the queue, data, a private page.
const PAGES: u64 = 44 << 20;

/// Offsets in the common configuration.
mod common {
    pub(super) const FEATURE_SELECT: u64 = 0;
    pub(super) const FEATURES: u64 = 4;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 8;
    pub(super) const DRIVER_FEATURES: u64 = 12;
    pub(super) const STATUS: u64 = 20;
    pub(super) const QUEUE_SIZE: u64 = 24;
    pub(super) const QUEUE_ENABLE: u64 = 28;
    pub(super) const QUEUE_ADDRESSES: u64 = 32;
}

/// Bits of the status.
mod status {
    pub(super) const ACKNOWLEDGE: u64 = 1;
    pub(super) const DRIVER: u64 = 2;
    pub(super) const DRIVER_OK: u64 = 4;
    pub(super) const FEATURES_OK: u64 = 8;
    pub(super) const NEEDS_RESET: u64 = 0x40;
}

/// Offsets in the page of the queue: descriptors, the two rings, a request, its status.
const DRIVER_RING: u64 = 0x100;
const DEVICE_RING: u64 = 0x200;
const REQUEST: u64 = 0x300;
const REQUEST_STATUS: u64 = 0x380;
const ENTRIES: u64 = 4;

struct Disk {
    common: u64,
    notify: u64,
    /// Where the queue is, for the device and for this program.
    queue: u64,
    window: u64,
}

impl Disk {
    /// Finds it.
    fn find(queue: u64) -> Self {
        const BLOCK_DEVICE: u64 = 0x1042_1af4;
        const COMMON: u64 = 1;
        const NOTIFY: u64 = 2;
        let device = pci::Device::find(BLOCK_DEVICE);
        Self {
            common: structure(device, COMMON),
            notify: structure(device, NOTIFY),
            queue,
            window: shared_window() + queue,
        }
    }

    fn status(&self) -> u64 {
        host::read_mmio(1, self.common + common::STATUS)
    }

    fn add_status(&self, bit: u64) {
        host::write_mmio(1, self.common + common::STATUS, self.status() | bit);
    }

    /// Resets it, and starts it with this queue.
    fn start(&self) -> Outcome {
        /// VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM, in the second half.
        const FEATURES: u64 = 3;
        host::write_mmio(1, self.common + common::STATUS, 0);
        while self.status() != 0 {}
        (0..4096)
            .step_by(8)
            .for_each(|at| poke(self.window + at, 0));
        self.add_status(status::ACKNOWLEDGE | status::DRIVER);
        host::write_mmio32(self.common + common::FEATURE_SELECT, 1);
        let offered = host::read_mmio32(self.common + common::FEATURES);
        equal!(offered & FEATURES, FEATURES);
        for (select, features) in [(0, 0), (1, FEATURES)] {
            host::write_mmio32(self.common + common::DRIVER_FEATURE_SELECT, select);
            host::write_mmio32(self.common + common::DRIVER_FEATURES, features);
        }
        self.add_status(status::FEATURES_OK);
        host::write_mmio(2, self.common + common::QUEUE_SIZE, ENTRIES);
        for (index, offset) in [0, DRIVER_RING, DEVICE_RING].into_iter().enumerate() {
            let register = self.common + common::QUEUE_ADDRESSES + 8 * index as u64;
            host::write_mmio32(register, (self.queue + offset) & 0xffff_ffff);
            host::write_mmio32(register + 4, (self.queue + offset) >> 32);
        }
        host::write_mmio(2, self.common + common::QUEUE_ENABLE, 1);
        self.add_status(status::DRIVER_OK);
        Ok(())
    }

    /// Has it read its first 512 bytes to this address. Returns true if it says that it did.
    fn read_sector(&self, target: u64) -> bool {
        const NEXT: u64 = 1;
        const WRITE: u64 = 2;
        let descriptors = [
            (self.queue + REQUEST, 16, NEXT, 1),
            (target, 512, NEXT | WRITE, 2),
            (self.queue + REQUEST_STATUS, 1, WRITE, 0),
        ];
        for (index, (address, len_bytes, flags, next)) in descriptors.into_iter().enumerate() {
            let at = self.window + 16 * index as u64;
            poke(at, address);
            poke(at + 8, len_bytes | (flags << 32) | (next << 48));
        }
        poke(self.window + REQUEST_STATUS, 0xff);
        // One chain, the first descriptor's: flags, index, ring.
        poke(self.window + DRIVER_RING, 1 << 16);
        host::write_mmio(2, self.notify, 0);
        let is_done = || (peek(self.window + DEVICE_RING) >> 16) & 0xffff == 1;
        while !is_done() && self.status() & status::NEEDS_RESET == 0 {}
        is_done() && peek(self.window + REQUEST_STATUS) & 0xff == 0
    }
}

/// Where the registers are that a capability of this type names.
fn structure(device: pci::Device, wanted: u64) -> u64 {
    const CAPABILITIES: u64 = 0x34;
    const VENDOR: u64 = 9;
    let mut at = device.config8(CAPABILITIES);
    while at != 0 {
        if device.config8(at) == VENDOR && device.config8(at + 3) == wanted {
            return device.bar(device.config8(at + 4)) + device.config(at + 8);
        }
        at = device.config8(at + 1);
    }
    panic!("the disk lacks registers of type {wanted}")
}

/// The disk, with its queue in a shared page. The next page is shared as well, the one after it is
/// private.
fn disk(memory: &Memory) -> (Disk, u64, u64) {
    let queue = memory.start + PAGES;
    host::map_gpa(queue | SHARED, 0x2000);
    // Accepted by the first test that comes here.
    tdx::call(leaf::MEM_PAGE_ACCEPT, queue + 0x2000, 0, 0, 0);
    (Disk::find(queue), queue + 0x1000, queue + 0x2000)
}

pub fn disk_is_read_into_shared_memory(_: &mut Vm, memory: &Memory) -> Outcome {
    let (disk, data, _) = disk(memory);
    let window = shared_window() + data;
    disk.start()?;
    poke(window, 0);
    equal!(u64::from(disk.read_sector(data)), 1);
    // What scripts/tmk.sh puts there.
    equal!(peek(window), u64::from_le_bytes(*b"DISK4TMK"));
    equal!(disk.status() & status::NEEDS_RESET, 0);
    Ok(())
}

/// QEMU's disk does not say that its access was refused; the log does.
pub fn disk_is_not_read_into_private_memory(_: &mut Vm, memory: &Memory) -> Outcome {
    let (disk, data, private) = disk(memory);
    let window = shared_window() + data;
    disk.start()?;
    poke(private, 0x900d);
    disk.read_sector(private);
    equal!(peek(private), 0x900d);
    // The same request to a shared page gets there.
    disk.start()?;
    poke(window, 0);
    equal!(u64::from(disk.read_sector(data)), 1);
    equal!(peek(window), u64::from_le_bytes(*b"DISK4TMK"));
    Ok(())
}
