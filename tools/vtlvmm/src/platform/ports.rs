// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Dispatches port accesses to devices. All other ports float: reads return ones, writes are
//! ignored.

use std::time::SystemTime;

use super::Ports;
use super::clock::Clock;
use super::power::{self, Power};
use super::serial::SerialPort;
use crate::parking::Mutex;

/// The devices with ports.
#[derive(Debug)]
pub struct PortDevices {
    /// The console.
    pub serial: SerialPort,
    clock: Mutex<Clock>,
}

/// First port after the serial one's.
const SERIAL_END: u16 = Ports::SERIAL + Ports::SERIAL_LEN as u16;
const CLOCK_DATA: u16 = Ports::CLOCK + 1;

impl PortDevices {
    /// A clock, and `serial`.
    pub fn new(serial: SerialPort) -> Self {
        Self {
            serial,
            clock: Mutex::default(),
        }
    }

    /// Reads `size` bytes, 1, 2 or 4. The devices have registers of a byte.
    pub fn read(&self, port: u16, size: u8) -> u32 {
        let bytes: [u8; 4] = std::array::from_fn(|at| match u8::try_from(at) {
            // CAST: at most 3.
            Ok(offset) if offset < size => self.read_byte(port.wrapping_add(at as u16)),
            _ => 0,
        });
        u32::from_le_bytes(bytes)
    }

    /// Writes `size` bytes.
    pub fn write(&self, port: u16, size: u8, value: u32) -> Option<Power> {
        let bytes = value.to_le_bytes();
        let ports = (0..size.min(4)).map(|offset| port.wrapping_add(u16::from(offset)));
        ports
            .zip(bytes)
            .filter_map(|(port, byte)| self.write_byte(port, byte))
            .next()
    }

    fn read_byte(&self, port: u16) -> u8 {
        const FLOATING: u8 = 0xff;
        match port {
            // CAST: below 8.
            Ports::SERIAL..SERIAL_END => self.serial.read((port - Ports::SERIAL) as u8),
            CLOCK_DATA => self.clock.lock().read(SystemTime::now()),
            Ports::DEBUG_CONSOLE => 0xe9,
            Ports::SLEEP_CONTROL | Ports::SLEEP_STATUS | Ports::RESET => 0,
            _ => FLOATING,
        }
    }

    fn write_byte(&self, port: u16, value: u8) -> Option<Power> {
        match port {
            // CAST: below 8.
            Ports::SERIAL..SERIAL_END => self.serial.write((port - Ports::SERIAL) as u8, value),
            Ports::CLOCK => self.clock.lock().select(value),
            Ports::DEBUG_CONSOLE => self.serial.put(value),
            _ => return power::written(port, value),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Gsi;
    use crate::platform::interrupts::{Deliver, Interrupts};
    use crate::platform::ioapic::Message;
    use std::sync::Arc;

    struct Nobody;

    impl Deliver for Nobody {
        fn deliver(&self, _message: Message) {}
    }

    fn devices() -> PortDevices {
        let interrupts = Interrupts::new(Arc::new(Nobody));
        PortDevices::new(SerialPort::new(
            interrupts.line(Gsi::SERIAL),
            Box::new(std::io::sink()),
        ))
    }

    #[test]
    fn ports_float_where_there_is_no_device() {
        let devices = devices();
        assert_eq!(devices.read(0x61, 1), 0xff);
        assert_eq!(devices.read(0xcfc, 4), 0xffff_ffff);
        assert_eq!(devices.read(0xffff, 4) >> 8, 0x00ff_ffff);
        assert_eq!(devices.write(0xffff, 4, 0), None);
    }

    #[test]
    fn a_wide_access_reaches_each_register() {
        let devices = devices();
        devices.write(0x3ff, 1, 0x5a);
        assert_eq!(devices.read(0x3fe, 2) >> 8, 0x5a);
        assert_eq!(devices.write(0x5ff, 2, 0x3400), Some(Power::Off));
    }
}
