// SPDX-License-Identifier: GPL-2.0
//! Messages of Hyper-V's synthetic interrupt controller (SynIC): layout of a slot, and contents of
//! the few that the driver reads or builds itself. [TLFS]

use super::field::VmIndex;
use super::hv_vectors;

/// Size of a slot of the message page, and of a message.
pub const SLOT_BYTES: usize = 256;
/// Largest payload.
pub const PAYLOAD_BYTES: usize = 240;
/// Event flags per SINT.
pub const FLAGS: u32 = 2048;
/// Size of these flags.
pub const FLAG_BYTES: usize = 256;

/// The SINT for messages about a lower VTL.
pub const SINT_INTERCEPTION: usize = 0;
/// The SINT of VTL2's VMBus.
pub const SINT_VMBUS: usize = 7;

/// Message type, a u32 at the start of a slot; zero if the slot is free.
pub const NO_MESSAGE: u32 = 0;
/// Offset of the payload size, a byte.
pub const SIZE_AT: usize = 4;
/// Offset of the flags, a byte.
pub const FLAGS_AT: usize = 5;
/// Flag: another message is waiting for the slot.
pub const PENDING: u8 = 1;
const PAYLOAD_AT: usize = 16;

/// Bounds the size in a copy of a slot, so that a reader can rely on it. Returns false if the slot
/// was free when it was copied: the host may have withdrawn a message after the slot was seen full.
pub fn settle(message: &mut [u8; SLOT_BYTES]) -> bool {
    let [t0, t1, t2, t3, ..] = *message;
    message[SIZE_AT] = message[SIZE_AT].min(PAYLOAD_BYTES as u8); // CAST: 240
    u32::from_le_bytes([t0, t1, t2, t3]) != NO_MESSAGE
}

/// Message type: interrupts for a lower VTL.
const PROXY_INTERRUPT: u32 = 0x8001_000f;
/// Bytes of such a message that the driver reads.
pub const PROXY_BYTES: usize = PAYLOAD_AT + 36;

/// Returns the vectors that a message proxies to VTL0, as a bitmap of those that the host may raise
/// there; `None` if it is another message, or for another VTL.
pub fn proxied(message: &[u8; PROXY_BYTES]) -> Option<[u32; 8]> {
    let word = |at: usize| {
        let bytes = message.get(at..at.saturating_add(4));
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let byte = |at: usize| message.get(at).copied();
    if word(0)? != PROXY_INTERRUPT || byte(PAYLOAD_AT)? != 0 {
        return None;
    }
    let mut vectors = [0; 8];
    if byte(PAYLOAD_AT + 1)? != 0 {
        for (index, vectors) in vectors.iter_mut().enumerate() {
            *vectors = word(PAYLOAD_AT + 4 + 4 * index)?;
        }
    } else {
        let vector = word(PAYLOAD_AT + 4)?;
        // Vectors above 255 do not exist: ignore the message.
        *vectors.get_mut(usize::try_from(vector / 32).ok()?)? = 1 << (vector % 32);
    }
    for (vectors, allowed) in vectors.iter_mut().zip(hv_vectors::allowed(VmIndex::VM1)) {
        *vectors &= allowed;
    }
    Some(vectors)
}

/// HvCallPostMessage.
pub const POST_MESSAGE: u64 = 0x5c;
/// HvCallSignalEvent.
pub const SIGNAL_EVENT: u64 = 0x5d;

/// Input of HvCallPostMessage. The payload is cut off after [`PAYLOAD_BYTES`].
pub fn post_input(connection: u32, kind: u32, payload: &[u8]) -> [u8; SLOT_BYTES] {
    let mut input = [0; SLOT_BYTES];
    let len = payload.len().min(PAYLOAD_BYTES) as u32; // CAST: at most 240
    let words = [connection, 0, kind, len].map(u32::to_le_bytes);
    let bytes = words.as_flattened().iter().chain(payload);
    for (to, from) in input.iter_mut().zip(bytes) {
        *to = *from;
    }
    input
}

/// Input of HvCallSignalEvent.
pub fn signal_input(connection: u32, flag: u16) -> [u8; 8] {
    (u64::from(connection) | (u64::from(flag) << 32)).to_le_bytes()
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_hv_message),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    fn message(vtl: u8, multiple: u8, rest: [u32; 8]) -> [u8; PROXY_BYTES] {
        let mut bytes = [0; PROXY_BYTES];
        bytes[..4].copy_from_slice(&0x8001_000f_u32.to_le_bytes());
        bytes[4] = 36;
        (bytes[16], bytes[17]) = (vtl, multiple);
        for (to, from) in bytes[20..].chunks_mut(4).zip(rest) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn single_vector_becomes_its_bit_and_the_rest_is_not_looked_at() {
        let one = |vector| proxied(&message(0, 0, [vector, !0, !0, !0, !0, !0, !0, !0]));
        assert_eq!(one(0x41), Some([0, 0, 2, 0, 0, 0, 0, 0]));
        assert_eq!(one(255), Some([0, 0, 0, 0, 0, 0, 0, 1 << 31]));
        assert_eq!(one(32), Some([0, 1, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn exceptions_and_vectors_that_none_are_do_nothing() {
        for vector in 0..32 {
            assert_eq!(proxied(&message(0, 0, [vector; 8])), Some([0; 8]));
        }
        for vector in [256, 257, 0x1_0041, u32::MAX] {
            assert_eq!(proxied(&message(0, 0, [vector; 8])), None);
        }
        let all = proxied(&message(0, 1, [u32::MAX; 8])).unwrap();
        assert_eq!(all, [0, !0, !0, !0, !0, !0, !0, !0]);
    }

    #[test]
    fn map_of_vectors_is_taken_as_it_is() {
        let map = [0, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(proxied(&message(0, 1, map)), Some(map));
    }

    #[test]
    fn other_messages_and_other_vtls_are_none() {
        assert_eq!(proxied(&message(1, 1, [!0; 8])), None);
        let mut other = message(0, 1, [!0; 8]);
        other[0] = 0;
        assert_eq!(proxied(&other), None);
    }

    #[test]
    fn a_copy_of_a_free_slot_is_no_message() {
        let mut copy = [0xff; SLOT_BYTES];
        copy[..4].fill(0);
        assert!(!settle(&mut copy));
        for byte in 0..4 {
            let mut copy = [0; SLOT_BYTES];
            copy[byte] = 1;
            assert!(settle(&mut copy));
        }
    }

    #[test]
    fn no_size_goes_beyond_the_message() {
        for size in 0..=255 {
            let mut copy = [1; SLOT_BYTES];
            copy[SIZE_AT] = size;
            assert!(settle(&mut copy));
            assert_eq!(copy[SIZE_AT], size.min(240));
        }
    }

    #[test]
    fn inputs_have_their_fields_in_place() {
        let input = post_input(0x0102_0304, 0x11, &[9; 3]);
        assert_eq!(input[..8], [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(input[8..20], [0x11, 0, 0, 0, 3, 0, 0, 0, 9, 9, 9, 0]);
        let long = post_input(0, 0, &[9; 300]);
        assert_eq!((long[12], long[255]), (240, 9));
        assert_eq!(signal_input(1, 0x7ff), [1, 0, 0, 0, 0xff, 7, 0, 0]);
    }
}
