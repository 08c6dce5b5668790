// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Guest-physical addresses, mapping levels, VM numbers and page rights.
//!
//! Used by every leaf that takes an address; `page_state.rs` has the table of pages.

/// The SHARED bit of a TD whose guest-physical address width is 48.
pub const SHARED_BIT: u64 = 1 << 47;

/// Guest-physical address width of the modelled TD.
pub const GPA_WIDTH: u64 = 48;

/// A guest-physical address of the TD, SHARED bit included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpa(pub u64);

impl Gpa {
    /// A valid private address: inside the width and with the SHARED bit clear.
    #[must_use]
    pub const fn private(raw: u64) -> Option<Self> {
        if raw < SHARED_BIT {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// A valid private address that is a multiple of `align` (a power of two).
    #[must_use]
    pub const fn private_aligned(raw: u64, align: u64) -> Option<Self> {
        if raw & (align - 1) == 0 {
            Self::private(raw)
        } else {
            None
        }
    }

    /// Returns true if bits above the SHARED position are set, which no mapping can translate.
    #[must_use]
    pub const fn is_beyond_width(self) -> bool {
        self.0 >> GPA_WIDTH != 0
    }

    /// Returns true if the SHARED bit is set.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        self.0 & SHARED_BIT != 0
    }

    /// The address without its SHARED bit: L1's view of the same page of RAM.
    #[must_use]
    pub const fn without_shared(self) -> Self {
        Self(self.0 & !SHARED_BIT)
    }

    /// The address rounded down to the start of its page of this level.
    #[must_use]
    pub const fn align_down(self, level: Level) -> Self {
        Self(self.0 & !(level.len_bytes() - 1))
    }

    /// The number of the 4 KiB page that contains this address.
    #[must_use]
    pub const fn pfn(self) -> u64 {
        self.0 >> 12
    }
}

/// The level of a secure EPT entry, numbered as in the GPA mapping word [ABI GPA mapping].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 4 KiB, level 0.
    Size4K,
    /// 2 MiB, level 1.
    Size2M,
    /// 1 GiB, level 2: a leaf may request it, but the modelled host never maps it.
    Size1G,
}

impl Level {
    /// The level with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Size4K),
            1 => Some(Self::Size2M),
            2 => Some(Self::Size1G),
            _ => None,
        }
    }

    /// The number of this level.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Size4K => 0,
            Self::Size2M => 1,
            Self::Size1G => 2,
        }
    }

    /// Bytes that one entry of this level maps.
    #[must_use]
    pub const fn len_bytes(self) -> u64 {
        match self {
            Self::Size4K => 1 << 12,
            Self::Size2M => 1 << 21,
            Self::Size1G => 1 << 30,
        }
    }

    /// 4 KiB pages that one entry of this level maps.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.len_bytes() >> 12
    }
}

/// Number of an L2 VM of the TD. VM 0, which is L1, is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum VmIndex {
    /// VM 1, which runs VTL0.
    Vm1 = 1,
    /// VM 2, which runs VTL1.
    Vm2 = 2,
    /// VM 3.
    Vm3 = 3,
}

impl VmIndex {
    /// All L2 VMs a TD can have.
    pub const ALL: [Self; 3] = [Self::Vm1, Self::Vm2, Self::Vm3];

    /// The VM with this number, if it is an L2.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Vm1),
            2 => Some(Self::Vm2),
            3 => Some(Self::Vm3),
            _ => None,
        }
    }

    /// The number, 1 to 3.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// What an L2 VM may do with a page: the low seven bits of GPA_ATTR [ABI GPA_ATTR].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Read.
    pub const R: Self = Self(1 << 0);
    /// Write.
    pub const W: Self = Self(1 << 1);
    /// Execute in supervisor mode, or in any mode without mode-based execution control.
    pub const XS: Self = Self(1 << 2);
    /// Execute in user mode.
    pub const XU: Self = Self(1 << 3);
    /// Verify guest paging.
    pub const VGP: Self = Self(1 << 4);
    /// Paging-write access.
    pub const PWA: Self = Self(1 << 5);
    /// Supervisor shadow stack.
    pub const SSS: Self = Self(1 << 6);
    /// Everything an ordinary page needs.
    pub const RWX: Self = Self(0xf);

    /// The rights in the low seven bits of an attribute word.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }

    /// The rights as attribute bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns true if all of `other` is granted.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns true if an alias with these rights is present: any of R, W, Xs, Xu.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & 0xf != 0
    }

    /// Returns true if a present alias may have these rights: W and PWA each need R.
    #[must_use]
    pub const fn is_legal(self) -> bool {
        self.contains(Self::R) || self.0 & (Self::W.0 | Self::PWA.0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_end_at_the_shared_bit() {
        assert!(Gpa::private(SHARED_BIT - 1).is_some());
        assert!(Gpa::private(SHARED_BIT).is_none());
        assert!(Gpa::private(1 << 48).is_none());
        assert!(Gpa::private_aligned(0x1080, 0x100).is_none());
        assert!(Gpa(1 << 48).is_beyond_width());
        assert!(!Gpa(SHARED_BIT).is_beyond_width());
    }

    #[test]
    fn execute_only_is_legal_and_write_only_is_not() {
        assert!(Rights::XS.is_legal());
        assert!(!Rights::W.is_legal());
        assert!(!Rights::from_bits(0x24).is_legal());
        assert!(!Rights::SSS.is_present());
    }
}
