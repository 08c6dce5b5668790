// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.IO>: QEMU's devices, except the emulator's own.

// UNSAFETY: port I/O on L1's behalf.
#![expect(unsafe_code)]

use crate::console::{DEBUG_PORT, EXIT_PORT, End};
use crate::cpu::port;
use crate::run::end_by_l1;
use crate::{log, smp, stats};
use core::sync::atomic::{AtomicU32, Ordering};

/// PM1a control block of QEMU's ICH9.
const PM1A_CONTROL: u64 = 0x604;
const SLEEP_ENABLE: u64 = 1 << 13;
/// Reset control register.
const RESET_CONTROL: u64 = 0xcf9;
const RESET_CPU: u64 = 1 << 2;
/// Keyboard controller commands; FEh pulses the reset line.
const KEYBOARD_COMMAND: u64 = 0x64;
const KEYBOARD_RESET: u64 = 0xfe;

/// Registers of QEMU by which the ACPI tables find out which processors are enabled: selector, and
/// flags of the selected one. [QEMU docs/specs/acpi_cpu_hotplug]
const CPU_SELECTOR: u64 = 0xcd8;
const CPU_FLAGS: u64 = 0xcdc;
static SELECTED_CPU: AtomicU32 = AtomicU32::new(0);

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
    let is_ours = matches!(number, DEBUG_PORT | EXIT_PORT);
    match direction {
        0 if is_ours => Some(u64::MAX >> (64 - 8 * size)),
        0 if port == CPU_FLAGS && !is_cpu_of_l1() => Some(0),
        // SAFETY: a read of a port starts no transfer. Devices with bus mastering can be made to write
        // anywhere, unless QEMU has a DMA-remapping unit (`iommu`): where it has none, the machine
        // is started without disks and networks.
        0 => Some(u64::from(unsafe { port::read(number, size_bytes) })),
        1 if is_ours => Some(0),
        1 => {
            notice(port, data);
            // SAFETY: as for reads; the reset register and the power register only end the run.
            unsafe { port::write(number, size_bytes, data as u32) }; // CAST: up to 4 bytes
            Some(0)
        }
        _ => None,
    }
}

/// Ends the machine as L1 would by ACPI.
pub fn power_off(why: &str) {
    log!(Info, "{why}");
    stats::report_summary();
    // SAFETY: the power register only ends the run. CAST: a port, and a bit of 16.
    unsafe { port::write(PM1A_CONTROL as u16, 2, SLEEP_ENABLE as u32) };
}

/// Accesses that the emulator acts on. Power-off and reset end it.
fn notice(port: u64, data: u64) {
    match port {
        // ORDERING: as in `is_cpu_of_l1`. CAST: a register of 32 bits.
        CPU_SELECTOR => SELECTED_CPU.store(data as u32, Ordering::Relaxed),
        PM1A_CONTROL if data & SLEEP_ENABLE != 0 => {
            log!(Info, "L1 powers off");
            stats::report_summary();
        }
        RESET_CONTROL if data & RESET_CPU != 0 => end_by_l1(
            End::Reset,
            format_args!("L1 asks for a reset, which is not modelled"),
        ),
        KEYBOARD_COMMAND if data & 0xff == KEYBOARD_RESET => end_by_l1(
            End::Reset,
            format_args!("L1 asks for a reset, which is not modelled"),
        ),
        _ => {}
    }
}
