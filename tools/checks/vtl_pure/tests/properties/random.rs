// SPDX-License-Identifier: GPL-2.0-only
//! What all property tests draw from.

use proptest::prelude::*;

/// Cases of a property. Miri is a few hundred times slower.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 4000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Values at which something changes, their neighbours, and any others.
pub(crate) fn value() -> impl Strategy<Value = u64> {
    let edge = (0..64_u32, -1..2_i64).prop_map(|(bit, by)| (1_u64 << bit).wrapping_add_signed(by));
    prop_oneof![
        2 => Just(0),
        2 => edge.clone(),
        1 => edge.prop_map(|value| !value),
        2 => any::<u64>(),
    ]
}
