// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<#VE.RequestMMIO>: devices in memory space.

// UNSAFETY: accesses to device registers on L1's behalf.
#![expect(unsafe_code)]

use super::{ioapic, iommu, pci};
use crate::chipset::{HPET, LOCAL_APIC};
use crate::mem::map::Range;
use crate::vp::Vp;
use tdx_model::gpa::SHARED_BIT;

/// The emulator's identity map.
const MAPPED: Range = Range::new(0, 512 << 30);

/// One access: size in bytes, 0 read or 1 write, address, data. `None` refuses.
pub fn access(vp: &Vp, size: u64, direction: u64, gpa: u64, data: u64) -> Option<u64> {
    let address = gpa & !SHARED_BIT;
    if !matches!(size, 1 | 2 | 4 | 8) || address % size != 0 {
        return None;
    }
    let is_hosts = [LOCAL_APIC, HPET]
        .iter()
        .any(|range| range.contains(address, size));
    let is_device = !vp.platform.ram.contains(address) && !is_hosts;
    iommu::report_refusals();
    if !is_device || iommu::contains(address, size) || !MAPPED.contains(address, size) {
        return None;
    }
    if ioapic::REGISTERS.contains(address, size) {
        return ioapic_access(size, direction, address, data);
    }
    match direction {
        // SAFETY: not RAM, and none of what writes to memory without the DMA-remapping unit, nor the unit
        // itself, checked above: a device register, or nothing. What a device is made to write goes
        // through that unit.
        0 => Some(unsafe { read(address, size) }),
        1 if pci::is_fixed(address, size) => Some(0),
        1 => {
            // SAFETY: as for reads; it puts none of the chipset's registers elsewhere.
            unsafe { write(address, size, data) };
            Some(0)
        }
        _ => None,
    }
}

/// The IOAPIC has registers of 32 bits.
fn ioapic_access(size: u64, direction: u64, address: u64, data: u64) -> Option<u64> {
    // CAST: 32 bits are read and written.
    // SAFETY: `ioapic` passes addresses of the IOAPIC's two registers, or the one given to it, which
    // the caller has found to be a device's and aligned.
    let native_read = |address| unsafe { read(address, 4) } as u32;
    // SAFETY: as above.
    let native_write = |address, value| unsafe { write(address, 4, u64::from(value)) };
    match (size, direction) {
        (4, 0) => Some(u64::from(ioapic::read(address, native_read))),
        (4, 1) => {
            ioapic::write(address, data as u32, native_write);
            Some(0)
        }
        _ => None,
    }
}

/// # Safety
///
/// The address is a device register or nothing, naturally aligned.
unsafe fn read(address: u64, size: u64) -> u64 {
    match size {
        // SAFETY: forwarded to the caller, `# Safety`.
        1 => u64::from(unsafe { (address as *const u8).read_volatile() }),
        // SAFETY: forwarded to the caller, `# Safety`.
        2 => u64::from(unsafe { (address as *const u16).read_volatile() }),
        // SAFETY: forwarded to the caller, `# Safety`.
        4 => u64::from(unsafe { (address as *const u32).read_volatile() }),
        // SAFETY: forwarded to the caller, `# Safety`.
        _ => unsafe { (address as *const u64).read_volatile() },
    }
}

/// # Safety
///
/// The address is a device register or nothing, naturally aligned.
unsafe fn write(address: u64, size: u64, data: u64) {
    // CAST: the register has as many bytes as the size says.
    match size {
        // SAFETY: forwarded to the caller, `# Safety`.
        1 => unsafe { (address as *mut u8).write_volatile(data as u8) },
        // SAFETY: forwarded to the caller, `# Safety`.
        2 => unsafe { (address as *mut u16).write_volatile(data as u16) },
        // SAFETY: forwarded to the caller, `# Safety`.
        4 => unsafe { (address as *mut u32).write_volatile(data as u32) },
        // SAFETY: forwarded to the caller, `# Safety`.
        _ => unsafe { (address as *mut u64).write_volatile(data) },
    }
}
