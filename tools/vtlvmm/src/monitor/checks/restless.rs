// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is wrong again and again, each time elsewhere or not when it is looked at again, is wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::monitor::finding::{Key, Kind};

/// In which of the last rounds there was something wrong of each kind: the last one in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct Restless(BTreeMap<Kind, u32>);

/// A change of Linux' own is half made when it is looked at in fewer rounds than this,
const MANY: u32 = 6;
/// of so many.
const ROUNDS: u32 = 20;

impl Restless {
    /// A round has found this, which was not reported yet. Returns which kinds were found too often.
    pub(super) fn round<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) -> BTreeSet<Kind> {
        let now: BTreeSet<Kind> = keys.map(|key| key.kind).collect();
        for kind in &now {
            self.0.entry(*kind).or_default();
        }
        let mut often = BTreeSet::new();
        self.0.retain(|kind, rounds| {
            *rounds = ((*rounds << 1) | u32::from(now.contains(kind))) & ((1 << ROUNDS) - 1);
            if rounds.count_ones() >= MANY {
                often.insert(*kind);
            }
            *rounds != 0
        });
        often
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, place: u64) -> Key {
        Key {
            kind,
            place,
            processor: None,
            name: "",
        }
    }

    #[test]
    fn a_kind_is_found_too_often_wherever_it_is() {
        let mut restless = Restless::default();
        for turn in 0..u64::from(2 * MANY) {
            let all = [key(Kind::Text, turn)];
            let often = restless.round(all.iter().take(usize::from(turn % 2 == 0)));
            let expected = (turn + 2 >= u64::from(2 * MANY)).then_some(Kind::Text);
            assert_eq!(often, BTreeSet::from_iter(expected), "{turn}");
        }
    }

    #[test]
    fn what_is_seldom_is_not_and_what_was_long_ago_is_forgotten() {
        let mut restless = Restless::default();
        for turn in 0..10 * ROUNDS {
            let all = [key(Kind::Text, 0)];
            let often = restless.round(all.iter().take(usize::from(turn % 5 == 0)));
            assert!(often.is_empty());
        }
        for _ in 0..ROUNDS {
            restless.round([].iter());
        }
        assert!(restless.0.is_empty());
    }
}
