// SPDX-License-Identifier: GPL-2.0
//! RCX of TDG.VP.ENTER: which VM to run and what to invalidate before. [ABI TDG.VP.ENTER]

use super::field::VmIndex;

const INVD_TRANSLATIONS: u64 = 0x3;
const VM_SHIFT: u32 = 52;
const VM_MASK: u64 = 0x3 << VM_SHIFT;

/// A checked `entry_rcx`. VM index and reserved bits are known to be good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct EntryRcx(u64);

impl EntryRcx {
    /// Checks what userspace wrote; `None` if the TDX module could only refuse it.
    pub const fn new(raw: u64, num_l2_vms: u8) -> Option<Self> {
        if raw & !(INVD_TRANSLATIONS | VM_MASK) != 0 {
            return None;
        }
        match VmIndex::new((raw & VM_MASK) >> VM_SHIFT) {
            Some(vm) if vm.get() <= num_l2_vms => Some(Self(raw)),
            _ => None,
        }
    }

    /// The word as the TDX module wants it.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The number of the VM to run.
    pub const fn vm_number(self) -> u8 {
        ((self.0 & VM_MASK) >> VM_SHIFT) as u8 // CAST: two bits
    }

    /// The VM to run.
    pub const fn vm(self) -> VmIndex {
        match VmIndex::new(self.vm_number() as u64) {
            Some(vm) => vm,
            None => VmIndex::VM1, // `new` lets no other VM through
        }
    }

    /// Whether the entry invalidates translations.
    pub const fn invalidates(self) -> bool {
        self.0 & INVD_TRANSLATIONS != 0
    }

    /// The same word after the invalidation was done.
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

    #[test]
    fn invalidation_is_taken_off() {
        let entry = EntryRcx::new((1 << 52) | 2, 1).unwrap();
        assert!(entry.invalidates());
        assert_eq!(entry.vm(), VmIndex::VM1);
        assert_eq!(entry.without_invalidation().raw(), 1 << 52);
        assert!(!entry.without_invalidation().invalidates());
    }
}
