// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MR.KEY.GET (leaf 29, later modules): a key for sealing, which depends on what of the TD the
//! request names [ABI TDG.MR.KEY.GET; ABI TDKEYREQUEST; `tdg_mr_key_get.c`].
//!
//! A processor derives it from a secret of its own. Here it is a hash of the same inputs, so it is
//! the same for the same request and TD, and no secret.

use sha2::{Digest as _, Sha384};

use super::{Call, Leaf, SUCCESS, Stop, must_be_zero, private_operand};
use crate::machine::Machine;
use crate::status::{Operand, Status};
use crate::td::{Td, config_flags, td_ctls};

const REQUEST_LEN: usize = 128;
const KEY_LEN: usize = 32;
/// Bit of KEYSIZE_BITMAP: 256 bits, the only size here.
const SIZE_256: u8 = 1 << 1;
/// Who asks: 0 to 3.
const MAX_REQUESTOR: u64 = 3;

pub(crate) fn tdg_mr_key_get<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let is_enabled = call.td.config.config_flags & config_flags::SEALING != 0
        || call.td.td_ctls & td_ctls::ENABLE_HW_SEAL_KEYS != 0;
    if !is_enabled {
        return Err(Status::MR_KEY_GET_NOT_SUPPORTED.into());
    }
    let requestor = call.gprs.r8;
    if requestor > MAX_REQUESTOR {
        return Err(Stop::invalid(Operand::R8));
    }
    let request_gpa = private_operand(call.gprs.rcx, REQUEST_LEN as u64, Operand::Rcx)?;
    call.walk_private(request_gpa)?;
    let mut request = [0; REQUEST_LEN];
    call.machine.read_memory(request_gpa, &mut request);
    let key_gpa = private_operand(call.gprs.rdx, KEY_LEN as u64, Operand::Rdx)?;
    call.walk_private(key_gpa)?;
    let request = Request::parse(&request);
    request.check()?;
    call.lock_rtmrs()?;
    if request.svns != [0; 32] {
        // Later than what this platform has: see TDREPORT.
        return Err(Status::SVN_INVALID.into());
    }
    // checks passed
    let key = request.derive(call.td, requestor);
    call.machine.write_memory(key_gpa, &key);
    call.gprs.r9 = 8 * KEY_LEN as u64;
    SUCCESS
}

/// TDKEYREQUEST.
struct Request {
    key_name: u16,
    software_key_name: u8,
    key_sizes: u8,
    reserved: [u8; 4],
    policy: u64,
    attributes_mask: u64,
    xfam_mask: u64,
    /// CPUSVN and TEE_TCB_SVN.
    svns: [u8; 32],
    /// ISVSVN, MRCONFIGSVN, MROWNERCONFIGSVN.
    own_svns: [u8; 6],
    salt: [u8; 32],
    reserved_end: [u8; 26],
}

/// TDKEYPOLICY: what of the TD the key depends on.
mod policy {
    pub(super) const MRTD: u64 = 1 << 0;
    pub(super) const MROWNER: u64 = 1 << 1;
    pub(super) const MRCONFIGID: u64 = 1 << 2;
    pub(super) const MROWNERCONFIG: u64 = 1 << 3;
    /// Bit of RTMR0.
    pub(super) const RTMR_SHIFT: usize = 32;
    /// 7:4, 31:11 and 63:48.
    pub(super) const RESERVED: u64 = 0xffff_0000_ffff_f8f0;
}

/// Bits of ATTRIBUTES that are not defined: 3:1, 15:7, 26:18, 61:32.
const ATTRIBUTES_RESERVED: u64 = 0x3fff_ffff_07fc_ff8e;
/// Bits of XFAM above the last component.
const XFAM_RESERVED: u64 = !0 << 20;
/// The part of TEE_TCB_SVN that has no meaning.
const TCB_SVN_RESERVED: core::ops::Range<usize> = 19..32;

fn field<const N: usize>(bytes: &[u8; REQUEST_LEN], offset: usize) -> [u8; N] {
    let found = bytes.get(offset..offset + N);
    found.and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

impl Request {
    fn parse(bytes: &[u8; REQUEST_LEN]) -> Self {
        let [software_key_name, key_sizes] = field(bytes, 2);
        Self {
            key_name: u16::from_le_bytes(field(bytes, 0)),
            software_key_name,
            key_sizes,
            reserved: field(bytes, 4),
            policy: u64::from_le_bytes(field(bytes, 8)),
            attributes_mask: u64::from_le_bytes(field(bytes, 16)),
            xfam_mask: u64::from_le_bytes(field(bytes, 24)),
            svns: field(bytes, 32),
            own_svns: field(bytes, 64),
            salt: field(bytes, 70),
            reserved_end: field(bytes, 102),
        }
    }

    fn check(&self) -> Result<(), Stop> {
        must_be_zero(u64::from(self.key_name), Operand::KeyName)?;
        let bytes = [&self.reserved[..], &self.reserved_end];
        let svn = self.svns.get(TCB_SVN_RESERVED).unwrap_or_default();
        let has_reserved = bytes.into_iter().flatten().chain(svn).any(|b| *b != 0);
        must_be_zero(u64::from(has_reserved), Operand::Rcx)?;
        let words = self.policy & policy::RESERVED
            | self.attributes_mask & ATTRIBUTES_RESERVED
            | self.xfam_mask & XFAM_RESERVED;
        must_be_zero(words, Operand::Rcx)?;
        if self.key_sizes & SIZE_256 == 0 {
            return Err(Stop::invalid(Operand::KeySizeBitmap));
        }
        Ok(())
    }

    /// The key: what the policy does not name has no influence on it.
    fn derive(&self, td: &Td<'_>, requestor: u64) -> [u8; KEY_LEN] {
        let m = &td.measurements;
        let named = [
            (policy::MRTD, &m.mrtd),
            (policy::MROWNER, &m.mrowner),
            (policy::MRCONFIGID, &m.mrconfigid),
            (policy::MROWNERCONFIG, &m.mrownerconfig),
        ];
        let rtmrs = m.rtmr.iter().enumerate();
        let rtmrs = rtmrs.map(|(i, rtmr)| (1 << (policy::RTMR_SHIFT + i), rtmr));
        let mut hash = Sha384::new()
            .chain_update(b"EMULATED TDX MODULE - KEY, NOT A SECRET")
            .chain_update([self.software_key_name])
            .chain_update(requestor.to_le_bytes())
            .chain_update(self.policy.to_le_bytes())
            .chain_update((td.config.attributes & self.attributes_mask).to_le_bytes())
            .chain_update(self.attributes_mask.to_le_bytes())
            .chain_update((td.config.xfam & self.xfam_mask).to_le_bytes())
            .chain_update(self.xfam_mask.to_le_bytes())
            .chain_update(self.own_svns)
            .chain_update(self.salt);
        for (bit, value) in named.into_iter().chain(rtmrs) {
            if self.policy & bit != 0 {
                hash.update(value);
            }
        }
        let digest: [u8; 48] = hash.finalize().into();
        digest.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gprs::Gprs;
    use crate::td::FeatureLevel;
    use crate::testing::{FakeMachine, complete, with_td};
    use crate::vcpu::Vcpu;

    const REQUEST: usize = 0x1080;
    const KEY: usize = 0x2020;

    /// Gets a key for a request of 256 bits, of which some bytes are different.
    fn get(
        td: &mut Td<'_>,
        vcpu: &mut Vcpu,
        m: &mut FakeMachine,
        changes: &[(usize, u8)],
    ) -> (u64, [u8; 32]) {
        m.memory[REQUEST..REQUEST + 128].fill(0);
        m.memory[REQUEST + 3] = SIZE_256;
        m.memory[KEY..KEY + 32].fill(0);
        for (offset, value) in changes {
            m.memory[REQUEST + offset] = *value;
        }
        let mut g = Gprs {
            rcx: REQUEST as u64,
            rdx: KEY as u64,
            ..Gprs::ZERO
        };
        let status = complete(td, vcpu, m, 29, &mut g);
        assert_eq!(g.r9, if status == 0 { 256 } else { 0 });
        (status, m.memory[KEY..KEY + 32].try_into().unwrap())
    }

    fn with_sealing(test: impl FnOnce(&mut Td<'_>, &mut Vcpu, &mut FakeMachine)) {
        with_td(|td, vcpu, m| {
            td.config.config_flags |= config_flags::SEALING;
            test(td, vcpu, m);
        });
    }

    #[test]
    fn key_depends_on_what_the_policy_names() {
        with_sealing(|td, vcpu, m| {
            let plain = get(td, vcpu, m, &[]);
            assert_eq!(plain.0, 0);
            assert_ne!(plain.1, [0; 32]);
            // RTMR1 and MRTD by policy, salt, software's name of the key, ISVSVN.
            let mut keys = std::vec![plain.1];
            let by_mrtd = [(8, 1)];
            let by_rtmr1 = [(12, 2)];
            for change in [&by_mrtd[..], &by_rtmr1, &[(70, 1)], &[(2, 1)], &[(64, 1)]] {
                let (status, key) = get(td, vcpu, m, change);
                assert_eq!(status, 0, "{change:?}");
                assert!(!keys.contains(&key), "{change:?}");
                keys.push(key);
            }
            td.measurements.extend(1, &[7; 48]);
            assert_eq!(get(td, vcpu, m, &[]), plain);
            assert_eq!(get(td, vcpu, m, &by_mrtd), (0, keys[1]));
            assert_ne!(get(td, vcpu, m, &by_rtmr1).1, keys[2]);
            td.measurements.mrtd[0] ^= 1;
            assert_ne!(get(td, vcpu, m, &by_mrtd).1, keys[1]);
        });
    }

    #[test]
    fn attributes_count_where_they_are_masked_in() {
        with_sealing(|td, vcpu, m| {
            // SEPT_VE_DISABLE is bit 28.
            let masked = [(19, 0x10)];
            let (plain, bound) = (get(td, vcpu, m, &[]), get(td, vcpu, m, &masked));
            td.config.attributes = 0;
            assert_eq!(get(td, vcpu, m, &[]), plain);
            assert_ne!(get(td, vcpu, m, &masked), bound);
        });
    }

    #[test]
    fn request_is_checked_field_by_field() {
        with_sealing(|td, vcpu, m| {
            const RCX: u64 = 0xc000_0100_0000_0001;
            let rules: [(&[(usize, u8)], u64); 12] = [
                (&[(0, 1), (4, 1)], 0xc000_0100_0000_0064),
                (&[(4, 1), (3, 0)], RCX),
                (&[(127, 1)], RCX),
                (&[(8, 0x10)], RCX),
                (&[(9, 0x08)], RCX),
                (&[(14, 1)], RCX),
                (&[(16, 2)], RCX),
                (&[(26, 0x10)], RCX),
                (&[(51, 1)], RCX),
                (&[(3, 1), (32, 1)], 0xc000_0100_0000_006c),
                (&[(32, 1)], 0xc000_1006_0000_0000),
                (&[(48, 1)], 0xc000_1006_0000_0000),
            ];
            for (changes, want) in rules {
                let (status, key) = get(td, vcpu, m, changes);
                assert_eq!(status, want, "{changes:?}");
                assert_eq!(key, [0; 32], "{changes:?}");
            }
            m.busy_rtmrs = 1;
            assert_eq!(get(td, vcpu, m, &[]).0, 0x8000_0200_0000_00a8);
        });
    }

    #[test]
    fn td_without_sealing_has_no_keys_and_an_early_module_no_leaf() {
        with_td(|td, vcpu, m| {
            assert_eq!(get(td, vcpu, m, &[]).0, 0xc000_1004_0000_0000);
            td.td_ctls |= td_ctls::ENABLE_HW_SEAL_KEYS;
            assert_eq!(get(td, vcpu, m, &[]).0, 0);
            td.config.feature_level = FeatureLevel::Base;
            assert_eq!(get(td, vcpu, m, &[]).0, 0xc000_0100_0000_0000);
        });
    }
}
