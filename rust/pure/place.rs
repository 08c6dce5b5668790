// SPDX-License-Identifier: GPL-2.0
//! Where the thread of a VP is, in one word: outside the lower VTL, inside it, or inside it with a
//! kick on its way.
//!
//! Bit 0: inside. Bit 1: a kick has been sent. The other bits count the stays, so that a thread
//! that waits for one stay to end does not wait for the next one, too.

/// Value of the word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(pub u64);

const INSIDE: u64 = 1;
const KICKED: u64 = 2;
const ONE_STAY: u64 = 4;

impl Place {
    /// Initial value.
    pub const OUTSIDE: Self = Self(0);

    /// The value after entering the lower VTL for a new stay.
    pub const fn entered(self) -> Self {
        Self((self.0 & !(INSIDE | KICKED)).wrapping_add(ONE_STAY) | INSIDE)
    }

    /// The value after leaving the lower VTL.
    pub const fn left(self) -> Self {
        Self(self.0 & !(INSIDE | KICKED))
    }

    /// Returns the new value if an IPI must be sent to end the stay; `None` if the thread is
    /// outside or has already been kicked.
    pub const fn kicked(self) -> Option<Self> {
        if self.0 & (INSIDE | KICKED) == INSIDE {
            Some(Self(self.0 | KICKED))
        } else {
            None
        }
    }

    /// Returns true if the stay that `earlier` observed has not ended.
    pub const fn is_still(self, earlier: Self) -> bool {
        earlier.0 & INSIDE != 0 && self.0 & !KICKED == earlier.0 & !KICKED
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_place),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_kick_of_a_stay_sends_an_interrupt() {
        assert_eq!(Place::OUTSIDE.kicked(), None);
        let inside = Place::OUTSIDE.entered();
        let kicked = inside.kicked().unwrap();
        assert_eq!(kicked.kicked(), None);
        assert_eq!(kicked.left().kicked(), None);
        assert!(kicked.left().entered().kicked().is_some());
    }

    #[test]
    fn a_stay_ends_when_left_and_is_another_one_when_entered_again() {
        let inside = Place::OUTSIDE.entered();
        assert!(inside.is_still(inside));
        assert!(inside.kicked().unwrap().is_still(inside));
        assert!(inside.is_still(inside.kicked().unwrap()));
        assert!(!inside.left().is_still(inside));
        assert!(!inside.left().entered().is_still(inside));
        assert!(!Place::OUTSIDE.is_still(Place::OUTSIDE));
    }

    #[test]
    fn the_count_wraps() {
        let last = Place(!(INSIDE | KICKED));
        assert_eq!(last.entered(), Place(INSIDE));
    }
}
