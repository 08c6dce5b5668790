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

/// VMX access rights of an SVM segment.
pub const fn access_rights(segment: &Segment) -> u32 {
    let attributes = segment.attributes as u32;
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
    fn unusable_means_not_present() {
        assert_eq!(attributes(0x1_0082) & PRESENT, 0);
        let segment = Segment {
            attributes: attributes(0x1_0093),
            ..Segment::default()
        };
        assert_ne!(access_rights(&segment) & UNUSABLE, 0);
    }
}
