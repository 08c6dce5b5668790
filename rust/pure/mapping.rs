// SPDX-License-Identifier: GPL-2.0
//! Decodes the offsets of the two kinds of mmap.

use super::uapi::{MMAP_AUDIT_RING, MMAP_KIND_SHIFT, MMAP_RUN_PAGE, MMAP_VAPIC_PAGE};

/// What a VTL file descriptor maps: a page, or a ring of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VtlPage {
    /// Run page of the VP.
    Run {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Virtual APIC page of VM 1 of the VP.
    Vapic {
        /// CPU of the VP.
        cpu: u32,
    },
    /// Audit ring of the VP.
    Audit {
        /// CPU of the VP.
        cpu: u32,
    },
}

impl VtlPage {
    /// Decodes an offset in pages; `None` for kinds that there are not.
    pub const fn decode(page_offset: u64) -> Option<Self> {
        let cpu = page_offset as u32 & 0xffff; // CAST: the low 16 bits are the CPU
        match page_offset >> MMAP_KIND_SHIFT {
            MMAP_RUN_PAGE => Some(Self::Run { cpu }),
            MMAP_VAPIC_PAGE => Some(Self::Vapic { cpu }),
            MMAP_AUDIT_RING => Some(Self::Audit { cpu }),
            _ => None,
        }
    }
}

const PAGE_SHIFT: u32 = 12;
/// Lowest SHARED bit there is, that of a 48-bit guest-physical address space: memory ends below.
const END_PAGE: u64 = 1 << (47 - PAGE_SHIFT);

/// Whether `count` pages from `first` are private addresses. The alias shared with the host, asked
/// for by bit 63 of the byte offset, is beyond the end.
pub const fn is_private_range(first: u64, count: u64) -> bool {
    match first.checked_add(count) {
        Some(end) => count > 0 && end <= END_PAGE,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_run_vapic_and_audit_pages_are_there() {
        assert_eq!(VtlPage::decode(0x10_0001), Some(VtlPage::Audit { cpu: 1 }));
        assert_eq!(VtlPage::decode(7), Some(VtlPage::Run { cpu: 7 }));
        assert_eq!(
            VtlPage::decode((3 << 16) | 0xffff),
            Some(VtlPage::Vapic { cpu: 0xffff })
        );
        for kind in [1, 2, 4, 5, 0xf, 0x11, 1 << 20, u64::MAX >> 16] {
            assert_eq!(VtlPage::decode(kind << 16), None, "kind {kind}");
        }
    }

    #[test]
    fn shared_and_overlong_ranges_are_not_private() {
        assert!(is_private_range(0, 1));
        assert!(is_private_range(END_PAGE - 1, 1));
        assert!(!is_private_range(END_PAGE, 1));
        assert!(!is_private_range(END_PAGE - 1, 2));
        assert!(!is_private_range(1 << 51, 1), "bit 63 of the byte offset");
        assert!(!is_private_range(u64::MAX, 1));
        assert!(!is_private_range(0, 0));
    }
}
