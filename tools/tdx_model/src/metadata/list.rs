// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Metadata lists: several fields in one piece of memory [ABI metadata list].
//!
//! A list is a header (15:0 length in bytes, 31:16 number of sequences) and sequences. A sequence
//! is the id of its first field, with the number of fields minus one in bits 46:38, and the values
//! of fields with consecutive codes and one size, eight bytes each. All fields here have one
//! element. The only user is `leaf/tdg_sys_rdall.rs`.

use super::{CONTEXT_BITS, Key, NULL_ID, Table};
use crate::status::Status;

/// The next id after the last field.
pub(crate) const END: u64 = NULL_ID;

const SIZE_BITS: u64 = 3 << 32;
const LAST_FIELD_SHIFT: u32 = 38;
const MAX_FIELDS: u64 = 512;

/// Writes the fields from `first_id` on, by `put(offset, word)`, up to `len_bytes`.
///
/// Returns the status and the id of the first field that did not fit.
pub(crate) fn dump(
    table: &impl Table,
    first_id: u64,
    len_bytes: u64,
    mut put: impl FnMut(u64, u64),
) -> (Status, u64) {
    let mut next = match start(table, first_id) {
        Ok(next) => next,
        Err(status) => return (status, END),
    };
    let (mut at, mut sequences) = (8, 0);
    while let Some(first) = next {
        if at + 16 > len_bytes {
            break;
        }
        let header_at = at;
        let mut field = first;
        at += 8;
        loop {
            // A readable id of the table's own: reading can not fail.
            put(at, table.read(Key::of(field)).unwrap_or(0));
            at += 8;
            next = table.readable_from(Key::of(field).next());
            let fields = (at - header_at) / 8 - 1;
            match next {
                Some(id) if id == field + 1 && at + 8 <= len_bytes && fields < MAX_FIELDS => {
                    field = id;
                }
                _ => break,
            }
        }
        let fields = (at - header_at) / 8 - 1;
        put(header_at, first | (fields - 1) << LAST_FIELD_SHIFT);
        sequences += 1;
    }
    put(0, sequences << 16 | at);
    match next {
        None => (Status::SUCCESS, END),
        Some(id) => (Status::METADATA_LIST_OVERFLOW, id),
    }
}

/// The first field: class, code and element size must be those of a field.
fn start(table: &impl Table, id: u64) -> Result<Option<u64>, Status> {
    if id | CONTEXT_BITS == NULL_ID {
        return Ok(table.readable_from(Key::FIRST));
    }
    let key = Key::of(id);
    let found = table.readable_from(key);
    match found {
        Some(found) if Key::of(found) == key && (found ^ id) & SIZE_BITS == 0 => Ok(Some(found)),
        _ => Err(Status::METADATA_FIELD_ID_INCORRECT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::sys::SysTable;
    use std::vec::Vec;

    /// Dumps piece by piece; returns how many pieces and how many values there were.
    fn pieces(len_bytes: u64) -> (usize, u64) {
        let (mut id, mut count, mut values) = (END, 0, 0);
        loop {
            let mut words = Vec::new();
            let (status, next) = dump(
                &SysTable(crate::td::FeatureLevel::Base),
                id,
                len_bytes,
                |at, word| words.push((at, word)),
            );
            assert!(words.iter().all(|(at, _)| at + 8 <= len_bytes));
            let (_, header) = words.pop().expect("the header is written last");
            assert_eq!(header & 0xffff, 8 + 8 * words.len() as u64);
            values += words.len() as u64 - (header >> 16);
            count += 1;
            id = next;
            if status == Status::SUCCESS {
                assert_eq!(next, END);
                return (count, values);
            }
            assert_eq!(status, Status::METADATA_LIST_OVERFLOW);
        }
    }

    #[test]
    fn overflow_goes_on_with_the_next_field_and_loses_none() {
        assert_eq!(pieces(4096), (1, 12));
        // Room for one field at a time, or for two of a sequence.
        assert_eq!(pieces(24), (12, 12));
        assert_eq!(pieces(32).1, 12);
    }
}
