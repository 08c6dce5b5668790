// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MR.REPORT (leaf 4): writes a TDREPORT.
//!
//! Layout and hashes are the real ones [ABI TDREPORT]. The MAC needs a processor's key, so it is
//! replaced by a text that can't be mistaken for one.

use sha2::{Digest, Sha384};

use super::{Call, Done, Leaf, SUCCESS, Stop, must_be_zero};
use crate::gpa::Gpa;
use crate::machine::Machine;
use crate::status::Operand;
use crate::td::{Measurements, Td};

const REPORT_LEN: usize = 1024;
const REPORT_DATA_LEN: usize = 64;
/// In place of the MAC.
const NOT_A_MAC: &[u8; 32] = b"EMULATED TDX MODULE - NOT SIGNED";
/// Used part of TEE_TCB_INFO.
const TCB_INFO_LEN: usize = 239;

pub(crate) fn tdg_mr_report<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    // Both alignments, then all of the data, and the report last.
    must_be_zero(call.gprs.rcx & (REPORT_LEN as u64 - 1), Operand::Rcx)?;
    let data = operand(call.gprs.rdx, REPORT_DATA_LEN as u64, Operand::Rdx)?;
    let data = call.walk_any(data)?;
    must_be_zero(call.gprs.r8, Operand::R8)?;
    call.lock_rtmrs()?;
    if call.machine.is_interrupted() {
        return Ok(Done::Interrupted);
    }
    let report = operand(call.gprs.rcx, REPORT_LEN as u64, Operand::Rcx)?;
    let report = call.walk_any(report)?;
    // checks passed
    let mut report_data = [0; REPORT_DATA_LEN];
    call.machine.read_memory(data, &mut report_data);
    call.machine
        .write_memory(report, &build(call.td, &report_data));
    SUCCESS
}

/// An address that may be private or shared.
fn operand(raw: u64, align: u64, operand: Operand) -> Result<Gpa, Stop> {
    let is_valid = raw & (align - 1) == 0 && !Gpa(raw).is_beyond_width();
    if is_valid {
        Ok(Gpa(raw))
    } else {
        Err(Stop::invalid(operand))
    }
}

fn build(td: &Td<'_>, report_data: &[u8; REPORT_DATA_LEN]) -> [u8; REPORT_LEN] {
    let tcb_info = [0; TCB_INFO_LEN];
    let td_info = build_td_info(td);
    let mut report = [0; REPORT_LEN];
    // Type TDX, sub-type 0, version 0.
    put(&mut report, 0x00, &[0x81, 0, 0, 0]);
    put(&mut report, 0x20, &Sha384::digest(tcb_info));
    put(&mut report, 0x50, &Sha384::digest(td_info));
    put(&mut report, 0x80, report_data);
    put(&mut report, 0xe0, NOT_A_MAC);
    put(&mut report, 0x100, &tcb_info);
    put(&mut report, 0x200, &td_info);
    report
}

fn build_td_info(td: &Td<'_>) -> [u8; 512] {
    let Measurements {
        mrtd,
        mrconfigid,
        mrowner,
        mrownerconfig,
        rtmr,
    } = &td.measurements;
    let mut info = [0; 512];
    put(&mut info, 0x00, &td.config.attributes.to_le_bytes());
    put(&mut info, 0x08, &td.config.xfam.to_le_bytes());
    put(&mut info, 0x10, mrtd);
    put(&mut info, 0x40, mrconfigid);
    put(&mut info, 0x70, mrowner);
    put(&mut info, 0xa0, mrownerconfig);
    put(&mut info, 0xd0, rtmr.as_flattened());
    info
}

fn put(buf: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = buf.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{call, complete, with_td};

    #[test]
    fn report_carries_data_measurements_and_no_mac() {
        with_td(|td, vcpu, m| {
            m.memory[0x2000..0x2040].fill(0x77);
            td.measurements.rtmr[3] = [9; 48];
            let mut g = Gprs {
                rcx: 0x1400,
                rdx: 0x2000,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 4, &mut g), 0);
            let report = &m.memory[0x1400..0x1800];
            assert_eq!(report[0], 0x81);
            assert_eq!(report[0x80..0xc0], [0x77; 64]);
            assert_eq!(&report[0xe0..0x100], NOT_A_MAC);
            assert_eq!(report[0x200 + 0x160..0x200 + 0x190], [9; 48]);
            assert_eq!(
                report[0x50..0x80],
                Sha384::digest(&report[0x200..0x400])[..]
            );
            assert_eq!(
                report[0x20..0x50],
                Sha384::digest(&report[0x100..0x1ef])[..]
            );
        });
    }

    #[test]
    fn no_report_is_written_while_the_registers_are_busy() {
        with_td(|td, vcpu, m| {
            m.busy_rtmrs = 1;
            let mut g = Gprs {
                rcx: 0x1400,
                rdx: 0x2000,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 4, &mut g), 0x8000_0200_0000_00a8);
            assert_eq!(m.memory[0x1400], 0);
            assert_eq!(complete(td, vcpu, m, 4, &mut g), 0);
            assert_eq!(m.memory[0x1400], 0x81);
        });
    }

    #[test]
    fn interrupted_report_is_not_written() {
        with_td(|td, vcpu, m| {
            m.is_interrupted = true;
            let mut g = Gprs {
                rcx: 0x1400,
                rdx: 0x2000,
                ..Gprs::ZERO
            };
            assert_eq!(call(td, vcpu, m, 4, &mut g), Outcome::Interrupted);
            assert_eq!((g.rax, m.memory[0x1400]), (4, 0));
            m.is_interrupted = false;
            assert_eq!(complete(td, vcpu, m, 4, &mut g), 0);
            assert_eq!(m.memory[0x1400], 0x81);
        });
    }

    #[test]
    fn operands_are_checked_in_order() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 0x1200,
                rdx: 1,
                r8: 1,
                ..Gprs::ZERO
            };
            assert_eq!(
                complete(td, vcpu, m, 4, &mut g),
                Status::invalid(Operand::Rcx).0
            );
            g.rcx = 0x1000;
            assert_eq!(
                complete(td, vcpu, m, 4, &mut g),
                Status::invalid(Operand::Rdx).0
            );
            g.rdx = 0x2000;
            assert_eq!(
                complete(td, vcpu, m, 4, &mut g),
                Status::invalid(Operand::R8).0
            );
        });
    }
}
