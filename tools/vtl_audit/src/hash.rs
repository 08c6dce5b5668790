// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The hashes of a log: leaves and chains of records, commitments, digests, registers.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A SHA-256.
pub type Hash = [u8; 32];
/// A SHA-384: the value of a measurement register, or what it is extended with.
pub type Digest = [u8; 48];
/// REPORTDATA of a TDREPORT or a quote.
pub type ReportData = [u8; 64];

const CHAIN: &[u8; 16] = b"VTLAUDIT-CHAIN\0\0";
const COMMIT: &[u8; 16] = b"VTLAUDIT-COMMIT\0";
const REPORT: &[u8; 16] = b"VTLAUDIT-REPORT\0";

/// The leaf of a segment, which are whole records.
#[must_use]
pub fn leaf(records: &[u8]) -> Hash {
    Sha256::digest(records).into()
}

/// The chain of a stream after a segment of `count` records from `first` on.
#[must_use]
pub fn chain(stream: u32, count: u32, first: u64, before: &Hash, leaf: &Hash) -> Hash {
    Sha256::new()
        .chain_update(CHAIN)
        .chain_update(stream.to_le_bytes())
        .chain_update(count.to_le_bytes())
        .chain_update(first.to_le_bytes())
        .chain_update(before)
        .chain_update(leaf)
        .finalize()
        .into()
}

/// What an event carries of the secret that the next one reveals.
#[must_use]
pub fn commitment(secret: &Hash) -> Hash {
    Sha256::new()
        .chain_update(COMMIT)
        .chain_update(secret)
        .finalize()
        .into()
}

/// What a register is extended with for an event.
#[must_use]
pub fn digest(event: &[u8]) -> Digest {
    Sha384::digest(event).into()
}

/// A register after it was extended.
#[must_use]
pub fn extend(register: &Digest, digest: &Digest) -> Digest {
    Sha384::new()
        .chain_update(register)
        .chain_update(digest)
        .finalize()
        .into()
}

/// The REPORTDATA that binds a report to a nonce and to the event that carries it.
#[must_use]
pub fn report_data(nonce: &Hash, digest: &Digest) -> ReportData {
    Sha512::new()
        .chain_update(REPORT)
        .chain_update(nonce)
        .chain_update(digest)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by Python's hashlib from the text of the format.
    #[test]
    fn hashes_are_those_of_the_format() {
        let hex = |bytes: &[u8]| {
            let digits = bytes.iter().take(8).map(|byte| format!("{byte:02x}"));
            digits.collect::<String>()
        };
        let records = [7; 128];
        assert_eq!(hex(&leaf(&records)), LEAF);
        assert_eq!(hex(&chain(3, 2, 65, &[1; 32], &[2; 32])), LINK);
        assert_eq!(hex(&commitment(&[3; 32])), COMMITMENT);
        assert_eq!(hex(&digest(b"event")), DIGEST);
        assert_eq!(hex(&extend(&[4; 48], &[5; 48])), REGISTER);
        assert_eq!(hex(&report_data(&[6; 32], &[7; 48])), DATA);
    }

    const LEAF: &str = "4c1398e54d53e925";
    const LINK: &str = "8c1816b9ff17ea80";
    const COMMITMENT: &str = "512dde61d016b223";
    const DIGEST: &str = "02ab40ce3a8ce08a";
    const REGISTER: &str = "6fb56aa1404bcf54";
    const DATA: &str = "6e08c1ed857e4f8a";
}
