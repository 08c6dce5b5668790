// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What devices reach: the pages that L1 shares, and no other, as on a machine with TDX. The table
//! of QEMU's DMA-remapping unit is the one by which L1 itself reaches its shared pages, whose
//! entries both understand in the same way.
//!
//! L1 knows nothing of the unit.

// UNSAFETY: accesses to the registers of the unit.
#![expect(unsafe_code)]

use crate::dma::{self, Fault, Unit, fault_status, global, register};
use crate::log;
use crate::mem::frame::FramePool;
use crate::mem::map::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::{Mutex, Once};

const REGISTER_BYTES: u64 = 4096;
/// Refusals that the log shows; more are counted only.
const SHOWN: u64 = 16;

struct Iommu {
    base: u64,
    unit: Unit,
}

static IOMMU: Once<Mutex<Iommu>> = Once::new();
static REFUSED: AtomicU64 = AtomicU64::new(0);

impl Iommu {
    fn read32(&self, offset: u64) -> u32 {
        // SAFETY: a register of the unit, which firmware's tables name; reading has no effect.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }

    fn read64(&self, offset: u64) -> u64 {
        // SAFETY: as above.
        unsafe { ((self.base + offset) as *const u64).read_volatile() }
    }

    fn write32(&self, offset: u64, value: u32) {
        // SAFETY: as above; the tables that the unit is led to are made by `start`.
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) }
    }

    fn write64(&self, offset: u64, value: u64) {
        // SAFETY: as above.
        unsafe { ((self.base + offset) as *mut u64).write_volatile(value) }
    }

    fn command(&self, bits: u32) {
        self.write32(register::GLOBAL_COMMAND, bits);
        while self.read32(register::GLOBAL_STATUS) & bits != bits {
            core::hint::spin_loop();
        }
    }

    fn invalidate(&self, offset: u64, command: u64) {
        self.write64(offset, command);
        while self.read64(offset) & dma::PENDING != 0 {
            core::hint::spin_loop();
        }
    }

    fn invalidate_translations(&self) {
        self.invalidate(self.unit.iotlb, dma::INVALIDATE_TRANSLATIONS);
    }

    /// Takes the faults out of their records.
    fn take_faults(&self) -> impl Iterator<Item = Fault> + '_ {
        const CLEAR_FAULT: u32 = 1 << 31;
        (0..self.unit.fault_records).filter_map(|index| {
            let at = self.unit.faults + 16 * index;
            let fault = Fault::decode([self.read64(at), self.read64(at + 8)]);
            if fault.is_some() {
                self.write32(at + 12, CLEAR_FAULT);
            }
            fault
        })
    }
}

/// Has the unit with these registers lead every device to `shared_pages`, a table of 512 GiB.
///
/// # Errors
///
/// In words for the user, when it can't.
pub fn start(base: u64, shared_pages: u64, pool: &FramePool) -> Result<(), &'static str> {
    const NO_FRAMES: &str = "no frames left for the tables of the DMA-remapping unit";
    const UNUSABLE: &str = "QEMU's DMA-remapping unit lacks tables of three levels";
    let mut iommu = Iommu {
        base,
        unit: Unit {
            iotlb: 0,
            faults: 0,
            fault_records: 0,
        },
    };
    let capability = iommu.read64(register::CAPABILITY);
    let extended = iommu.read64(register::EXTENDED_CAPABILITY);
    iommu.unit = Unit::decode(capability, extended).ok_or(UNUSABLE)?;
    let table = |entry: [u64; 2]| pool.store([entry; 256]).ok_or(NO_FRAMES);
    let contexts = table(dma::context_entry(shared_pages))?;
    let roots = table(dma::root_entry(contexts.as_ptr() as u64))?;
    iommu.write64(register::ROOT_TABLE, roots.as_ptr() as u64);
    iommu.command(global::SET_ROOT_TABLE);
    iommu.invalidate(register::CONTEXT_COMMAND, dma::INVALIDATE_CONTEXTS);
    iommu.invalidate_translations();
    iommu.command(global::TRANSLATION_ENABLE);
    log!(Info, "devices reach only what L1 shares");
    IOMMU.call_once(|| Mutex::new(iommu));
    Ok(())
}

/// Returns true if these are registers of the unit.
pub fn contains(address: u64, len_bytes: u64) -> bool {
    IOMMU.get().is_some_and(|iommu| {
        let base = iommu.lock().base;
        Range::new(base, base + REGISTER_BYTES).contains(address, len_bytes)
    })
}

/// Ends what devices still know about pages that are not shared any more, for their next requests: those
/// that have begun have their pages mapped in QEMU, which nothing can revoke.
pub fn flush() {
    if let Some(iommu) = IOMMU.get() {
        iommu.lock().invalidate_translations();
    }
}

/// Logs what devices were refused since the last call, unless another processor does so now.
pub fn report_refusals() {
    let Some(iommu) = IOMMU.get().and_then(Mutex::try_lock) else {
        return;
    };
    let status = iommu.read32(register::FAULT_STATUS);
    if status & (fault_status::PENDING | fault_status::OVERFLOW) == 0 {
        return;
    }
    for fault in iommu.take_faults() {
        // ORDERING: a counter that orders nothing else.
        if REFUSED.fetch_add(1, Ordering::Relaxed) < SHOWN {
            log!(Warn, "DMA: {fault}");
        }
    }
    iommu.write32(register::FAULT_STATUS, fault_status::OVERFLOW);
}

/// How many refusals were found.
pub fn refusals() -> u64 {
    report_refusals();
    // ORDERING: as above.
    REFUSED.load(Ordering::Relaxed)
}
