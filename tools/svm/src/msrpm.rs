// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The MSR permission map, by MSR number. [APM2 15.11]
//!
//! Three ranges of 2000h registers each have two bits per register, read then write. Registers
//! outside the ranges are always intercepted.

/// Direction of an MSR access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// RDMSR.
    Read,
    /// WRMSR.
    Write,
}

/// MSR permission map, two pages.
#[repr(C, align(4096))]
#[derive(Clone)]
pub struct Msrpm([u8; 2 * 4096]);

const RANGE: u32 = 0x2000;

impl Msrpm {
    /// A map that intercepts everything.
    pub const ALL: Self = Self([0xff; 2 * 4096]);

    /// Byte and bit of an MSR, if it is in one of the ranges.
    const fn position(msr: u32, access: Access) -> Option<(usize, u8)> {
        let base = match msr {
            0..RANGE => 0,
            0xc000_0000..0xc000_2000 => 0x800,
            0xc001_0000..0xc001_2000 => 0x1000,
            _ => return None,
        };
        let bit = 2 * (msr % RANGE) + access as u32;
        Some((base + bit as usize / 8, (bit % 8) as u8))
    }

    /// Returns true if the access leaves the guest.
    pub fn is_intercepted(&self, msr: u32, access: Access) -> bool {
        match Self::position(msr, access) {
            Some((byte, bit)) => self.0[byte] & (1 << bit) != 0,
            None => true,
        }
    }

    /// Intercepts an access, or passes it through. Returns false if the map does not cover the MSR.
    pub fn set(&mut self, msr: u32, access: Access, intercept: Intercept) -> bool {
        let Some((byte, bit)) = Self::position(msr, access) else {
            return intercept == Intercept::Yes;
        };
        match intercept {
            Intercept::Yes => self.0[byte] |= 1 << bit,
            Intercept::No => self.0[byte] &= !(1 << bit),
        }
        true
    }
}

/// What happens to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intercept {
    /// It leaves the guest.
    Yes,
    /// It runs natively.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efer_read_is_the_first_bit_of_its_pair() {
        let mut map = Msrpm::ALL;
        assert!(map.set(0xc000_0080, Access::Read, Intercept::No));
        // C0000080h is register 80h of the second range: 2 * 80h bits = byte 20h after 800h.
        assert_eq!(map.0[0x820], 0xfe);
        assert!(map.is_intercepted(0xc000_0080, Access::Write));
        assert!(!map.is_intercepted(0xc000_0080, Access::Read));
    }

    #[test]
    fn registers_outside_the_ranges_cannot_pass() {
        let mut map = Msrpm::ALL;
        assert!(!map.set(0x4000_0000, Access::Read, Intercept::No));
        assert!(map.is_intercepted(0x4000_0000, Access::Read));
        assert!(map.set(0xc001_1fff, Access::Write, Intercept::No));
        assert_eq!(map.0[0x17ff], 0x7f);
    }
}
