// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Metadata access: field ids, the order of fields, and the algebra of masked writes.
//!
//! The tables are `metadata/sys.rs`, `vm.rs` and `vp.rs`, one per context; the leaves that use them
//! are `leaf/tdg_sys_rd.rs`, `tdg_vm_rd_wr.rs` and `tdg_vp_rd_wr.rs` [ABI MD_FIELD_ID]. Lists of
//! fields are in `metadata/list.rs`.

pub(crate) mod list;
pub(crate) mod sys;
pub(crate) mod vm;
pub(crate) mod vmcs_rules;
pub(crate) mod vp;

use crate::status::Status;

/// The id that stands for the first field of a context; its context bits are ignored.
const NULL_ID: u64 = u64::MAX;
const CONTEXT_BITS: u64 = 7 << 52;
/// Reserved bits, last element and last field, all of which must be 0 for a single element.
const MUST_BE_ZERO: u64 = 0xff << 24 | 0xf << 34 | 0x1ff << 38 | 7 << 47 | 1 << 55 | 1 << 62;

/// The part of a field id that selects a field: class and code. Element size, increment size,
/// write-mask-valid, context and the non-architectural flag are ignored on input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) class: u64,
    pub(crate) code: u64,
}

impl Key {
    pub(crate) const FIRST: Self = Self { class: 0, code: 0 };

    const fn of(id: u64) -> Self {
        Self {
            class: id >> 56 & 0x3f,
            code: id & 0xff_ffff,
        }
    }

    /// The smallest key after this one.
    const fn next(self) -> Self {
        Self {
            class: self.class,
            code: self.code + 1,
        }
    }
}

/// A field id as a caller gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldId {
    Null,
    Field(Key),
}

impl FieldId {
    /// Decodes the id of a single element.
    pub(crate) const fn decode(raw: u64) -> Result<Self, Status> {
        if raw | CONTEXT_BITS == NULL_ID {
            return Ok(Self::Null);
        }
        if raw & MUST_BE_ZERO != 0 {
            return Err(Status::METADATA_FIELD_ID_INCORRECT);
        }
        Ok(Self::Field(Key::of(raw)))
    }
}

/// Elements with consecutive codes that are alike.
pub(crate) struct FieldRow<T> {
    /// Full id of the first element.
    pub(crate) id: u64,
    pub(crate) count: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) what: T,
}

impl<T> FieldRow<T> {
    pub(crate) const fn new(id: u64, count: u64, read: u64, write: u64, what: T) -> Self {
        Self {
            id,
            count,
            read,
            write,
            what,
        }
    }

    /// All ones of the element's size.
    pub(crate) const fn element_mask(&self) -> u64 {
        u64::MAX >> (64 - (8 << (self.id >> 32 & 3)))
    }

    /// The id of the first readable element at or after `key`.
    fn readable_from(&self, key: Key) -> Option<u64> {
        let first = Key::of(self.id);
        if self.read == 0 || key.class > first.class {
            return None;
        }
        let skip = if key.class < first.class {
            0
        } else {
            key.code.saturating_sub(first.code)
        };
        (skip < self.count).then_some(self.id + skip)
    }
}

/// Finds the row of a field and the element's number in it.
pub(crate) fn locate<T>(
    rows: &'static [FieldRow<T>],
    key: Key,
) -> Option<(&'static FieldRow<T>, u64)> {
    rows.iter().find_map(|row| {
        let first = Key::of(row.id);
        let element = key.code.checked_sub(first.code)?;
        (key.class == first.class && element < row.count).then_some((row, element))
    })
}

/// The first readable id at or after `key` in class and code order.
pub(crate) fn readable_from<T>(rows: &[FieldRow<T>], key: Key) -> Option<u64> {
    let ids = rows.iter().filter_map(|row| row.readable_from(key));
    ids.min_by_key(|id| Key::of(*id))
}

/// What a read leaf returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadOutput {
    pub(crate) status: Status,
    pub(crate) value: u64,
    /// The next readable id, all ones at the end.
    pub(crate) next_id: u64,
}

impl ReadOutput {
    const fn refused(status: Status) -> Self {
        Self {
            status,
            value: 0,
            next_id: NULL_ID,
        }
    }
}

/// One context as the generic read sees it.
pub(crate) trait Table {
    /// The value of a field, cut to its read mask.
    fn read(&self, key: Key) -> Result<u64, Status>;
    /// The first readable id at or after a key.
    fn readable_from(&self, key: Key) -> Option<u64>;
}

/// Reads one element [ABI metadata read rules].
pub(crate) fn read(table: &impl Table, raw_id: u64) -> ReadOutput {
    match FieldId::decode(raw_id) {
        Err(status) => ReadOutput::refused(status),
        Ok(FieldId::Null) => ReadOutput {
            status: Status::METADATA_FIRST_FIELD_ID_IN_CONTEXT,
            value: 0,
            next_id: table.readable_from(Key::FIRST).unwrap_or(NULL_ID),
        },
        Ok(FieldId::Field(key)) => match table.read(key) {
            Err(status) => ReadOutput::refused(status),
            Ok(value) => ReadOutput {
                status: Status::SUCCESS,
                value,
                next_id: table.readable_from(key.next()).unwrap_or(NULL_ID),
            },
        },
    }
}

/// Decodes the id of a write: the null id is not a field.
pub(crate) fn decode_for_write(raw_id: u64) -> Result<Key, Status> {
    match FieldId::decode(raw_id)? {
        FieldId::Null => Err(Status::METADATA_FIELD_ID_INCORRECT),
        FieldId::Field(key) => Ok(key),
    }
}

/// What a masked write applies to.
pub(crate) struct Target {
    /// The value as the caller would read it, before the read mask.
    pub(crate) old: u64,
    /// The caller's write mask of the field.
    pub(crate) write: u64,
    /// All ones of the element's size.
    pub(crate) element: u64,
    /// True if the field holds a guest-physical address that may be unset (all ones).
    pub(crate) is_gpa: bool,
}

/// A write, as requested by the caller.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) value: u64,
    pub(crate) mask: u64,
}

impl Target {
    /// The new value of the field [ABI metadata write rules].
    pub(crate) const fn merge(&self, request: Request) -> Result<u64, Status> {
        let Request { value, mask } = request;
        let written = self.write & mask;
        if written == 0 {
            return Err(Status::METADATA_FIELD_NOT_WRITABLE);
        }
        let base = if written == self.element {
            0
        } else if self.is_gpa && self.old == u64::MAX {
            self.old & self.write
        } else {
            self.old
        };
        if (value ^ base) & mask & !self.write != 0 {
            return Err(Status::METADATA_FIELD_VALUE_NOT_VALID);
        }
        Ok((base & !written) | (value & written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(old: u64, write: u64, element: u64, value: u64, mask: u64) -> Result<u64, Status> {
        Target {
            old,
            write,
            element,
            is_gpa: false,
        }
        .merge(Request { value, mask })
    }

    #[test]
    fn ignored_bits_of_an_id_do_not_matter_and_reserved_ones_do() {
        let plain = FieldId::decode(0x1110_0003_0000_0016);
        assert_eq!(
            plain,
            Ok(FieldId::Field(Key {
                class: 0x11,
                code: 0x16
            }))
        );
        assert_eq!(FieldId::decode(0x9170_0000_0000_0016), plain);
        assert_eq!(FieldId::decode(0x111c_0000_0000_0016), plain);
        for reserved in [24, 31, 34, 37, 38, 46, 47, 49, 55, 62] {
            let id = 0x1110_0003_0000_0016 | 1 << reserved;
            assert_eq!(
                FieldId::decode(id),
                Err(Status::METADATA_FIELD_ID_INCORRECT)
            );
        }
        assert_eq!(FieldId::decode(!(5 << 52)), Ok(FieldId::Null));
    }

    #[test]
    fn full_element_write_ignores_the_old_value() {
        assert_eq!(merge(7, 0xffff, 0xffff, 0x1234, 0xffff), Ok(0x1234));
        assert_eq!(merge(7, 0xffff, 0xffff, 0x1234, u64::MAX), Ok(0x1234));
        let above = merge(7, 0xffff, 0xffff, 0x1_1234, u64::MAX);
        assert_eq!(above, Err(Status::METADATA_FIELD_VALUE_NOT_VALID));
    }

    #[test]
    fn fixed_bits_in_the_mask_must_be_repeated() {
        assert_eq!(merge(0x31, 0x0f, u64::MAX, 0x3a, u64::MAX), Ok(0x3a));
        let changed = merge(0x31, 0x0f, u64::MAX, 0x1a, u64::MAX);
        assert_eq!(changed, Err(Status::METADATA_FIELD_VALUE_NOT_VALID));
        assert_eq!(merge(0x31, 0x0f, u64::MAX, 0x1a, 0x0f), Ok(0x3a));
        assert_eq!(
            merge(0x31, 0x0f, u64::MAX, 0, 0xf0),
            Err(Status::METADATA_FIELD_NOT_WRITABLE)
        );
        assert_eq!(
            merge(0x31, 0x0f, u64::MAX, 0, 0),
            Err(Status::METADATA_FIELD_NOT_WRITABLE)
        );
    }

    #[test]
    fn unset_address_counts_as_the_bits_one_may_write() {
        let write = 0xffff_ffff_ffff_f000;
        let target = Target {
            old: u64::MAX,
            write,
            element: u64::MAX,
            is_gpa: true,
        };
        assert_eq!(
            target.merge(Request {
                value: 0x5000,
                mask: u64::MAX
            }),
            Ok(0x5000)
        );
    }
}
