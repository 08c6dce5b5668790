// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What L1 asks of the host by TDG.VP.VMCALL: the console, the end, the interrupt controller.
//! [GHCI 3]

use crate::cpu::{Registers, tdcall};
use core::fmt;

const COM1: u64 = 0x3f8;
const PM1A_CONTROL: u64 = 0x604;
const S5: u64 = 0x2000;
const IO: u64 = 0x1e;
const WRMSR: u64 = 0x20;
/// R10 to R15.
const MASK: u64 = 0xfc00;

fn call(function: u64, operands: [u64; 4]) -> u64 {
    let mut registers: Registers = [0; 16];
    (registers[1], registers[11]) = (MASK, function);
    registers[12..].copy_from_slice(&operands);
    tdcall(&mut registers);
    assert!(
        registers[0] == 0 && registers[10] == 0,
        "TDVMCALL {function:#x}: {:#x} {:#x}",
        registers[0],
        registers[10]
    );
    registers[11]
}

/// WRMSR by the host.
pub fn wrmsr(index: u64, value: u64) {
    call(WRMSR, [index, value, 0, 0]);
}

/// Powers the machine off.
pub fn power_off() -> ! {
    call(IO, [2, 1, PM1A_CONTROL, S5]);
    loop {
        core::hint::spin_loop();
    }
}

/// COM1.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            call(IO, [1, 1, COM1, u64::from(byte)]);
        }
        Ok(())
    }
}

/// Prints a line.
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        // The console takes everything.
        let _ = writeln!($crate::host::Console, $($argument)*);
    }};
}
pub(crate) use say;
