// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Keys that never leave VTL1: they are derived from a seed that VTL2 gives, and used here only.

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroize as _;

/// Bytes of the seed.
pub const SEED_LEN: usize = 32;
/// Bytes of a signature: HMAC-SHA-256.
pub const TAG_LEN: usize = 32;
/// Bytes by which sealed data is longer: header, nonce, tag.
pub const SEAL_OVERHEAD: usize = HEADER.len() + NONCE_LEN + SEAL_TAG_LEN;

const HEADER: [u8; 4] = *b"VS1\0";
const NONCE_LEN: usize = 24;
const SEAL_TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;

/// The keys. They are overwritten when this is dropped, and have no `Debug`.
pub struct Keys {
    sign: [u8; KEY_LEN],
    seal: [u8; KEY_LEN],
    nonce: [u8; KEY_LEN],
    /// Names the keys, without revealing them.
    id: [u8; 16],
}

impl Keys {
    /// Derives the keys; `None` for a seed of zeros, which nobody has filled in.
    pub fn derive(seed: &[u8; SEED_LEN]) -> Option<Self> {
        if seed.iter().all(|&byte| byte == 0) {
            return None;
        }
        let source = Hkdf::<Sha256>::new(Some(b"mshv_vtl_tdx vtl1"), seed);
        let mut keys = Self {
            sign: [0; KEY_LEN],
            seal: [0; KEY_LEN],
            nonce: [0; KEY_LEN],
            id: [0; 16],
        };
        let parts = [
            source.expand(b"sign", &mut keys.sign),
            source.expand(b"seal", &mut keys.seal),
            source.expand(b"nonce", &mut keys.nonce),
            source.expand(b"id", &mut keys.id),
        ];
        // Only an output that is too long is refused.
        parts.iter().all(Result::is_ok).then_some(keys)
    }

    /// Identifier of the keys.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// HMAC-SHA-256 of `input`.
    pub fn sign(&self, input: &[u8]) -> [u8; TAG_LEN] {
        mac(&self.sign, input)
    }

    /// Seals the first `len` bytes of `buffer` in place; returns the new length, or `None` if the
    /// buffer has no room.
    ///
    /// The nonce is a keyed hash of the plaintext, so no two plaintexts share one; equal plaintexts
    /// give equal results. There is no source of randomness that VTL0 and the host could spoil.
    pub fn seal(&self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let end = len.checked_add(SEAL_OVERHEAD)?;
        let place = buffer.get_mut(..end)?;
        let hash = mac(&self.nonce, &place[..len]);
        let body = HEADER.len() + NONCE_LEN;
        place.copy_within(..len, body);
        place[..HEADER.len()].copy_from_slice(&HEADER);
        place[HEADER.len()..body].copy_from_slice(&hash[..NONCE_LEN]);
        let cipher = XChaCha20Poly1305::new(&self.seal.into());
        let nonce = XNonce::clone_from_slice(&hash[..NONCE_LEN]);
        let tag = cipher
            .encrypt_in_place_detached(&nonce, &HEADER, &mut place[body..body + len])
            .ok()?;
        place[body + len..].copy_from_slice(&tag);
        Some(end)
    }

    /// Unseals `buffer` in place; returns where the plaintext is in it, or `None`, with `buffer`
    /// unspecified, if it was not sealed with these keys.
    pub fn unseal(&self, buffer: &mut [u8]) -> Option<core::ops::Range<usize>> {
        let body = HEADER.len() + NONCE_LEN;
        let end = buffer.len().checked_sub(SEAL_TAG_LEN)?;
        if end < body || buffer[..HEADER.len()] != HEADER {
            return None;
        }
        let nonce = XNonce::clone_from_slice(&buffer[HEADER.len()..body]);
        let tag = Tag::clone_from_slice(&buffer[end..]);
        XChaCha20Poly1305::new(&self.seal.into())
            .decrypt_in_place_detached(&nonce, &HEADER, &mut buffer[body..end], &tag)
            .ok()?;
        Some(body..end)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.sign.zeroize();
        self.seal.zeroize();
        self.nonce.zeroize();
    }
}

fn mac(key: &[u8; KEY_LEN], input: &[u8]) -> [u8; TAG_LEN] {
    // HMAC takes a key of any length.
    match <Hmac<Sha256> as hmac::Mac>::new_from_slice(key) {
        Ok(state) => state.chain_update(input).finalize().into_bytes().into(),
        Err(_) => [0; TAG_LEN],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> Keys {
        match Keys::derive(&[seed; SEED_LEN]) {
            Some(keys) => keys,
            None => panic!("seed {seed}"),
        }
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Test case 2 has a short key; padded with zeros it is the same key.
        let mut key = [0; KEY_LEN];
        key[..4].copy_from_slice(b"Jefe");
        let tag = mac(&key, b"what do ya want for nothing?");
        assert_eq!(tag[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
        assert_eq!(tag[24..], [0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43]);
    }

    #[test]
    fn no_seed_gives_no_keys_and_each_seed_its_own() {
        assert!(Keys::derive(&[0; SEED_LEN]).is_none());
        assert_ne!(keys(1).id(), keys(2).id());
        assert_ne!(keys(1).sign(b"x"), keys(2).sign(b"x"));
        assert_ne!(keys(1).sign, keys(1).seal);
        assert_ne!(keys(1).sign, keys(1).nonce);
    }

    #[test]
    fn what_is_sealed_is_unsealed_by_the_same_keys_only() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let mut buffer = [0xaa; 1100];
            buffer[..len].fill(0x5a);
            let end = keys(1).seal(&mut buffer, len);
            assert_eq!(end, Some(len + SEAL_OVERHEAD));
            let sealed = buffer;
            let sealed = &sealed[..len + SEAL_OVERHEAD];
            assert!(len < 16 || !sealed.windows(16).any(|part| part == [0x5a; 16]));
            let mut copy = [0; 1100];
            let place = &mut copy[..sealed.len()];
            place.copy_from_slice(sealed);
            assert_eq!(keys(2).unseal(place), None);
            place.copy_from_slice(sealed);
            let Some(found) = keys(1).unseal(place) else {
                panic!("{len} bytes");
            };
            assert_eq!(place[found], [0x5a; 1000][..len]);
        }
    }

    #[test]
    fn a_change_of_any_bit_is_noticed() {
        let mut buffer = [7; 20 + SEAL_OVERHEAD];
        assert!(keys(1).seal(&mut buffer, 20).is_some());
        for bit in 0..8 * buffer.len() {
            let mut changed = buffer;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys(1).unseal(&mut changed), None, "bit {bit}");
        }
        for len in 0..buffer.len() {
            let mut short = buffer;
            assert_eq!(keys(1).unseal(&mut short[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn there_has_to_be_room_to_seal() {
        let mut buffer = [1; 10 + SEAL_OVERHEAD - 1];
        assert_eq!(keys(1).seal(&mut buffer, 10), None);
        assert_eq!(keys(1).seal(&mut buffer, usize::MAX), None);
        assert_eq!(buffer, [1; 10 + SEAL_OVERHEAD - 1]);
    }
}
