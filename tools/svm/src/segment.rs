// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Segment attributes in the two packings: SVM's 12 bits and the access rights of VMX.

use crate::vmcb::Segment;

/// VMX access-rights bit: the register holds no usable segment.
pub const UNUSABLE: u32 = 1 << 16;
/// SVM attribute bit: present.
pub const PRESENT: u16 = 1 << 7;
/// SVM attribute bit: 64-bit code.
pub const LONG: u16 = 1 << 9;
/// SVM attribute bit: default operand size 32.
pub const DEFAULT_BIG: u16 = 1 << 10;

/// What a register holds once it is loaded: a segment that was accessed, a task that is busy. TCG
/// marks the descriptor in memory only, at LTR, or nothing, where a far transfer loads CS.
const fn as_loaded(attributes: u16) -> u16 {
    const CODE_OR_DATA: u16 = 1 << 4;
    const ACCESSED: u16 = 1;
    const BUSY: u16 = 1 << 1;
    match attributes & 0xf {
        _ if attributes & PRESENT == 0 => attributes,
        _ if attributes & CODE_OR_DATA != 0 => attributes | ACCESSED,
        // Tasks of 16 and of 32 or 64 bits.
        1 | 9 => attributes | BUSY,
        _ => attributes,
    }
}

/// VMX access rights of a loaded SVM segment.
pub const fn access_rights(segment: &Segment) -> u32 {
    let attributes = as_loaded(segment.attributes) as u32;
    let rights = (attributes & 0xff) | ((attributes & 0xf00) << 4);
    if segment.attributes & PRESENT == 0 {
        rights | UNUSABLE
    } else {
        rights
    }
}

/// SVM attributes of VMX access rights. An unusable segment becomes one that is not present.
pub const fn attributes(access_rights: u32) -> u16 {
    let packed = ((access_rights & 0xff) | ((access_rights >> 4) & 0xf00)) as u16; // CAST: 12 bits
    if access_rights & UNUSABLE != 0 {
        packed & !PRESENT
    } else {
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_rights_survive_the_round_trip() {
        for rights in [0xc09b, 0xa09b, 0xc093, 0x8b, 0xf3] {
            let segment = Segment {
                attributes: attributes(rights),
                ..Segment::default()
            };
            assert_eq!(access_rights(&segment), rights);
        }
    }

    #[test]
    fn loaded_segments_are_accessed_and_tasks_busy() {
        let rights = |attributes| {
            access_rights(&Segment {
                attributes,
                ..Segment::default()
            })
        };
        // Code after a far return, data, a task after LTR, a 16-bit one.
        assert_eq!(rights(0xa9a), 0xa09b);
        assert_eq!(rights(0xc92), 0xc093);
        assert_eq!((rights(0x089), rights(0x081)), (0x8b, 0x83));
        // LDT, and what no register holds.
        assert_eq!(rights(0x082), 0x82);
        assert_eq!(rights(0x010), 0x10 | UNUSABLE);
    }

    #[test]
    fn unusable_means_not_present() {
        assert_eq!(attributes(0x1_0082) & PRESENT, 0);
        let segment = Segment {
            attributes: attributes(0x1_0093),
            ..Segment::default()
        };
        assert_ne!(access_rights(&segment) & UNUSABLE, 0);
    }
}
