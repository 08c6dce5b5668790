// SPDX-License-Identifier: GPL-2.0
//! The run-time measurement registers of the TD: read by a report, extended by a digest.

use kernel::prelude::*;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

use crate::cpu::tdcall;
use crate::glue::page::SharedPage;
use crate::pure::attest::{put, step, Answer, Digest, Step};
use crate::pure::measure::{register_offset, DIGEST_ALIGN, REGISTER_WORDS, REPORT_BYTES};
use crate::pure::status::Status;
use crate::pure::tdcall::tdg_mr_rtmr_extend;

/// Where the TDX module puts reports and takes digests from: a page of which userspace sees nothing.
pub(crate) struct Measurements(SharedPage);

/// A report is at the begin of the page.
pub(super) const REPORT: usize = 0;
/// REPORTDATA, which stays zero.
pub(super) const REPORT_DATA: usize = REPORT_BYTES;
/// The digest.
const DIGEST: usize = 2 * REPORT_BYTES;
const _: () = assert!(DIGEST % DIGEST_ALIGN == 0);

impl Measurements {
    /// With a page of their own.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        SharedPage::new().map(Self)
    }

    /// What a register holds.
    ///
    /// # Errors
    ///
    /// The status, when it is not SUCCESS.
    pub(crate) fn register(&mut self, index: u32) -> Result<Digest, Status> {
        until_not_busy(|| tdcall::report(&self.0))?;
        Ok(self.reported(index))
    }

    /// What a register held at the last report.
    pub(crate) fn reported(&self, index: u32) -> Digest {
        let mut words = [0; REGISTER_WORDS];
        self.0
            .read_words(REPORT + register_offset(index), &mut words);
        let mut digest = [0; 48];
        for (at, word) in words.iter().enumerate() {
            put(&mut digest, at * 8, &word.to_le_bytes());
        }
        digest
    }

    /// Extends a register.
    ///
    /// # Errors
    ///
    /// The status, when it is not SUCCESS.
    pub(crate) fn extend(&mut self, index: u32, digest: &Digest) -> Result<(), Status> {
        let mut words = [0; REGISTER_WORDS];
        for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
            *word = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        }
        self.0.write_words(DIGEST, &words);
        let digest_gpa = self.0.phys() + DIGEST as u64; // CAST: within a page
        until_not_busy(|| tdg_mr_rtmr_extend(&mut tdcall::Instruction, index, digest_gpa))
    }
}

/// Executes a TDCALL until it does not find its operand busy, or it has been so for too long.
fn until_not_busy(tdcall: impl Fn() -> Result<(), Status>) -> Result<(), Status> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let result = tdcall();
        let answer = match result {
            Ok(()) => Answer::Done,
            Err(status) if status.name() == Status::OPERAND_BUSY => Answer::Busy,
            Err(_) => Answer::Refused,
        };
        match step(answer, attempt) {
            Step::Again { wait_us } => fsleep(Delta::from_micros(wait_us.into())),
            Step::Go | Step::Break => return result,
        }
    }
}
