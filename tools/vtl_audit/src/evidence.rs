// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a TDX module or a quoting enclave says of a trust domain: TDREPORT, and the body of a quote.
//! [ABI TDREPORT]
//!
//! The form is checked here, and the hashes within. **Signatures are not**: neither the MAC of
//! a TDREPORT, which only its own machine can check, nor the signature of a quote, its certificates,
//! and whether its platform is up to date. Have a verifier of quotes do that first.

use core::fmt;

use sha2::{Digest as _, Sha384};

use crate::bytes::{array, is_zero, length, word16, word32, word64};
use crate::hash::{Digest, ReportData};

/// Length of a TDREPORT.
pub const REPORT_LEN: usize = 1024;
/// ATTRIBUTES.TUD, of which DEBUG is bit 0: with any of them the host can see into the trust domain, which
/// then is not to be trusted.
pub const UNDER_DEBUG: u64 = 0xff;

const TDX: u32 = 0x81;
/// Offsets in a TDREPORT.
mod report {
    pub(super) const TCB_HASH: usize = 0x20;
    pub(super) const INFO_HASH: usize = 0x50;
    pub(super) const DATA: usize = 0x80;
    pub(super) const TCB: core::ops::Range<usize> = 0x100..0x1ef;
    pub(super) const INFO: core::ops::Range<usize> = 0x200..0x400;
}
/// Offsets in TDINFO.
mod info {
    pub(super) const ATTRIBUTES: usize = 0;
    pub(super) const MRTD: usize = 0x10;
    pub(super) const RTMR: usize = 0xd0;
    /// Used by version 1, for which a service TD is bound.
    pub(super) const SERVTD: core::ops::Range<usize> = 0x190..0x1c0;
    pub(super) const ZERO: core::ops::Range<usize> = 0x1c0..0x200;
}
/// Offsets in a quote.
mod quote {
    pub(super) const HEAD_LEN: usize = 48;
    pub(super) const VENDOR: usize = 12;
    pub(super) const BODY_LEN: usize = 584;
    /// That of TDX 1.5 has two fields more, at its end.
    pub(super) const LATER_BODY_LEN: usize = 648;
}
/// Offsets in the body of a quote.
mod body {
    pub(super) const ATTRIBUTES: usize = 120;
    pub(super) const MRTD: usize = 136;
    pub(super) const RTMR: usize = 328;
    pub(super) const DATA: usize = 520;
}
/// Intel's quoting enclave.
const INTEL: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

/// What the evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TDREPORT: good on the machine that made it.
    Report,
    /// A quote.
    Quote {
        /// True if it names Intel's quoting enclave.
        is_intel: bool,
    },
}

/// Why something is no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadEvidence {
    /// A TDREPORT has 1024 bytes, and a quote more than its head.
    Length,
    /// It is of another kind of enclave or domain than TDX.
    NotTdx,
    /// A version that this program does not know.
    Version(u16),
    /// Its hashes are not those of its parts.
    Hash,
    /// What is reserved is not zero.
    Reserved,
}

impl fmt::Display for BadEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("it is not as long as a report or a quote"),
            Self::NotTdx => f.write_str("it is not about a trust domain"),
            Self::Version(version) => write!(f, "its version {version} is not known"),
            Self::Hash => f.write_str("its hashes are not those of its parts"),
            Self::Reserved => f.write_str("what is reserved in it is not zero"),
        }
    }
}

/// What is said of a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it was read from.
    pub source: Source,
    /// ATTRIBUTES.
    pub attributes: u64,
    /// Measurement of how it was built.
    pub mrtd: Digest,
    /// The run-time measurement registers.
    pub rtmr: [Digest; 4],
    /// What the asker put in.
    pub report_data: ReportData,
}

impl Evidence {
    /// Reads a TDREPORT.
    ///
    /// # Errors
    ///
    /// What makes it none.
    pub fn from_report(bytes: &[u8]) -> Result<Self, BadEvidence> {
        if bytes.len() != REPORT_LEN {
            return Err(BadEvidence::Length);
        }
        let kind = word32(bytes, 0).ok_or(BadEvidence::Length)?;
        // Type TDX, sub-type 0, version 0 or, with a service TD, 1.
        if kind & 0xffff != TDX {
            return Err(BadEvidence::NotTdx);
        }
        let version = kind >> 16;
        if version > 1 {
            // CAST: the upper half.
            return Err(BadEvidence::Version(version as u16));
        }
        let part = |range: core::ops::Range<usize>| bytes.get(range).unwrap_or_default();
        let is_hash_of = |at, part: &[u8]| array(bytes, at) == Some(Sha384::digest(part).into());
        let info = part(report::INFO);
        if !is_hash_of(report::TCB_HASH, part(report::TCB)) || !is_hash_of(report::INFO_HASH, info)
        {
            return Err(BadEvidence::Hash);
        }
        let servtd = info.get(info::SERVTD).unwrap_or_default();
        let rest = info.get(info::ZERO).unwrap_or_default();
        if version == 0 && !is_zero(servtd) || !is_zero(rest) {
            return Err(BadEvidence::Reserved);
        }
        let fields = |info| {
            Some(Self {
                source: Source::Report,
                attributes: word64(info, info::ATTRIBUTES)?,
                mrtd: array(info, info::MRTD)?,
                rtmr: registers(info, info::RTMR)?,
                report_data: array(bytes, report::DATA)?,
            })
        };
        fields(info).ok_or(BadEvidence::Length)
    }

    /// Reads the body of a quote, version 4 or 5.
    ///
    /// # Errors
    ///
    /// What makes it none.
    pub fn from_quote(bytes: &[u8]) -> Result<Self, BadEvidence> {
        if bytes.len() < quote::HEAD_LEN {
            return Err(BadEvidence::Length);
        }
        let version = word16(bytes, 0).ok_or(BadEvidence::Length)?;
        let (at, len) = match version {
            4 => (quote::HEAD_LEN, quote::BODY_LEN),
            5 => {
                let kind = word16(bytes, quote::HEAD_LEN).ok_or(BadEvidence::Length)?;
                let len = word32(bytes, quote::HEAD_LEN + 2).ok_or(BadEvidence::Length)?;
                let expected = match kind {
                    2 => quote::BODY_LEN,
                    3 => quote::LATER_BODY_LEN,
                    _ => return Err(BadEvidence::NotTdx),
                };
                if length(len) != expected {
                    return Err(BadEvidence::Length);
                }
                (quote::HEAD_LEN + 6, expected)
            }
            other => return Err(BadEvidence::Version(other)),
        };
        if word32(bytes, 4) != Some(TDX) {
            return Err(BadEvidence::NotTdx);
        }
        let vendor = array(bytes, quote::VENDOR).ok_or(BadEvidence::Length)?;
        let signature_len = word32(bytes, at + len).ok_or(BadEvidence::Length)?;
        let end = (at + len + 4).saturating_add(length(signature_len));
        // The buffer that a host fills may be longer than the quote in it.
        if bytes.len() < end {
            return Err(BadEvidence::Length);
        }
        let body = bytes.get(at..at + len).ok_or(BadEvidence::Length)?;
        let is_intel = vendor == INTEL;
        quote_body(body, is_intel).ok_or(BadEvidence::Length)
    }

    /// Returns true if the host can see into the trust domain.
    #[must_use]
    pub fn is_debug(&self) -> bool {
        self.attributes & UNDER_DEBUG != 0
    }

    /// A run-time measurement register.
    #[must_use]
    pub fn register(&self, index: u32) -> Option<&Digest> {
        self.rtmr.get(length(index))
    }
}

fn quote_body(body: &[u8], is_intel: bool) -> Option<Evidence> {
    Some(Evidence {
        source: Source::Quote { is_intel },
        attributes: word64(body, body::ATTRIBUTES)?,
        mrtd: array(body, body::MRTD)?,
        rtmr: registers(body, body::RTMR)?,
        report_data: array(body, body::DATA)?,
    })
}

fn registers(bytes: &[u8], at: usize) -> Option<[Digest; 4]> {
    let register = |index: usize| array(bytes, at + 48 * index);
    Some([register(0)?, register(1)?, register(2)?, register(3)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Module, quote, report};

    fn registers_of(last: u8) -> [Digest; 4] {
        [[1; 48], [2; 48], [3; 48], [last; 48]]
    }

    #[test]
    fn a_report_and_a_quote_say_the_same() {
        let report = report(&registers_of(9), &[8; 64]);
        let evidence = Evidence::from_report(&report).unwrap();
        assert_eq!(evidence.rtmr, registers_of(9));
        assert_eq!(evidence.report_data, [8; 64]);
        assert_eq!(evidence.mrtd, [0x4d; 48]);
        assert!(!evidence.is_debug());
        for version in [4, 5] {
            let quote = quote(version, &registers_of(9), &[8; 64]);
            let quoted = Evidence::from_quote(&quote).unwrap();
            let source = Source::Quote { is_intel: true };
            assert_eq!(quoted, Evidence { source, ..evidence }, "version {version}");
        }
    }

    /// The parts that are signed say what they say, or are refused: whatever changes, changes
    /// what is read, except the MAC and what is about the processor.
    #[test]
    fn a_flipped_bit_of_a_report_is_refused_or_says_something_else() {
        let good = report(&registers_of(9), &[8; 64]);
        let evidence = Evidence::from_report(&good);
        for at in (0..4)
            .chain(0x20..0xc0)
            .chain(0x100..0x1ef)
            .chain(0x200..0x400)
        {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_ne!(Evidence::from_report(&bad), evidence, "byte {at:#x}");
        }
    }

    #[test]
    fn other_lengths_versions_and_kinds_are_refused() {
        let good = report(&registers_of(9), &[8; 64]);
        for len in [0, 3, 1023] {
            assert_eq!(
                Evidence::from_report(&good[..len]),
                Err(BadEvidence::Length)
            );
        }
        let with = |at: usize, byte: u8| {
            let mut report = good.clone();
            report[at] = byte;
            Evidence::from_report(&report)
        };
        assert_eq!(with(0, 0), Err(BadEvidence::NotTdx));
        assert_eq!(with(2, 2), Err(BadEvidence::Version(2)));
        let good = quote(4, &registers_of(9), &[8; 64]);
        let with = |at: usize, byte: u8| {
            let mut quote = good.clone();
            quote[at] = byte;
            Evidence::from_quote(&quote)
        };
        assert_eq!(with(0, 3), Err(BadEvidence::Version(3)));
        assert_eq!(with(4, 0), Err(BadEvidence::NotTdx));
        assert_eq!(with(48 + 584 + 3, 0xff), Err(BadEvidence::Length));
        let other = with(12, 0).unwrap();
        assert_eq!(other.source, Source::Quote { is_intel: false });
        for len in 0..good.len() {
            assert_eq!(
                Evidence::from_quote(&good[..len]),
                Err(BadEvidence::Length),
                "{len}"
            );
        }
        let mut later = quote(5, &registers_of(9), &[8; 64]);
        later[48] = 1;
        assert_eq!(Evidence::from_quote(&later), Err(BadEvidence::NotTdx));
        (later[48], later[50]) = (3, 1);
        assert_eq!(Evidence::from_quote(&later), Err(BadEvidence::Length));
    }

    #[test]
    fn a_domain_that_can_be_debugged_says_so() {
        let module = Module::load(&[0]);
        for bit in 0..16 {
            let mut report = module.report(&[0; 64]);
            report[0x200 + bit / 8] = 1 << (bit % 8);
            crate::testing::rehash(&mut report);
            let evidence = Evidence::from_report(&report).unwrap();
            assert_eq!(evidence.is_debug(), bit < 8, "bit {bit}");
        }
    }
}
