// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Facts about the kernel module and the trust domain, and the module's policy, converted from the
//! kernel's structures.

use crate::abi::operands::{self, Head};
use crate::sys::Grows;

impl Grows for operands::RawInfo {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl Grows for operands::Policy {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// Facts that do not change while the module is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Version of the kernel module: major, minor, patch.
    pub version: (u16, u16, u16),
    /// Bit n is set if the kernel returns 1 for capability 0x100 + n.
    pub capabilities: u64,
    /// TDX_FEATURES0 of the TDX module; 0 if it can't be read.
    pub tdx_features0: u64,
    /// ATTRIBUTES of the trust domain.
    pub attributes: u64,
    /// XFAM of the trust domain.
    pub xfam: u64,
    /// Frequency of the time-stamp counter in kHz.
    pub tsc_khz: u64,
    /// Number of L2 VMs of the trust domain.
    pub num_l2_vms: u32,
    /// One more than the highest possible CPU number.
    pub num_cpus: u32,
    /// Records in the audit ring of a virtual processor.
    pub audit_records: u32,
    /// Number of exit kinds that are counted.
    pub exit_kinds: u32,
}

impl Info {
    pub(crate) fn new(answer: &operands::RawInfo) -> Self {
        let operands::RawInfo {
            head: _,
            version,
            capabilities,
            tdx_features0,
            attributes,
            xfam,
            tsc_khz,
            num_l2_vms,
            num_cpus,
            audit_records,
            exit_kinds,
        } = *answer;
        // CAST: 16 bits each.
        let part = |shift: u32| (version >> shift) as u16;
        Self {
            version: (part(32), part(16), part(0)),
            capabilities,
            tdx_features0,
            attributes,
            xfam,
            tsc_khz,
            num_l2_vms,
            num_cpus,
            audit_records,
            exit_kinds,
        }
    }
}

/// A leaf that userspace may execute by TDCALL, or a hypercall that it may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyLine {
    /// Number of the leaf, or code of the hypercall.
    pub leaf: u16,
    /// Version of the leaf.
    pub version: u8,
    /// Its name in the specification.
    pub name: String,
    /// What of it is allowed, and why.
    pub reason: String,
}

impl PolicyLine {
    pub(crate) fn new(answer: &operands::Policy) -> Self {
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0);
            String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
        };
        Self {
            // CAST: bits 15:0 and 23:16.
            leaf: answer.leaf as u16,
            version: (answer.leaf >> 16) as u8,
            name: text(&answer.name),
            reason: text(&answer.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes as _;
    use zerocopy::IntoBytes as _;

    #[test]
    fn facts_stand_where_the_abi_says() {
        let words: [u64; 9] = [
            72,
            (1 << 32) | (2 << 16) | 3,
            7,
            0x80,
            0x10,
            3,
            2_000_000,
            (8 << 32) | 2,
            (104 << 32) | 1024,
        ];
        let info = operands::RawInfo::read_from_bytes(words.as_bytes()).unwrap_or_default();
        let info = Info::new(&info);
        assert_eq!(info.version, (1, 2, 3));
        assert_eq!((info.num_l2_vms, info.num_cpus), (2, 8));
        assert_eq!((info.audit_records, info.exit_kinds), (1024, 104));
        assert_eq!(
            (info.xfam, info.attributes, info.tdx_features0),
            (3, 0x10, 0x80)
        );
    }

    #[test]
    fn names_end_with_their_nul_or_with_their_room() {
        let mut bytes = [0; 176];
        bytes[8..11].copy_from_slice(&[27, 0, 2]);
        bytes[24..28].copy_from_slice(b"VP.I");
        bytes[48..176].fill(b'x');
        match operands::Policy::read_from_bytes(&bytes) {
            Ok(line) => {
                let line = PolicyLine::new(&line);
                assert_eq!(
                    (line.leaf, line.version, line.name.as_str()),
                    (27, 2, "VP.I")
                );
                assert_eq!(line.reason.len(), 128);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
