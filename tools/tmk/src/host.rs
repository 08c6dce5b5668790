// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests of L1 to the host by TDG.VP.VMCALL: the console, the end, the interrupt controller.
//! [GHCI 3]

use crate::cpu::{Registers, tdcall};
use core::fmt;

const COM1: u64 = 0x3f8;
const PM1A_CONTROL: u64 = 0x604;
const S5: u64 = 0x2000;
const CPUID: u64 = 0x0a;
const HLT: u64 = 0x0c;
const IO: u64 = 0x1e;
const RDMSR: u64 = 0x1f;
const WRMSR: u64 = 0x20;
const MMIO: u64 = 0x30;
const MAP_GPA: u64 = 0x1_0001;
const REPORT_FATAL_ERROR: u64 = 0x1_0003;
/// R10 to R15.
const MASK: u64 = 0xfc00;

fn answer(function: u64, operands: [u64; 4]) -> Registers {
    let mut registers: Registers = [0; 16];
    (registers[1], registers[11]) = (MASK, function);
    registers[12..].copy_from_slice(&operands);
    tdcall(&mut registers);
    registers
}

fn call(function: u64, operands: [u64; 4]) -> u64 {
    let registers = answer(function, operands);
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

/// Sleeps until an interrupt is pending, which stays so.
pub fn sleep() {
    call(HLT, [0; 4]);
}

/// Halts with interrupts disabled, forever.
pub fn stop() {
    const INTERRUPTS_ARE_OFF: u64 = 1;
    call(HLT, [INTERRUPTS_ARE_OFF, 0, 0, 0]);
}

/// RDMSR by the host.
pub fn rdmsr(index: u64) -> u64 {
    call(RDMSR, [index, 0, 0, 0])
}

/// Returns true if the host refuses RDMSR.
pub fn refuses_rdmsr(index: u64) -> bool {
    answer(RDMSR, [index, 0, 0, 0])[10] != 0
}

/// Returns true if the host refuses WRMSR.
pub fn refuses_wrmsr(index: u64, value: u64) -> bool {
    answer(WRMSR, [index, value, 0, 0])[10] != 0
}

/// CPUID of a leaf that the host answers: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u64) -> [u64; 4] {
    let registers = answer(CPUID, [leaf, 0, 0, 0]);
    core::array::from_fn(|index| registers[12 + index])
}

/// Reads a byte from a port.
pub fn read_port(port: u64) -> u64 {
    call(IO, [1, 0, port, 0])
}

/// Writes a byte to a port.
pub fn write_port(port: u64, byte: u64) {
    call(IO, [1, 1, port, byte]);
}

/// Writes a double word to a port.
pub fn write_port32(port: u64, value: u64) {
    call(IO, [4, 1, port, value]);
}

/// Reads a double word from a port.
pub fn read_port32(port: u64) -> u64 {
    call(IO, [4, 0, port, 0])
}

/// Returns true if the host refuses to read a register of a device.
pub fn refuses_mmio32(address: u64) -> bool {
    answer(MMIO, [4, 0, address, 0])[10] != 0
}

/// Returns true if the host refuses to write to one.
pub fn refuses_mmio32_write(address: u64, value: u64) -> bool {
    answer(MMIO, [4, 1, address, value])[10] != 0
}

/// Reads a register of a device in memory space.
pub fn read_mmio(size_bytes: u64, address: u64) -> u64 {
    call(MMIO, [size_bytes, 0, address, 0])
}

/// Writes one.
pub fn write_mmio(size_bytes: u64, address: u64, value: u64) {
    call(MMIO, [size_bytes, 1, address, value]);
}

/// Reads a register of 32 bits.
pub fn read_mmio32(address: u64) -> u64 {
    read_mmio(4, address)
}

/// Writes one.
pub fn write_mmio32(address: u64, value: u64) {
    write_mmio(4, address, value);
}

/// Requests an action of the emulated host by its debug port.
pub fn ask(command: u64, operand: u64) {
    for byte in operand.to_be_bytes() {
        write_port(0xec, u64::from(byte));
    }
    write_port(0xed, command);
}

/// Makes pages shared with the host, if the address has the SHARED bit, or private again.
pub fn map_gpa(gpa: u64, len_bytes: u64) {
    call(MAP_GPA, [gpa, len_bytes, 0, 0]);
}

/// Returns true if the host refuses to convert all of these pages.
pub fn refuses_map_gpa(gpa: u64, len_bytes: u64) -> bool {
    answer(MAP_GPA, [gpa, len_bytes, 0, 0])[10] != 0
}

/// Reports an error that ends the TD.
pub fn report_fatal_error(code: u64) {
    call(REPORT_FATAL_ERROR, [code, 0, 0, 0]);
}

/// A hypercall of Hyper-V: its result.
pub fn hypercall(control: u64, input: u64, output: u64) -> u64 {
    /// RDX, R8, R10, R11.
    const MASK: u64 = 0x0d04;
    let mut registers: Registers = [0; 16];
    (registers[1], registers[10]) = (MASK, control);
    (registers[2], registers[8]) = (input, output);
    tdcall(&mut registers);
    assert!(
        registers[0] == 0 && registers[10] == 0,
        "hypercall {control:#x}: {:#x} {:#x}",
        registers[0],
        registers[10]
    );
    registers[11]
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
