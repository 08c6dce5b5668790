// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The end: a report to VTL2 by the crash MSRs, then a halt for good. [TLFS]

use core::fmt::Write as _;

use crate::cpu;

/// HV_X64_MSR_CRASH_P0 to P4, and HV_X64_MSR_CRASH_CTL.
const CRASH_P0: u32 = 0x4000_0100;
const CRASH_CTL: u32 = 0x4000_0105;
/// CrashNotify, and CrashMessage: P3 and P4 are address and length of a text.
const NOTIFY: u64 = 1 << 63;
const MESSAGE: u64 = 1 << 62;
/// P0 of a report that is not about an exception. Vectors are below.
const FIRST_OTHER: u64 = 0x100;

/// P0 to P4.
pub(crate) struct Report([u64; 5]);

impl Report {
    /// There is no valid boot page.
    pub(crate) const NO_BOOT_PAGE: Self = Self([FIRST_OTHER + 1, 0, 0, 0, 0]);
    /// No seed, or VTL0's memory is not separate from VTL1's.
    pub(crate) const BAD_BOOT_PAGE: Self = Self([FIRST_OTHER + 2, 0, 0, 0, 0]);
    /// A second virtual processor has entered VTL1.
    pub(crate) const NOT_ALONE: Self = Self([FIRST_OTHER + 3, 0, 0, 0, 0]);

    /// An exception in VTL1.
    pub(crate) fn exception(vector: u64, error: u64, rip: u64, cr2: u64) -> Self {
        Self([vector, error, rip, cr2, 0])
    }
}

/// Reports, and never returns.
pub(crate) fn end(report: &Report) -> ! {
    send(report, NOTIFY)
}

fn send(Report(parameters): &Report, control: u64) -> ! {
    for (msr, &value) in (CRASH_P0..).zip(parameters) {
        cpu::write_hyperv_msr(msr, value);
    }
    cpu::write_hyperv_msr(CRASH_CTL, control);
    cpu::halt()
}

/// A text in place; what does not fit is cut off.
struct Text {
    bytes: [u8; 256],
    len: usize,
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.len() - self.len;
        let part = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut text = Text {
        bytes: [0; 256],
        len: 0,
    };
    // A text that is cut off is no error.
    let _ = write!(text, "{info}");
    let address = text.bytes.as_ptr().expose_provenance() as u64;
    // CAST: at most 256.
    let report = Report([FIRST_OTHER, 0, 0, address, text.len as u64]);
    send(&report, NOTIFY | MESSAGE)
}
