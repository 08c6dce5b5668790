// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<ReportFatalError>: L1 gives up and says why.

use crate::console::End;
use crate::run::end_by_l1;
use tdx_model::gprs::Gprs;

/// Longest message: eight registers.
const TEXT_BYTES: usize = 64;

/// Prints L1's message and ends the machine with a failure.
pub fn report(gprs: &Gprs) -> ! {
    let registers = [
        gprs.r14, gprs.r15, gprs.rbx, gprs.rdi, gprs.rsi, gprs.r8, gprs.r9, gprs.rdx,
    ];
    let mut text = [0u8; TEXT_BYTES];
    for (bytes, register) in text.chunks_exact_mut(8).zip(registers) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    for byte in &mut text {
        // A message is text; anything else must not reach the terminal.
        if *byte != 0 && !(b' '..=b'~').contains(byte) {
            *byte = b'?';
        }
    }
    let len = text
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(TEXT_BYTES);
    let message = core::str::from_utf8(&text[..len]).unwrap_or("");
    end_by_l1(
        End::L1,
        format_args!("L1 reports a fatal error {:#x}: {message}", gprs.r12),
    )
}
