// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Numbers that the guest can't know.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

/// A number, from a key that is another one each time and comes from the system's random numbers.
pub(super) fn number() -> u64 {
    RandomState::new().hash_one(0_u8)
}
