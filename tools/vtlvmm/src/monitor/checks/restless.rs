// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is wrong again and again, each time elsewhere or not when it is looked at again, is wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::monitor::finding::{Key, Kind};

/// In which of the last rounds there was something wrong of each kind: the last one in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct Restless {
    kinds: BTreeMap<Kind, u32>,
    /// The same of all kinds together.
    all: u32,
}

/// A change of Linux' own is half made when it is looked at in fewer rounds than this,
const MANY: u32 = 6;
/// and in fewer than this if there are several,
const MANY_OF_ALL: u32 = 10;
/// of so many.
const ROUNDS: u32 = 20;

impl Restless {
    /// A round has found this, which was not reported yet. Returns which kinds were found too often.
    pub(super) fn round<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) -> BTreeSet<Kind> {
        let now: BTreeSet<Kind> = keys.map(|key| key.kind).collect();
        let next = |rounds: u32, is_wrong: bool| {
            ((rounds << 1) | u32::from(is_wrong)) & ((1 << ROUNDS) - 1)
        };
        self.all = next(self.all, !now.is_empty());
        for kind in &now {
            self.kinds.entry(*kind).or_default();
        }
        let mut often = BTreeSet::new();
        self.kinds.retain(|kind, rounds| {
            *rounds = next(*rounds, now.contains(kind));
            if rounds.count_ones() >= MANY {
                often.insert(*kind);
            }
            *rounds != 0
        });
        if self.all.count_ones() >= MANY_OF_ALL {
            return now;
        }
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
            gpa: None,
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
    fn kinds_that_take_turns_are_found_too_often_together() {
        let kinds = [
            Kind::Register,
            Kind::Gate,
            Kind::Text,
            Kind::Constants,
            Kind::TextMoved,
        ];
        let mut restless = Restless::default();
        for (turn, kind) in (1..).zip(kinds.iter().cycle().take(20)) {
            let often = restless.round([key(*kind, 0)].iter());
            assert_eq!(often.contains(kind), turn >= MANY_OF_ALL, "{turn}");
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
        assert!(restless.kinds.is_empty() && restless.all == 0);
    }
}
