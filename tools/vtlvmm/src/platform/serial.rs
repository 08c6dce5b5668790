// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The serial port: `vm-superio`'s 16550 between the guest and a console.

use std::io::Write;

use vm_superio::Serial;
use vm_superio::serial::NoEvents;

use super::interrupts::Line;
use crate::parking::Mutex;

/// Where the guest's characters go.
pub type Output = Box<dyn Write + Send>;

/// The port.
pub struct SerialPort(Mutex<Serial<Line, NoEvents, Quiet>>);

impl std::fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SerialPort").finish_non_exhaustive()
    }
}

/// Ignores errors: a console that has gone away must not end the guest.
struct Quiet(Output);

impl Write for Quiet {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

impl SerialPort {
    /// A port whose characters go to `output`.
    pub fn new(line: Line, output: Output) -> Self {
        Self(Mutex::new(Serial::new(line, Quiet(output))))
    }

    /// Reads a register.
    pub fn read(&self, register: u8) -> u8 {
        self.0.lock().read(register)
    }

    /// Writes a register.
    pub fn write(&self, register: u8, value: u8) {
        // Neither the line nor the output fails; in loopback an excess byte is lost, as in a 16550.
        let _ = self.0.lock().write(register, value);
    }

    /// A character for the output that no driver sent.
    pub fn put(&self, value: u8) {
        let mut serial = self.0.lock();
        let _ = serial.writer_mut().write(&[value]);
        let _ = serial.writer_mut().flush();
    }

    /// Gives the guest what was typed; how much of it there was room for.
    pub fn type_in(&self, bytes: &[u8]) -> usize {
        self.0.lock().enqueue_raw_bytes(bytes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Gsi;
    use crate::platform::interrupts::{Deliver, Interrupts};
    use crate::platform::ioapic::Message;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Deliver for Counter {
        fn deliver(&self, message: Message) {
            assert_eq!(message.vector, 0x24);
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn typing_raises_the_interrupt_once_the_driver_wants_it() {
        let counter = Arc::new(Counter::default());
        let interrupts = Interrupts::new(Arc::clone(&counter) as Arc<dyn Deliver>);
        interrupts.write(0, 0x18);
        interrupts.write(0x10, 0x24);
        let port = SerialPort::new(interrupts.line(Gsi::SERIAL), Box::new(std::io::sink()));
        assert_eq!(port.type_in(b"a"), 1);
        assert_eq!(counter.0.load(Ordering::SeqCst), 0);
        port.write(1, 1);
        assert_eq!(port.type_in(b"b"), 1);
        assert_ne!(counter.0.load(Ordering::SeqCst), 0);
        assert_eq!((port.read(0), port.read(0)), (b'a', b'b'));
    }

    #[test]
    fn a_full_queue_takes_no_more_and_a_dead_console_harms_nobody() {
        let interrupts = Interrupts::new(Arc::new(Counter::default()));
        let port = SerialPort::new(interrupts.line(Gsi::SERIAL), Box::new(Broken));
        let long = [b'x'; 200];
        let taken = port.type_in(&long);
        assert!(taken < long.len());
        assert_eq!(port.type_in(&long), 0);
        for register in 0..=u8::MAX {
            port.write(register, 0xff);
            let _ = port.read(register);
        }
        port.put(b'x');
    }
}
