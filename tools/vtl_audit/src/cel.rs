// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The events of a log in the Canonical Event Log format (CEL-TLV) of the Trusted Computing Group,
//! for tools that replay registers from such logs. [CEL 5]
//!
//! A field is its type, the length of its value in four bytes, the most significant one first, and
//! the value. An event becomes four: its number, the register, its digest, and the event itself.

use alloc::vec::Vec;

use crate::event::Event;

/// Number of the record.
const RECNUM: u8 = 0;
/// Digests, a field for each algorithm.
const DIGESTS: u8 = 3;
/// A measurement register, by its index plus one. No type of the specification, which knows TPMs only;
/// tools for trust domains use this one.
const MEASUREMENT_REGISTER: u8 = 108;
/// TPM_ALG_SHA384.
const SHA384: u8 = 0x0c;
/// Content: an event of this log. No type of the specification either.
pub const CONTENT: u8 = 0xb8;

/// Writes the events of a log, each as one record, in the order given.
///
/// ```
/// use vtl_audit::{Contents, cel};
///
/// fn export(file: &[u8]) -> Option<Vec<u8>> {
///     let contents = Contents::read(file).ok()?;
///     Some(cel::export(&contents.events))
/// }
/// ```
#[must_use]
pub fn export(events: &[Event<'_>]) -> Vec<u8> {
    let mut log = Vec::new();
    for event in events {
        field(&mut log, RECNUM, &event.number.to_be_bytes());
        // CAST: 2 or 3; `Event` is no other.
        field(&mut log, MEASUREMENT_REGISTER, &[event.register as u8 + 1]);
        let mut digest = Vec::new();
        field(&mut digest, SHA384, &event.digest());
        field(&mut log, DIGESTS, &digest);
        field(&mut log, CONTENT, event.bytes);
    }
    log
}

/// Adds a field. A value is not longer than a frame of a file, whose length has 32 bits, too.
fn field(log: &mut Vec<u8>, kind: u8, value: &[u8]) {
    log.push(kind);
    let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    log.extend(len.to_be_bytes());
    log.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CONTROL;
    use crate::testing::Module;
    use crate::{Contents, hash};

    /// As the specification has a reader take fields off a log.
    fn take<'a>(log: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
        let (kind, rest) = log.split_first()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        *log = rest;
        Some((*kind, value))
    }

    #[test]
    fn a_reader_of_such_logs_replays_the_register() {
        let mut module = Module::load_again(&[0, CONTROL], [9; 48], 1);
        module.run(70);
        module.checkpoint(Some([7; 32]));
        module.close();
        let file = module.file();
        let exported = export(&Contents::read(&file).unwrap().events);
        let (mut log, mut register, mut count) = (exported.as_slice(), [9; 48], 0u64);
        while !log.is_empty() {
            assert_eq!(take(&mut log), Some((0, count.to_be_bytes().as_slice())));
            assert_eq!(take(&mut log), Some((108, [4].as_slice())));
            let (3, mut digests) = take(&mut log).unwrap() else {
                panic!("no digests");
            };
            let (0x0c, digest) = take(&mut digests).unwrap() else {
                panic!("no SHA-384");
            };
            assert!(digests.is_empty());
            let (CONTENT, event) = take(&mut log).unwrap() else {
                panic!("no event");
            };
            assert_eq!(hash::digest(event), digest);
            register = hash::extend(&register, digest.try_into().unwrap());
            count += 1;
        }
        assert_eq!((register, count), (module.register, 3));
    }

    #[test]
    fn a_log_without_events_is_empty() {
        assert_eq!(export(&[]), []);
    }
}
