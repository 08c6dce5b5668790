// SPDX-License-Identifier: GPL-2.0
//! Virtual MTRRs of the lower VTLs: stored for userspace, without effect. Lower VTLs do not choose
//! the memory type of their memory: the TDX module maps all of it write-back.

/// One of the MTRRs: an index into [`Mtrrs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mtrr(usize);

const VARIABLE: usize = 16;
const FIXED: usize = 11;

const CAP: usize = 0;
const DEF_TYPE: usize = 1;
const BASE: usize = 2;
const MASK: usize = BASE + VARIABLE;
const FIX: usize = MASK + VARIABLE;
const COUNT: usize = FIX + FIXED;

/// Name of IA32_MTRRCAP in the hypervisor's interface.
pub const NAME_CAP: u32 = 0x0008_000d;
/// Name of IA32_MTRR_DEF_TYPE.
pub const NAME_DEF_TYPE: u32 = 0x0008_000e;
/// Name of the first of sixteen IA32_MTRR_PHYSBASE.
pub const NAME_BASE: u32 = 0x0008_0010;
/// Name of the first of sixteen IA32_MTRR_PHYSMASK.
pub const NAME_MASK: u32 = 0x0008_0040;
/// Name of the first of the eleven for fixed ranges: one of 64 KiB, two of 16 KiB, eight of 4 KiB.
pub const NAME_FIX: u32 = 0x0008_0070;

/// Value of IA32_MTRRCAP: sixteen variable ranges, fixed ranges, write-combining. [SDM3 12.11.1]
const CAPABILITIES: u64 = VARIABLE as u64 | (1 << 8) | (1 << 10);

impl Mtrr {
    /// Decodes a register's name.
    pub const fn new(name: u32) -> Option<Self> {
        // CAST: each difference is below 16.
        Some(Self(match name {
            NAME_CAP => CAP,
            NAME_DEF_TYPE => DEF_TYPE,
            NAME_BASE..=0x0008_001f => BASE + (name - NAME_BASE) as usize,
            NAME_MASK..=0x0008_004f => MASK + (name - NAME_MASK) as usize,
            NAME_FIX..=0x0008_007a => FIX + (name - NAME_FIX) as usize,
            _ => return None,
        }))
    }

    /// Returns true if WRMSR on a processor would accept the value. [SDM3 12.11.2]
    pub const fn takes(self, value: u64) -> bool {
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        match self.0 {
            CAP => value == CAPABILITIES,
            DEF_TYPE => is_type(value) && value & !0xcff == 0,
            BASE..MASK => is_type(value) && value & !(ADDRESS | 0xff) == 0,
            MASK..FIX => value & !(ADDRESS | (1 << 11)) == 0,
            _ => {
                let mut rest = value;
                while rest != 0 {
                    if !is_type(rest) {
                        return false;
                    }
                    rest >>= 8;
                }
                true
            }
        }
    }
}

/// Returns true if the low byte is a memory type: UC, WC, WT, WP or WB.
const fn is_type(value: u64) -> bool {
    matches!(value & 0xff, 0 | 1 | 4 | 5 | 6)
}

/// Values of all MTRRs.
pub struct Mtrrs([u64; COUNT]);

impl Mtrrs {
    /// Values after a reset: all ranges are disabled.
    pub const START: Self = {
        let mut values = [0; COUNT];
        values[CAP] = CAPABILITIES;
        Self(values)
    };

    /// Value of an MTRR.
    pub fn get(&self, mtrr: Mtrr) -> u64 {
        self.0.get(mtrr.0).copied().unwrap_or(0)
    }

    /// Sets an MTRR to a value that it [accepts](Mtrr::takes).
    pub fn set(&mut self, mtrr: Mtrr, value: u64) {
        if let Some(slot) = self.0.get_mut(mtrr.0) {
            *slot = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: u32) -> Mtrr {
        Mtrr::new(name).unwrap()
    }

    #[test]
    fn every_name_has_its_own_place() {
        let known = (0..0x10_0000).filter_map(Mtrr::new);
        let places: std::collections::BTreeSet<_> = known.clone().map(|mtrr| mtrr.0).collect();
        assert_eq!(known.count(), COUNT);
        assert!(places.into_iter().eq(0..COUNT));
        for name in [
            0, 0x8000c, 0x8000f, 0x80020, 0x8003f, 0x80050, 0x8006f, 0x8007b,
        ] {
            assert_eq!(Mtrr::new(name), None, "{name:#x}");
        }
    }

    #[test]
    fn the_capabilities_can_only_be_written_as_they_are() {
        assert!(named(0x8000d).takes(0x510));
        assert!(!named(0x8000d).takes(0x508));
        assert_eq!(Mtrrs::START.get(named(0x8000d)), 0x510);
    }

    #[test]
    fn reserved_bits_and_types_are_seen() {
        for bit in 0..64 {
            let value = 1_u64 << bit;
            let is_address = (12..52).contains(&bit);
            let default = matches!(bit, 0 | 2 | 10 | 11);
            assert_eq!(named(0x8000e).takes(value), default, "bit {bit}");
            let base = is_address || matches!(bit, 0 | 2);
            assert_eq!(named(0x8001f).takes(value), base, "bit {bit}");
            let mask = is_address || bit == 11;
            assert_eq!(named(0x8004f).takes(value), mask, "bit {bit}");
            let fixed = matches!(bit % 8, 0 | 2);
            assert_eq!(named(0x8007a).takes(value), fixed, "bit {bit}");
        }
        for (kind, is_good) in [(0, true), (1, true), (2, false), (3, false), (4, true)] {
            assert_eq!(named(0x80010).takes(kind), is_good);
        }
        assert!(named(0x80070).takes(0x0606_0606_0606_0606));
        assert!(!named(0x80070).takes(0x0706_0606_0606_0606));
    }

    #[test]
    fn what_is_set_is_there_and_nothing_else() {
        let mut mtrrs = Mtrrs::START;
        mtrrs.set(named(0x80041), 0xf_ffff_f800);
        assert_eq!(mtrrs.get(named(0x80041)), 0xf_ffff_f800);
        assert_eq!(mtrrs.get(named(0x80040)), 0);
        assert_eq!(mtrrs.get(named(0x80042)), 0);
    }
}
