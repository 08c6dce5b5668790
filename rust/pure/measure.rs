// SPDX-License-Identifier: GPL-2.0
//! The TD's measurements: what TDG.MR.REPORT and TDG.MR.RTMR.EXTEND take, and where in a report a run-time
//! measurement register stands.
//!
//! A report names memory that the TDX module writes, so it is no [`super::tdcall::Call`].

use super::leaf;
use super::tdcall::Registers;

/// TDREPORT_STRUCT, aligned to its size.
pub const REPORT_BYTES: usize = 1024;
/// REPORTDATA, aligned to its size.
pub const REPORT_DATA_BYTES: usize = 64;
/// A digest is aligned to this.
pub const DIGEST_ALIGN: usize = 64;
/// 8-byte words of a register.
pub const REGISTER_WORDS: usize = 6;

/// TDINFO_STRUCT in TDREPORT_STRUCT: after REPORTMACSTRUCT (256), TEE_TCB_INFO (239) and 17 reserved bytes.
const TD_INFO: usize = 512;
/// RTMR in TDINFO_STRUCT: after ATTRIBUTES, XFAM (8 each), MRTD, MRCONFIGID, MROWNER and MROWNERCONFIG.
const RTMR: usize = 2 * 8 + 4 * 48;

/// Byte offset of a run-time measurement register in a report. [ABI TDREPORT_STRUCT]
pub const fn register_offset(index: u32) -> usize {
    TD_INFO + RTMR + REGISTER_WORDS * 8 * (index & 3) as usize // CAST: below 4
}

/// TDG.MR.REPORT into memory at `report_gpa`, with REPORTDATA from `data_gpa`. [ABI TDG.MR.REPORT]
pub const fn report(report_gpa: u64, data_gpa: u64) -> Registers {
    Registers {
        rax: leaf::TDG_MR_REPORT,
        rcx: report_gpa,
        rdx: data_gpa,
        r8: 0, // subtype
        r9: 0,
        r10: 0,
        r11: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_stand_where_the_specification_has_them() {
        assert_eq!([0, 1, 2, 3].map(register_offset), [720, 768, 816, 864]);
        assert_eq!(register_offset(4), 720);
        const { assert!(register_offset(u32::MAX) + 48 <= REPORT_BYTES) };
    }

    #[test]
    fn a_report_names_its_memory() {
        let call = report(0x1000, 0x2400);
        assert_eq!(
            (call.rax, call.rcx, call.rdx, call.r8),
            (4, 0x1000, 0x2400, 0)
        );
    }
}
