// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The registers of a device on the memory-mapped transport [VIRTIO 4.2.2], and its one queue.
//!
//! If a driver sets the queue up wrongly, or gives it inconsistent descriptors, the device sets
//! DEVICE_NEEDS_RESET, raises an interrupt, and does nothing more until it is reset.

use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as register;
use virtio_queue::{Queue, QueueT};

use super::block::Block;
use super::rng::Random;
use crate::memory::{Protected, Ram};
use crate::platform::interrupts::Line;

/// Descriptors that the queue can have.
pub const QUEUE_LEN: u16 = 128;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"VTL0");
const USED_BUFFER: u32 = 1 << 0;
const CONFIGURATION_CHANGED: u32 = 1 << 1;

/// What ends the service of a queue, or has it wait.
#[derive(Debug)]
pub struct Limits<'a> {
    /// The machine ends.
    pub is_over: &'a AtomicBool,
    /// What VTL1 protects.
    pub protected: &'a Protected,
}

/// The kinds of device.
#[derive(Debug)]
pub enum Device {
    /// A disk.
    Block(Block),
    /// Random numbers.
    Random(Random),
}

impl Device {
    const fn id(&self) -> u32 {
        match self {
            Self::Block(_) => 2,
            Self::Random(_) => 4,
        }
    }

    const fn features(&self) -> u64 {
        let own = match self {
            Self::Block(block) => block.features(),
            Self::Random(_) => 0,
        };
        own | (1 << VIRTIO_F_VERSION_1)
    }

    fn config(&self, offset: usize) -> u8 {
        match self {
            Self::Block(block) => block.config(offset),
            Self::Random(_) => 0,
        }
    }
}

/// A device with its registers.
#[derive(Debug)]
pub struct Transport {
    device: Device,
    queue: Queue,
    line: Line,
    status: u32,
    interrupt_status: u32,
    feature_page: u32,
    driver_feature_page: u32,
    driver_features: u64,
    queue_selected: u32,
}

impl Transport {
    /// A device that raises `line`.
    pub fn new(device: Device, line: Line) -> Self {
        Self {
            device,
            queue: new_queue(),
            line,
            status: 0,
            interrupt_status: 0,
            feature_page: 0,
            driver_feature_page: 0,
            driver_features: 0,
            queue_selected: 0,
        }
    }

    /// Reads `size` bytes at `offset`.
    pub fn read(&self, offset: u32, size: u8) -> u64 {
        match offset.checked_sub(register::VIRTIO_MMIO_CONFIG) {
            Some(at) => {
                // CAST: below the slot's length.
                let byte = |n: u8| u64::from(self.device.config(at as usize + usize::from(n)));
                (0..size.min(8)).fold(0, |word, n| word | (byte(n) << (8 * n)))
            }
            // Registers have 32 bits, and no other access means anything.
            None if size == 4 => u64::from(self.register(offset)),
            None => 0,
        }
    }

    fn register(&self, offset: u32) -> u32 {
        let is_first_queue = self.queue_selected == 0;
        match offset {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => VERSION,
            register::VIRTIO_MMIO_DEVICE_ID => self.device.id(),
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => {
                half(self.device.features(), self.feature_page)
            }
            register::VIRTIO_MMIO_QUEUE_NUM_MAX if is_first_queue => u32::from(QUEUE_LEN),
            register::VIRTIO_MMIO_QUEUE_READY if is_first_queue => u32::from(self.queue.ready()),
            register::VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt_status,
            register::VIRTIO_MMIO_STATUS => self.status,
            _ => 0,
        }
    }

    /// Writes `size` bytes at `offset`. A notification serves the queue until it is empty, or until
    /// `is_over` is set.
    pub fn write<M: Ram>(
        &mut self,
        memory: &M,
        limits: &Limits<'_>,
        offset: u32,
        size: u8,
        value: u64,
    ) {
        if size != 4 {
            return;
        }
        // CAST: four bytes.
        let value = value as u32;
        match offset {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.feature_page = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_feature_page = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES => self.accept_features(value),
            register::VIRTIO_MMIO_QUEUE_SEL => self.queue_selected = value,
            register::VIRTIO_MMIO_QUEUE_NOTIFY if value == 0 => self.serve(memory, limits),
            register::VIRTIO_MMIO_INTERRUPT_ACK => self.interrupt_status &= !value,
            register::VIRTIO_MMIO_STATUS => self.set_status(value),
            _ if self.queue_selected == 0 => self.write_queue(memory, offset, value),
            _ => {}
        }
    }

    fn accept_features(&mut self, value: u32) {
        let shift = match self.driver_feature_page {
            page @ 0..=1 => 32 * page,
            _ => return,
        };
        let kept = self.driver_features & !(0xffff_ffff << shift);
        self.driver_features = kept | (u64::from(value) << shift);
    }

    fn set_status(&mut self, value: u32) {
        const FEATURES_OK: u32 = 8;
        if value == 0 {
            self.queue.reset();
            self.status = 0;
            self.interrupt_status = 0;
            self.driver_features = 0;
            return;
        }
        let is_acceptable = self.driver_features & !self.device.features() == 0
            && self.driver_features & (1 << VIRTIO_F_VERSION_1) != 0;
        let refused = if is_acceptable { 0 } else { FEATURES_OK };
        self.status = (self.status & VIRTIO_CONFIG_S_NEEDS_RESET) | (value & !refused);
    }

    fn write_queue<M: Ram>(&mut self, memory: &M, offset: u32, value: u32) {
        let queue = &mut self.queue;
        match offset {
            // What makes no sense leaves the queue as it was.
            register::VIRTIO_MMIO_QUEUE_NUM => {
                queue.set_size(u16::try_from(value).unwrap_or(0));
            }
            register::VIRTIO_MMIO_QUEUE_DESC_LOW => queue.set_desc_table_address(Some(value), None),
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH => {
                queue.set_desc_table_address(None, Some(value));
            }
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => {
                queue.set_avail_ring_address(Some(value), None);
            }
            register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => {
                queue.set_avail_ring_address(None, Some(value));
            }
            register::VIRTIO_MMIO_QUEUE_USED_LOW => queue.set_used_ring_address(Some(value), None),
            register::VIRTIO_MMIO_QUEUE_USED_HIGH => queue.set_used_ring_address(None, Some(value)),
            register::VIRTIO_MMIO_QUEUE_READY => {
                queue.set_ready(value == 1);
                if value == 1 && !queue.is_valid(memory) {
                    queue.set_ready(false);
                    self.fail();
                }
            }
            _ => {}
        }
    }

    /// Does what the driver has put into the queue.
    fn serve<M: Ram>(&mut self, memory: &M, limits: &Limits<'_>) {
        let is_live = self.status & VIRTIO_CONFIG_S_DRIVER_OK != 0
            && self.status & VIRTIO_CONFIG_S_NEEDS_RESET == 0
            && self.queue.ready();
        if !is_live {
            return;
        }
        let mut has_used = false;
        // A driver that fills the queue without end only occupies its own processor: whoever protects a
        // page waits for one piece of a request, or for the note that it was used.
        while !limits.is_over.load(Ordering::Relaxed) {
            let Ok(mut chains) = virtio_queue::QueueOwnedT::iter(&mut self.queue, memory) else {
                return self.fail();
            };
            let Some(chain) = chains.next() else { break };
            let head = chain.head_index();
            let written = match &mut self.device {
                Device::Block(block) => block.serve(memory, limits, chain),
                Device::Random(random) => random.serve(memory, limits.protected, chain),
            };
            let Some(written) = written else {
                return self.fail();
            };
            let writing = limits.protected.writing();
            let noted = self.queue.add_used(memory, head, written);
            drop(writing);
            if noted.is_err() {
                return self.fail();
            }
            has_used = true;
        }
        if has_used {
            self.interrupt(USED_BUFFER);
        }
    }

    fn interrupt(&mut self, why: u32) {
        self.interrupt_status |= why;
        self.line.pulse();
    }

    fn fail(&mut self) {
        self.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        self.interrupt(CONFIGURATION_CHANGED);
    }
}

fn new_queue() -> Queue {
    match Queue::new(QUEUE_LEN) {
        Ok(queue) => queue,
        Err(_) => unreachable!("the length is a power of two"),
    }
}

/// One half of the feature bits.
const fn half(features: u64, page: u32) -> u32 {
    match page {
        // CAST: one half.
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
