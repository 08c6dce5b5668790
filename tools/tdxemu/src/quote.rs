// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Quotes of a quoting enclave that has no key. [GHCI TDG.VP.VMCALL<GetQuote>]
//!
//! Their form is that of version 4, so that programs which read quotes can be tried. Nobody can
//! take one for a true one: where the vendor of the enclave is named and where the signature is
//! stands a text that says so.

/// What L1 hands over, and gets back in the same place: version, status, two lengths, data.
pub const HEAD_BYTES: usize = 24;
/// Length of a TDREPORT.
pub const REPORT_BYTES: usize = 1024;
/// Length of a quote.
pub const QUOTE_BYTES: usize = QUOTE_HEAD_BYTES + BODY_BYTES + 4 + SIGNATURE.len();

const QUOTE_HEAD_BYTES: usize = 48;
const BODY_BYTES: usize = 584;
const VENDOR: &[u8; 16] = b"EMULATED, NO KEY";
const SIGNATURE: &[u8; 48] = b"EMULATED QUOTING ENCLAVE - THIS IS NO SIGNATURE.";
const TDX: u8 = 0x81;
/// What the emulated TDX module writes for a MAC: reports of other modules get no quote.
const MAC: &[u8; 32] = b"EMULATED TDX MODULE - NOT SIGNED";

/// Statuses in the buffer.
pub mod status {
    /// The quote is in the buffer.
    pub const SUCCESS: u64 = 0;
    /// It is no report of this platform.
    pub const ERROR: u64 = 1 << 63;
}

/// What L1 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the data.
    pub in_bytes: u32,
}

/// Reads the head of a buffer of `len_bytes`. `None` if the host cannot make anything of it.
pub fn request(head: &[u8; HEAD_BYTES], len_bytes: u64) -> Option<Request> {
    let [version @ .., _, _, _, _, _, _, _, _, a, b, c, d, _, _, _, _] = *head;
    let in_bytes = u32::from_le_bytes([a, b, c, d]);
    let is_right = u64::from_le_bytes(version) == 1
        && in_bytes as usize == REPORT_BYTES
        && len_bytes >= (HEAD_BYTES + QUOTE_BYTES.max(REPORT_BYTES)) as u64;
    is_right.then_some(Request { in_bytes })
}

/// The head with what became of the request.
pub fn answer(request: Request, status: u64) -> [u8; HEAD_BYTES] {
    let out_bytes = match status {
        status::SUCCESS => QUOTE_BYTES as u32, // CAST: some hundred
        _ => 0,
    };
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&1u64.to_le_bytes());
    head[8..16].copy_from_slice(&status.to_le_bytes());
    head[16..20].copy_from_slice(&request.in_bytes.to_le_bytes());
    head[20..].copy_from_slice(&out_bytes.to_le_bytes());
    head
}

/// Makes a quote of a report. `None` if the report is not of this platform.
pub fn quote(report: &[u8; REPORT_BYTES]) -> Option<[u8; QUOTE_BYTES]> {
    if report[0] != TDX || &report[0xe0..0x100] != MAC {
        return None;
    }
    let mut quote = [0; QUOTE_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        quote[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // Version 4, of a key for ECDSA with P-256, TDX; reserved.
    put(&[4, 0, 2, 0, TDX, 0, 0, 0, 0, 0, 0, 0]);
    put(VENDOR);
    put(&[0; 20]);
    // Of TEE_TCB_INFO: the security version, module, its signer, attributes.
    put(&report[0x108..0x180]);
    // Of TDINFO: ATTRIBUTES to RTMR3.
    put(&report[0x200..0x390]);
    put(&report[0x80..0xc0]);
    put(&(SIGNATURE.len() as u32).to_le_bytes()); // CAST: 48
    put(SIGNATURE);
    Some(quote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl_audit::Evidence;
    use vtl_audit::evidence::Source;

    fn report() -> [u8; REPORT_BYTES] {
        let registers = [[1; 48], [2; 48], [3; 48], [4; 48]];
        let mut report = vtl_audit::testing::report(&registers, &[7; 64]);
        report[0xe0..0x100].copy_from_slice(MAC);
        report.try_into().unwrap()
    }

    #[test]
    fn a_quote_says_what_its_report_says_and_that_it_is_none() {
        let report = report();
        let quote = quote(&report).unwrap();
        let quoted = Evidence::from_quote(&quote).unwrap();
        let reported = Evidence::from_report(&report).unwrap();
        let source = Source::Quote { is_intel: false };
        assert_eq!(quoted, Evidence { source, ..reported });
        let text = b"THIS IS NO SIGNATURE";
        assert!(quote.windows(text.len()).any(|window| window == text));
    }

    #[test]
    fn a_report_that_the_module_has_not_made_gets_none() {
        for at in [0, 0xe0, 0xff] {
            let mut report = report();
            report[at] ^= 1;
            assert_eq!(quote(&report), None, "byte {at:#x}");
        }
    }

    #[test]
    fn requests_of_another_form_are_none() {
        let mut head = [0; HEAD_BYTES];
        (head[0], head[17]) = (1, 4);
        let expected = Request { in_bytes: 1024 };
        assert_eq!(request(&head, 4096), Some(expected));
        assert_eq!(request(&head, 1047), None);
        for (at, byte) in [(0, 2), (7, 1), (16, 1), (17, 3)] {
            let mut head = head;
            head[at] = byte;
            assert_eq!(request(&head, 4096), None, "byte {at}");
        }
        let answer = answer(expected, status::SUCCESS);
        assert_eq!((answer[0], &answer[8..16]), (1, &[0; 8][..]));
        let out = u32::from_le_bytes(answer[20..].try_into().unwrap());
        assert_eq!(out as usize, QUOTE_BYTES);
    }
}
