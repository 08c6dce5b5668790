// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.RDMSR> and <Instruction.WRMSR>: the registers of L1's interrupt
//! controller, which is the physical one, and a few that Linux expects to read.

// UNSAFETY: WRMSR on L1's behalf.
#![expect(unsafe_code)]

use crate::cpu::{apic, msr};
use crate::log;

const X2APIC: core::ops::RangeInclusive<u32> = 0x802..=0x83f;
/// Delivery modes of the interrupt command register that stay inside the TD: fixed, lowest
/// priority, NMI. SMI, INIT and start-up would hit the physical processor.
const HARMLESS_DELIVERY: [u64; 3] = [0, 1, 4];

const MISC_ENABLE: u32 = 0x1a0;
const MTRR_CAP: u32 = 0xfe;
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
/// Control, status, address and detail of up to 32 machine-check banks, which stay empty.
const MACHINE_CHECK_BANKS: core::ops::RangeInclusive<u32> = 0x400..=0x47f;
/// Microcode revision. Linux writes zero before it reads.
const MICROCODE_REVISION: u32 = 0x8b;
/// Locked, nothing enabled.
const FEATURE_CONTROL: u32 = 0x3a;

/// Reads. `None` refuses, and Linux then raises #GP.
pub fn read(index: u64) -> Option<u64> {
    let index = u32::try_from(index).ok()?;
    match index {
        msr::APIC_BASE | MISC_ENABLE | MTRR_CAP | MTRR_DEF_TYPE | MCG_CAP => msr::try_read(index),
        index if X2APIC.contains(&index) => msr::try_read(index),
        FEATURE_CONTROL => Some(1),
        MICROCODE_REVISION => Some(1 << 32),
        MCG_STATUS | MCG_CTL => Some(0),
        index if MACHINE_CHECK_BANKS.contains(&index) => Some(0),
        _ => {
            log!(Debug, "RDMSR {index:#x} is refused");
            None
        }
    }
}

/// Writes. `None` refuses.
pub fn write(index: u64, value: u64) -> Option<()> {
    let index = u32::try_from(index).ok()?;
    match index {
        apic::ICR if !HARMLESS_DELIVERY.contains(&((value >> 8) & 7)) => {
            log!(
                Warn,
                "L1 writes {value:#x} to the interrupt command register: ignored"
            );
            Some(())
        }
        index if X2APIC.contains(&index) => write_natively(index, value),
        MICROCODE_REVISION | MCG_STATUS | MCG_CTL => Some(()),
        index if MACHINE_CHECK_BANKS.contains(&index) => Some(()),
        _ => {
            log!(Debug, "WRMSR {index:#x} of {value:#x} is refused");
            None
        }
    }
}

/// Writes a register that has been found harmless for the emulator: interrupt controller,
/// extended-state and debug registers. `None` if the processor refuses.
pub fn write_natively(index: u32, value: u64) -> Option<()> {
    // SAFETY: the callers pass no paging, mode or SVM register: the emulator does not depend on
    // what is left.
    unsafe { msr::try_write(index, value) }
}
