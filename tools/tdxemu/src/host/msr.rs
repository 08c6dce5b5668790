// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.RDMSR> and <Instruction.WRMSR>: the registers of L1's interrupt
//! controller, which is the physical one but for the numbers of processors (`l1_apic`), and a few
//! that Linux expects to read.

// UNSAFETY: WRMSR on L1's behalf.
#![expect(unsafe_code)]

use super::{synic, timers};
use crate::config::HostKind;
use crate::cpu::{apic, msr};
use crate::hyperv::msr as synthetic;
use crate::l1_apic::{self, Ipi};
use crate::vp::Vp;
use crate::{cpu, log, smp};

const X2APIC: core::ops::RangeInclusive<u32> = 0x802..=0x83f;
/// Delivery modes of the interrupt command register that stay inside the TD: fixed, lowest
/// priority, NMI. SMI, INIT and start-up would hit the physical processor.
const HARMLESS_DELIVERY: [u64; 3] = [0, 1, 4];

const MISC_ENABLE: u32 = 0x1a0;
const MTRR_CAP: u32 = 0xfe;
const MTRR_DEF_TYPE: u32 = 0x2ff;
/// Variable ranges: base and mask of eight. Linux reads them under Hyper-V.
const MTRR_VARIABLE: core::ops::RangeInclusive<u32> = 0x200..=0x20f;
/// Fixed ranges.
const MTRR_FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
/// Control, status, address and detail of up to 32 machine-check banks, which stay empty.
const MACHINE_CHECK_BANKS: core::ops::RangeInclusive<u32> = 0x400..=0x47f;
/// Microcode revision. Linux writes zero before it reads.
const MICROCODE_REVISION: u32 = 0x8b;
/// Hyper-V's registers.
const SYNTHETIC: core::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_01ff;
/// Rate of QEMU's local APIC timer.
const APIC_HZ: u64 = 1_000_000_000;
/// Locked, nothing enabled.
const FEATURE_CONTROL: u32 = 0x3a;

fn is_mtrr_range(index: u32) -> bool {
    MTRR_VARIABLE.contains(&index) || MTRR_FIXED.contains(&index)
}

/// Reads. `None` refuses, and Linux then raises #GP.
pub fn read(vp: &Vp, index: u64) -> Option<u64> {
    let index = u32::try_from(index).ok()?;
    if vp.platform.config.host == HostKind::HyperV && SYNTHETIC.contains(&index) {
        return read_synthetic(vp, index);
    }
    match index {
        msr::APIC_BASE => Some(apic_base(vp)),
        // CAST: a number of a processor.
        apic::ID => Some(vp.index as u64),
        apic::LDR => Some(u64::from(l1_apic::logical_id(vp.index))),
        apic::ICR => Some(vp.host.icr),
        MISC_ENABLE | MTRR_CAP | MTRR_DEF_TYPE | MCG_CAP => msr::try_read(index),
        index if is_mtrr_range(index) => msr::try_read(index),
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
pub fn write(vp: &mut Vp, index: u64, value: u64) -> Option<()> {
    let index = u32::try_from(index).ok()?;
    if vp.platform.config.host == HostKind::HyperV && SYNTHETIC.contains(&index) {
        return write_synthetic(vp, index, value);
    }
    match index {
        apic::ICR if !HARMLESS_DELIVERY.contains(&((value >> 8) & 7)) => {
            log!(
                Warn,
                "L1 writes {value:#x} to the interrupt command register: ignored"
            );
            Some(())
        }
        apic::ICR => {
            vp.host.icr = value;
            smp::send_ipi(&Ipi::decode(value, vp.index, smp::count()));
            Some(())
        }
        index if X2APIC.contains(&index) => write_natively(index, value),
        MICROCODE_REVISION | MCG_STATUS | MCG_CTL => Some(()),
        // A TD's memory is cached whatever these say; the emulator's own memory must stay so.
        MTRR_DEF_TYPE => Some(()),
        index if is_mtrr_range(index) => Some(()),
        index if MACHINE_CHECK_BANKS.contains(&index) => Some(()),
        _ => {
            log!(Debug, "WRMSR {index:#x} of {value:#x} is refused");
            None
        }
    }
}

/// Enabled, in x2APIC mode; the first processor is the one that started L1.
fn apic_base(vp: &Vp) -> u64 {
    const PLACE_AND_STATE: u64 = 0xfee0_0c00;
    const IS_FIRST: u64 = 1 << 8;
    PLACE_AND_STATE | if vp.index == 0 { IS_FIRST } else { 0 }
}

/// Writes a register that has been found harmless for the emulator: interrupt controller,
/// extended-state and debug registers. `None` if the processor refuses.
pub fn write_natively(index: u32, value: u64) -> Option<()> {
    // SAFETY: the callers pass no paging, mode or SVM register: the emulator does not depend on
    // what is left.
    unsafe { msr::try_write(index, value) }
}

fn is_timer(index: u32) -> bool {
    timers::are_offered() && (synthetic::STIMER0_CONFIG..=synthetic::STIMER3_COUNT).contains(&index)
}

fn read_synthetic(vp: &Vp, index: u32) -> Option<u64> {
    match index {
        synthetic::VP_INDEX => Some(vp.index as u64),
        synthetic::TSC_FREQUENCY => Some(vp.platform.tsc_khz * 1000),
        synthetic::APIC_FREQUENCY => Some(APIC_HZ),
        synthetic::TIME_REF_COUNT => Some(time_ref_count(vp)),
        // No hypercall page: a TD calls by TDVMCALL.
        synthetic::GUEST_OS_ID | synthetic::HYPERCALL | synthetic::TSC_INVARIANT_CONTROL => Some(0),
        index if is_timer(index) => timers::read(vp.index, index),
        _ => synic::read(vp.index, index),
    }
}

fn write_synthetic(vp: &mut Vp, index: u32, value: u64) -> Option<()> {
    match index {
        synthetic::GUEST_OS_ID => {
            log!(Info, "vCPU {} names itself {value:#x}", vp.index);
            Some(())
        }
        synthetic::TSC_INVARIANT_CONTROL => Some(()),
        index if is_timer(index) => timers::write(vp, index, value),
        _ => synic::write(vp, index, value),
    }
}

/// The reference counter: L1's time since the start in units of 100 ns.
pub fn time_ref_count(vp: &Vp) -> u64 {
    let ticks = cpu::tsc::now().wrapping_add(vp.clock.offset());
    timers::reference_time(vp.platform, ticks)
}
