// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.IO>: QEMU's devices, except the emulator's own, and those by which L1 could
//! reach more than a device does (`chipset`).

// UNSAFETY: port I/O on L1's behalf.
#![expect(unsafe_code)]

use super::{iommu, pci};
use crate::chipset::{self, Ports, Write};
use crate::console::{DEBUG_PORT, EXIT_PORT, End};
use crate::cpu::port;
use crate::run::end_by_l1;
use crate::{log, smp, stats};
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

/// PM1a control block of QEMU's ICH9.
const PM1A_CONTROL: u16 = 0x604;
const SLEEP_ENABLE: u32 = 1 << 13;
/// Ports below are those of the board, the others those of devices on its bus.
const DEVICES: u16 = 0x1000;

/// Registers of QEMU by which the ACPI tables find out which processors are enabled: selector, and
/// flags of the selected one. [QEMU docs/specs/acpi_cpu_hotplug]
const CPU_SELECTOR: u16 = 0xcd8;
const CPU_FLAGS: u16 = 0xcdc;
static SELECTED_CPU: AtomicU32 = AtomicU32::new(0);
static PORTS: Mutex<Ports> = Mutex::new(Ports::RESET);

/// QEMU has more processors than L1.
fn is_cpu_of_l1() -> bool {
    // ORDERING: L1's tables have a lock around the registers.
    (SELECTED_CPU.load(Ordering::Relaxed) as usize) < smp::count()
}

/// One access: size in bytes, 0 read or 1 write, port, data. `None` refuses.
pub fn io(size: u64, direction: u64, port: u64, data: u64) -> Option<u64> {
    let size_bytes = match size {
        1 | 2 | 4 => size as u8, // CAST: at most 4
        _ => return None,
    };
    let number = u16::try_from(port).ok()?;
    if number >= DEVICES {
        iommu::report_refusals();
    }
    match direction {
        0 => Some(u64::from(read(number, size_bytes))),
        1 => {
            write(number, size_bytes, data as u32); // CAST: up to 4 bytes
            Some(0)
        }
        _ => None,
    }
}

const fn is_ours(port: u16) -> bool {
    matches!(port, DEBUG_PORT | EXIT_PORT)
}

fn read(number: u16, size_bytes: u8) -> u32 {
    match number {
        _ if is_ours(number) || chipset::is_absent(number, size_bytes) => {
            u32::MAX >> (32 - 8 * u32::from(size_bytes))
        }
        CPU_FLAGS if !is_cpu_of_l1() => 0,
        _ if pci::has_port(number) => pci::read(number, size_bytes),
        // SAFETY: what is left are registers of devices. Those with bus mastering can be made to write
        // anywhere, unless QEMU has a DMA-remapping unit (`iommu`): where it has none, the machine is
        // started without disks and networks. fw_cfg has DMA of its own, and is not left.
        _ => unsafe { port::read(number, size_bytes) },
    }
}

fn write(number: u16, size_bytes: u8, data: u32) {
    if is_ours(number) {
        return;
    }
    match PORTS.lock().write(number, size_bytes, data) {
        Write::Passes => {}
        Write::IsDropped => return log!(Debug, "port {number:#x}: {data:#x} is dropped"),
        Write::Resets => end_by_l1(
            End::Reset,
            format_args!("L1 asks for a reset, which is not modelled"),
        ),
    }
    if pci::has_port(number) {
        return pci::write(number, size_bytes, data);
    }
    notice(number, data);
    // SAFETY: as for reads; the power register only ends the run.
    unsafe { port::write(number, size_bytes, data) };
}

/// Ends the machine as L1 would by ACPI.
pub fn power_off(why: &str) {
    log!(Info, "{why}");
    stats::report_summary();
    // SAFETY: the power register only ends the run.
    unsafe { port::write(PM1A_CONTROL, 2, SLEEP_ENABLE) };
}

/// Accesses that the emulator acts on. Power-off ends it.
fn notice(port: u16, data: u32) {
    match port {
        // ORDERING: as in `is_cpu_of_l1`.
        CPU_SELECTOR => SELECTED_CPU.store(data, Ordering::Relaxed),
        PM1A_CONTROL if data & SLEEP_ENABLE != 0 => {
            log!(Info, "L1 powers off");
            stats::report_summary();
        }
        _ => {}
    }
}
