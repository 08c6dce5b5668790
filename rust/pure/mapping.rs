// SPDX-License-Identifier: GPL-2.0
//! Decodes the offsets of the two kinds of mmap.

use super::uapi::{
    MMAP_AUDIT_RING, MMAP_CONTROL_LEAVES, MMAP_CONTROL_RING, MMAP_KIND_SHIFT, MMAP_LEAVES,
    MMAP_RUN_PAGE, MMAP_SWITCH_PAGE, MMAP_VAPIC_PAGE,
};

/// What a VTL file descriptor maps: a page, or a ring of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VtlPage {
    /// Run page of the VP.
    Run {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Virtual-APIC page of VM 1 of the VP.
    Vapic {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Switch page of the VP.
    Switch {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Audit ring of the VP.
    Audit {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Leaves of the audit ring of the VP.
    Leaves {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Ring of the control plane.
    Control,
    /// Leaves of the ring of the control plane.
    ControlLeaves,
}

impl VtlPage {
    /// Decodes an offset in pages; `None` for kinds that do not exist.
    pub const fn decode(page_offset: u64) -> Option<Self> {
        let cpu = page_offset as u32 & 0xffff; // CAST: the low 16 bits are the CPU
        match page_offset >> MMAP_KIND_SHIFT {
            MMAP_RUN_PAGE => Some(Self::Run { cpu }),
            MMAP_VAPIC_PAGE => Some(Self::Vapic { cpu }),
            MMAP_SWITCH_PAGE => Some(Self::Switch { cpu }),
            MMAP_AUDIT_RING => Some(Self::Audit { cpu }),
            MMAP_LEAVES => Some(Self::Leaves { cpu }),
            MMAP_CONTROL_RING if cpu == 0 => Some(Self::Control),
            MMAP_CONTROL_LEAVES if cpu == 0 => Some(Self::ControlLeaves),
            _ => None,
        }
    }
}

/// Pages of 4 KiB.
pub const PAGE_SHIFT: u32 = 12;
/// Lowest possible SHARED bit, that of a 48-bit guest-physical address space: memory ends below it.
pub(super) const END_PAGE: u64 = 1 << (47 - PAGE_SHIFT);

/// Set in the offset of a mapping of lower-VTL memory, in pages, for the alias shared with the
/// host. It is bit 63 of the offset in bytes.
pub const SHARED_PAGE: u64 = 1 << (63 - PAGE_SHIFT);

/// Which of its two aliases is used to access lower-VTL memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alias {
    /// Encrypted with the key of the TD.
    Private,
    /// Shared with the host.
    Shared,
}

impl Alias {
    /// Decodes the offset and length of a mapping, both in pages; `None` if any of it can't be
    /// memory. A range can't extend from one alias into the other.
    pub const fn decode(page_offset: u64, count: u64) -> Option<Self> {
        match frame(page_offset).checked_add(count) {
            Some(end) if count > 0 && end <= END_PAGE => {}
            _ => return None,
        }
        if page_offset & SHARED_PAGE == 0 {
            Some(Self::Private)
        } else {
            Some(Self::Shared)
        }
    }
}

/// The page frame for an offset in pages, by either alias.
pub const fn frame(page_offset: u64) -> u64 {
    page_offset & !SHARED_PAGE
}

/// Returns true if an offset in pages selects the alias shared with the host.
pub const fn is_shared(page_offset: u64) -> bool {
    page_offset & SHARED_PAGE != 0
}

/// The offset of the first page of the piece of `1 << order` pages around a faulting address;
/// `None` unless the VMA contains all of it and both sides are aligned to its size. `page_offset`
/// is that of the address.
pub fn whole_piece(
    area: core::ops::Range<usize>,
    address: usize,
    page_offset: u64,
    order: u32,
) -> Option<u64> {
    let pages = 1_u64.checked_shl(order)?;
    let bytes = usize::try_from(pages.checked_mul(1 << PAGE_SHIFT)?).ok()?;
    let start = address & !(bytes - 1);
    let end = start.checked_add(bytes)?;
    let distance = (address - start) >> PAGE_SHIFT;
    let first = page_offset.checked_sub(distance as u64)?; // CAST: usize has 64 bits
    (area.start <= start && end <= area.end && first & (pages - 1) == 0).then_some(first)
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_mapping),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_whole_and_aligned_on_both_sides() {
        const M2: usize = 2 << 20;
        let area = 3 * M2..6 * M2;
        let ask = |address, offset| whole_piece(area.clone(), address, offset, 9);
        assert_eq!(ask(3 * M2, 0x400), Some(0x400));
        assert_eq!(ask(4 * M2 + 0x5000, 0x605), Some(0x600));
        assert_eq!(
            ask(6 * M2 - 0x1000, (1 << 51) | 0x7ff),
            Some((1 << 51) | 0x600)
        );
        // The offset is not aligned.
        assert_eq!(ask(4 * M2, 0x601), None);
        // The piece begins before the first page.
        assert_eq!(ask(4 * M2 + 0x5000, 4), None);
        assert_eq!(
            whole_piece(3 * M2 + 0x1000..6 * M2, 3 * M2 + 0x1000, 1, 9),
            None
        );
        assert_eq!(whole_piece(3 * M2..4 * M2 - 0x1000, 3 * M2, 0, 9), None);
        assert_eq!(
            whole_piece(0..usize::MAX, usize::MAX & !0xfff, u64::MAX, 9),
            None
        );
        assert_eq!(whole_piece(0..usize::MAX, 0, 0, 64), None);
    }

    #[test]
    fn only_run_vapic_switch_and_audit_pages_are_there() {
        assert_eq!(VtlPage::decode(0x10_0001), Some(VtlPage::Audit { cpu: 1 }));
        assert_eq!(VtlPage::decode(0x12_0001), Some(VtlPage::Leaves { cpu: 1 }));
        assert_eq!(VtlPage::decode(0x13_0000), Some(VtlPage::Control));
        assert_eq!(VtlPage::decode(0x14_0000), Some(VtlPage::ControlLeaves));
        // The control plane is not a CPU's.
        assert_eq!(VtlPage::decode(0x13_0001), None);
        assert_eq!(VtlPage::decode(0x14_ffff), None);
        assert_eq!(VtlPage::decode(7), Some(VtlPage::Run { cpu: 7 }));
        assert_eq!(
            VtlPage::decode((3 << 16) | 0xffff),
            Some(VtlPage::Vapic { cpu: 0xffff })
        );
        assert_eq!(VtlPage::decode(0x11_0002), Some(VtlPage::Switch { cpu: 2 }));
        for kind in [1, 2, 4, 5, 0xf, 0x15, 1 << 20, u64::MAX >> 16] {
            assert_eq!((kind, VtlPage::decode(kind << 16)), (kind, None));
        }
    }

    #[test]
    fn bit_63_chooses_the_alias_and_memory_has_an_end() {
        for (alias, bit) in [(Alias::Private, 0), (Alias::Shared, 1 << 51)] {
            assert_eq!(Alias::decode(bit, 1), Some(alias));
            assert_eq!(Alias::decode(bit | (END_PAGE - 1), 1), Some(alias));
            assert_eq!(Alias::decode(bit, END_PAGE), Some(alias));
            for (first, count) in [(END_PAGE, 1), (END_PAGE - 1, 2), (0, 0), (0, END_PAGE + 1)] {
                let alias = Alias::decode(bit | first, count);
                assert_eq!((first, count, alias), (first, count, None));
            }
            assert_eq!(frame(bit | 0x1234), 0x1234);
        }
        assert_eq!(Alias::decode(u64::MAX, 1), None);
        assert_eq!(Alias::decode(0, u64::MAX), None);
        assert_eq!(Alias::decode(1, u64::MAX), None);
    }
}
