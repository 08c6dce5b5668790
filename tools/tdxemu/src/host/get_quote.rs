// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<GetQuote>, if the host was told to offer it.

use super::{status, synic};
use crate::quote::{self, HEAD_BYTES, REPORT_BYTES};
use crate::vp::Vp;
use tdx_model::gpa::Gpa;

const PAGE: u64 = 4096;

/// Makes a quote of the report in a buffer of L1's. Returns the status of the call; the buffer has
/// one of its own. The quote is there at once.
pub fn get_quote(vp: &Vp, start: u64, len_bytes: u64) -> u64 {
    if start % PAGE != 0 || len_bytes % PAGE != 0 {
        return status::ALIGN_ERROR;
    }
    let gpa = Gpa(start);
    let is_shared = || {
        let mut pages = (0..len_bytes).step_by(PAGE as usize);
        pages.all(|at| synic::is_shared(vp, start + at, PAGE))
    };
    if !gpa.is_shared() || gpa.is_beyond_width() || len_bytes > 1 << 20 || !is_shared() {
        return status::INVALID_OPERAND;
    }
    // `None` where memory that was shared just now is no guest's any more.
    answer(vp, gpa.without_shared().0, len_bytes).unwrap_or(status::INVALID_OPERAND)
}

fn answer(vp: &Vp, at: u64, len_bytes: u64) -> Option<u64> {
    let memory = &vp.platform.memory;
    let mut head = [0; HEAD_BYTES];
    memory.read(at, &mut head).then_some(())?;
    let request = quote::request(&head, len_bytes)?;
    let data = at + HEAD_BYTES as u64;
    let mut report = [0; REPORT_BYTES];
    memory.read(data, &mut report).then_some(())?;
    let made = quote::quote(&report);
    let outcome = match &made {
        Some(quote) => {
            memory.write(data, quote).then_some(())?;
            quote::status::SUCCESS
        }
        None => quote::status::ERROR,
    };
    memory
        .write(at, &quote::answer(request, outcome))
        .then_some(status::SUCCESS)
}
