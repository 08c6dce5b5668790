// SPDX-License-Identifier: GPL-2.0
//! The interrupt command register of an x2APIC: which writes are fixed, edge-triggered interrupts
//! that the kernel can deliver, and whom they address. [SDM3 12.12.9]

use super::apic::Vector;

/// MSR number of the register.
pub const MSR_X2APIC_ICR: u32 = 0x830;

/// A fixed interrupt from one virtual processor to others, or to itself: a checked write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipi {
    vector: Vector,
    icr: u64,
}

/// Destination of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Shorthand: the sender itself.
    Own,
    /// Shorthand, or broadcast: all processors.
    All,
    /// Shorthand: all but the sender.
    Others,
    /// The processor with this x2APIC ID.
    Physical(u32),
    /// Processors of a cluster (number in the high half), one per bit of the low half.
    Logical(u32),
}

/// Delivery mode, delivery status, trigger mode and reserved bits, which are zero in an
/// edge-triggered fixed interrupt. The level bit (14) has no meaning for one and is not checked.
const NOT_PLAIN: u64 = (0x7 << 8) | (1 << 12) | (1 << 13) | (1 << 15) | (0x3 << 16) | (0xfff << 20);
const IS_LOGICAL: u64 = 1 << 11;
const BROADCAST: u32 = u32::MAX;
/// Shorthand: the sender.
const OWN: u64 = 1;

impl Ipi {
    /// Decodes a write. Returns `None` if it is no such interrupt, or has to fault; userspace
    /// handles it.
    #[inline]
    pub const fn decode(icr: u64) -> Option<Self> {
        if icr & NOT_PLAIN != 0 {
            return None;
        }
        // CAST: the low byte. For an illegal vector an APIC would log an error.
        match Vector::new(icr as u8) {
            Some(vector) => Some(Self { vector, icr }),
            None => None,
        }
    }

    /// The vector.
    pub const fn vector(self) -> Vector {
        self.vector
    }

    /// Returns true if the shorthand says that it is for the sender itself.
    pub const fn is_to_self(self) -> bool {
        self.shorthand() == OWN
    }

    const fn shorthand(self) -> u64 {
        (self.icr >> 18) & 0x3
    }

    /// The destination.
    #[inline]
    pub const fn target(self) -> Target {
        let destination = (self.icr >> 32) as u32; // CAST: the high half
        match self.shorthand() {
            OWN => Target::Own,
            2 => Target::All,
            3 => Target::Others,
            _ if destination == BROADCAST => Target::All,
            _ if self.icr & IS_LOGICAL != 0 => Target::Logical(destination),
            _ => Target::Physical(destination),
        }
    }
}

impl Target {
    /// Returns true if the processor with `apic_id` is addressed; `is_sender` says that it is the
    /// sender.
    pub const fn includes(self, apic_id: u32, is_sender: bool) -> bool {
        match self {
            Self::Own => is_sender,
            Self::All => true,
            Self::Others => !is_sender,
            Self::Physical(id) => apic_id == id,
            Self::Logical(wanted) => {
                // In x2APIC mode the logical ID is derived from the x2APIC ID. [SDM3 12.12.10.2]
                let cluster = (apic_id >> 4) & 0xffff;
                wanted >> 16 == cluster && (wanted >> (apic_id & 0xf)) & 1 != 0
            }
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_icr),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    fn target(icr: u64) -> Option<Target> {
        Ipi::decode(icr).map(Ipi::target)
    }

    #[test]
    fn shorthands_and_both_destination_modes() {
        assert_eq!(target(0x40 | (1 << 18)), Some(Target::Own));
        assert_eq!(target(0x40 | (2 << 18)), Some(Target::All));
        assert_eq!(target(0x40 | (3 << 18)), Some(Target::Others));
        assert_eq!(target(0x40 | (7 << 32)), Some(Target::Physical(7)));
        assert_eq!(
            target(0x40 | (1 << 11) | (0x2_0003 << 32)),
            Some(Target::Logical(0x2_0003))
        );
        for mode in [0, 1 << 11] {
            assert_eq!(
                target(0x40 | mode | (u64::from(u32::MAX) << 32)),
                Some(Target::All)
            );
        }
        // A shorthand makes the destination meaningless.
        assert_eq!(target(0x40 | (1 << 18) | (7 << 32)), Some(Target::Own));
    }

    #[test]
    fn every_vector_below_16_is_left_to_userspace() {
        for vector in 0..=255_u64 {
            assert_eq!(
                (vector, Ipi::decode(vector).is_some()),
                (vector, vector >= 16)
            );
        }
    }

    /// Checks every combination of the meaningful bits with each of the others: the interrupt is
    /// accepted only if nothing but vector, destination mode, level and shorthand is set.
    #[test]
    fn whatever_is_not_a_plain_edge_interrupt_is_left_to_userspace() {
        let reserved = core::iter::once(0).chain((20..32).map(|bit| 1_u64 << bit));
        for (known, reserved) in reserved.flat_map(|bits| (0..0x1000_u64).map(move |k| (k, bits))) {
            let icr = (known << 8) | reserved | 0x55;
            let is_plain = icr & 0xffff_ffff & !(0xff | (1 << 11) | (1 << 14) | (3 << 18)) == 0;
            assert_eq!((icr, Ipi::decode(icr).is_some()), (icr, is_plain));
        }
    }

    #[test]
    fn targets_include_whom_they_name() {
        assert!(Target::Own.includes(5, true) && !Target::Own.includes(5, false));
        assert!(Target::All.includes(5, true) && Target::All.includes(5, false));
        assert!(!Target::Others.includes(5, true) && Target::Others.includes(5, false));
        // Addressed by ID, the sender is treated like any other.
        assert!(Target::Physical(5).includes(5, true));
        assert!(!Target::Physical(5).includes(6, false));
    }

    #[test]
    fn logical_ids_are_clusters_of_sixteen() {
        for apic_id in 0..1024_u32 {
            let own = ((apic_id >> 4) << 16) | (1 << (apic_id & 0xf));
            for other in 0..64_u32 {
                let is_meant = Target::Logical(own).includes(other, false);
                assert_eq!(
                    (apic_id, other, is_meant),
                    (apic_id, other, other == apic_id)
                );
            }
        }
        assert!(Target::Logical(0x1_ffff).includes(16, false));
        assert!(Target::Logical(0x1_ffff).includes(31, false));
        assert!(!Target::Logical(0x1_ffff).includes(32, false));
        assert!(!Target::Logical(0).includes(0, false));
    }
}
