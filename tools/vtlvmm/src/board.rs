// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Everything that the processors of a machine share: memory, devices, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::memory::{Protected, Ram, Range};
use crate::monitor::Watch;
use crate::parking::Mutex;
use crate::platform::interrupts::Interrupts;
use crate::platform::ports::PortDevices;
use crate::platform::power::Power;
use crate::platform::{IO_APIC_BASE, IO_APIC_LEN};
use crate::processors::Processors;
use crate::smbios;
use crate::virtio::Slot;
use crate::virtio::mmio::{Limits, Transport};

/// Number of exits of each kind that reached userspace.
pub type Tally = BTreeMap<&'static str, u64>;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest wanted that.
    Power(Power),
    /// No processor can do anything any more.
    Halted,
    /// The guest did what it can't go on after.
    Failed(String),
    /// Stopped from outside, for this reason.
    Stopped(String),
    /// Stopped because of what the monitor has found.
    Violated(String),
}

/// See the module.
#[derive(Debug)]
pub struct Board<M> {
    /// Memory.
    pub memory: M,
    /// The same without what VTL1 protects: for what is written because VTL0 says so.
    pub device_memory: M,
    /// What VTL1 protects.
    pub protected: Arc<Protected>,
    /// Devices with ports.
    pub ports: PortDevices,
    /// The I/O APIC.
    pub interrupts: Arc<Interrupts>,
    /// Virtio devices.
    pub virtio: Vec<(Slot, Mutex<Transport>)>,
    /// The processors.
    pub processors: Arc<Processors>,
    /// Checks the guest, if that is wanted.
    pub watch: Option<Arc<Watch>>,
    /// How it ended, once it has.
    pub end: Mutex<Option<End>>,
}

/// A device with memory, and where in it.
enum DeviceAt<'a> {
    IoApic(u32),
    Rom(u32),
    Virtio(&'a Mutex<Transport>, u32),
}

impl<M: Ram> Board<M> {
    /// Ends the machine, unless it has ended already.
    pub fn end(&self, end: End) {
        self.end.lock().get_or_insert(end);
        self.processors.stop();
    }

    /// Reads device memory. All bits are ones if there is no device.
    pub fn read(&self, gpa: u64, size: u8) -> u64 {
        match self.device(gpa) {
            Some(DeviceAt::IoApic(offset)) => u64::from(self.interrupts.read(offset)),
            Some(DeviceAt::Rom(offset)) => smbios::read_rom(offset, size),
            Some(DeviceAt::Virtio(device, offset)) => device.lock().read(offset, size),
            None => u64::MAX,
        }
    }

    /// Writes device memory.
    pub fn write(&self, gpa: u64, size: u8, value: u64) {
        match self.device(gpa) {
            // CAST: its registers have 32 bits.
            Some(DeviceAt::IoApic(offset)) => self.interrupts.write(offset, value as u32),
            Some(DeviceAt::Virtio(device, offset)) => {
                let limits = Limits {
                    is_over: self.processors.is_over(),
                    protected: &self.protected,
                };
                device
                    .lock()
                    .write(&self.device_memory, &limits, offset, size, value);
            }
            Some(DeviceAt::Rom(_)) | None => {}
        }
    }

    fn device(&self, gpa: u64) -> Option<DeviceAt<'_>> {
        let offset_in = |base: u32, len: u32| {
            let offset = gpa.checked_sub(u64::from(base))?;
            u32::try_from(offset).ok().filter(|offset| *offset < len)
        };
        if smbios::ROM.contains(Range::new(gpa, gpa.saturating_add(1))) {
            // CAST: below 64 KiB.
            return Some(DeviceAt::Rom((gpa - smbios::ROM.start) as u32));
        }
        if let Some(offset) = offset_in(IO_APIC_BASE, IO_APIC_LEN) {
            return Some(DeviceAt::IoApic(offset));
        }
        self.virtio.iter().find_map(|(slot, device)| {
            let offset = offset_in(slot.base(), Slot::LEN)?;
            Some(DeviceAt::Virtio(device, offset))
        })
    }
}
