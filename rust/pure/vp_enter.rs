// SPDX-License-Identifier: GPL-2.0
//! RCX of TDG.VP.ENTER: which VM to run and what to invalidate before. [ABI TDG.VP.ENTER]

use super::field::VmIndex;

/// INVD_TRANSLATIONS: what to invalidate first.
pub const INVD_TRANSLATIONS: u64 = 0x3;
/// The strongest request: all translations.
pub const INVALIDATE_ALL: u64 = 1;
/// Position of the number of the VM.
pub const VM_SHIFT: u32 = 52;
/// Mask of the number of the VM.
pub const VM_MASK: u64 = 0x3 << VM_SHIFT;

/// The request that includes both: 1 invalidates all that 2 does, and 2 all that 3 does. They are
/// numbers and not bits: 3 is not 1 and 2.
const fn stronger(one: u64, other: u64) -> u64 {
    if one == 0 || (other != 0 && other < one) {
        other
    } else {
        one
    }
}

/// A checked `entry_rcx`: VM index and reserved bits are valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct EntryRcx(u64);

impl EntryRcx {
    /// Returns what any word asks to be invalidated, and nothing else of it.
    pub const fn invalidation_of(word: u64) -> u64 {
        word & INVD_TRANSLATIONS
    }

    /// Checks what userspace wrote; `None` if the TDX module would refuse it.
    pub const fn new(raw: u64, num_l2_vms: u8) -> Option<Self> {
        if raw & !(INVD_TRANSLATIONS | VM_MASK) != 0 {
            return None;
        }
        match VmIndex::new((raw & VM_MASK) >> VM_SHIFT) {
            Some(vm) if vm.get() <= num_l2_vms => Some(Self(raw)),
            _ => None,
        }
    }

    /// The value for another VM, with nothing to invalidate. The caller knows that the TD has that
    /// VM.
    pub const fn of(vm: VmIndex) -> Self {
        Self((vm.get() as u64) << VM_SHIFT)
    }

    /// The value for RCX.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The number of the VM to run.
    pub const fn vm_number(self) -> u8 {
        ((self.0 & VM_MASK) >> VM_SHIFT) as u8 // CAST: two bits
    }

    /// The VM to run.
    pub const fn vm(self) -> VmIndex {
        VmIndex::of_entry(self.vm_number()) // `new` lets no 0 through
    }

    /// The same value, with the request in the low bits of `other` as well.
    pub const fn with_invalidation_of(self, other: u64) -> Self {
        let both = stronger(self.0 & INVD_TRANSLATIONS, other & INVD_TRANSLATIONS);
        Self(self.0 & !INVD_TRANSLATIONS | both)
    }

    /// Returns true if any value names the same VM.
    pub const fn is_for_same_vm(self, word: u64) -> bool {
        (word ^ self.0) & VM_MASK == 0
    }

    /// Adds this value's request to any value.
    pub const fn invalidation_into(self, word: u64) -> u64 {
        let both = stronger(word & INVD_TRANSLATIONS, self.0 & INVD_TRANSLATIONS);
        word & !INVD_TRANSLATIONS | both
    }

    /// Returns true if the entry invalidates translations.
    pub const fn invalidates(self) -> bool {
        self.0 & INVD_TRANSLATIONS != 0
    }

    /// The same value after the invalidation was done.
    pub const fn without_invalidation(self) -> Self {
        Self(self.0 & !INVD_TRANSLATIONS)
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_vp_enter),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn vm_index_is_bounded_by_the_td() {
        let vm = |index: u64, count| EntryRcx::new(index << 52, count).is_some();
        assert!(!vm(0, 3));
        assert!(vm(1, 1));
        assert!(!vm(2, 1));
        assert!(vm(3, 3));
        assert!(!vm(1, 0));
    }

    #[test]
    fn every_reserved_bit_is_refused() {
        for bit in (2..52).chain(54..64) {
            assert_eq!((bit, EntryRcx::new((1 << 52) | (1 << bit), 3)), (bit, None));
        }
    }

    /// Checks every pair: nothing that either requests is left out, and nothing else changes.
    #[test]
    fn of_two_requests_both_are_done() {
        const STRONGEST_FIRST: [u64; 4] = [1, 2, 3, 0];
        let rank = |kind| STRONGEST_FIRST.iter().position(|other| *other == kind);
        for one in 0..4 {
            for other in 0..4 {
                let expected = if rank(one) <= rank(other) { one } else { other };
                let entry = EntryRcx::new((1 << 52) | one, 1).unwrap();
                let both = entry.with_invalidation_of(!3 | other);
                assert_eq!(both.raw(), (1 << 52) | expected);
                let word = 0xabcd_ef01_2345_6788 | other;
                let both = entry.invalidation_into(word);
                assert_eq!(both, 0xabcd_ef01_2345_6788 | expected);
            }
        }
    }

    #[test]
    fn a_word_of_another_vm_is_told_apart() {
        let entry = EntryRcx::new((2 << 52) | 1, 3).unwrap();
        assert!(entry.is_for_same_vm(2 << 52));
        assert!(entry.is_for_same_vm(!(1 << 52)));
        for other in [0, 1, 3] {
            assert!(!entry.is_for_same_vm((other << 52) | 1));
        }
    }

    #[test]
    fn of_any_word_only_the_request_is_left() {
        for kind in 0..4 {
            assert_eq!(EntryRcx::invalidation_of(!3 | kind), kind);
        }
    }

    #[test]
    fn invalidation_is_taken_off() {
        let entry = EntryRcx::new((1 << 52) | 2, 1).unwrap();
        assert!(entry.invalidates());
        assert_eq!(entry.vm(), VmIndex::VM1);
        assert_eq!(entry.without_invalidation().raw(), 1 << 52);
        assert!(!entry.without_invalidation().invalidates());
    }
}
