// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel's constants, which it makes read-only before it starts userspace: hashed then, and compared
//! later. The hash has a random key, so that nobody can look for other contents with the same one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use super::finding::{Finding, Key, Kind};
use super::order::Order;
use super::text::{PAGE, Place};
use super::view::Physical;

/// The hashes of all pages.
#[derive(Debug)]
pub struct Constants {
    state: RandomState,
    place: Place,
    hashes: Vec<Option<u64>>,
    order: Order,
}

impl Constants {
    /// Hashes what is in memory now. `range` is relative to the text.
    pub fn baseline<P: Physical>(memory: &P, text: Place, range: (u64, u64)) -> Self {
        const MOST: u64 = 256 << 20;
        let len = range.1.saturating_sub(range.0).min(MOST);
        let mut constants = Self {
            state: RandomState::new(),
            place: Place {
                linear: text.linear.wrapping_add(range.0),
                gpa: text.gpa.wrapping_add(range.0),
            },
            hashes: Vec::new(),
            order: Order::new(0),
        };
        // CAST: at most `MOST`.
        let pages = len as usize / PAGE;
        constants.hashes = (0..pages)
            .map(|page| constants.hash(memory, page))
            .collect();
        constants.order = Order::new(pages);
        constants
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.hashes.len()
    }

    /// Compares the next pages.
    pub fn check<P: Physical>(&mut self, memory: &P, pages: usize) -> Vec<Finding> {
        let pages = self.order.take(pages);
        let found = pages.into_iter().map(|page| self.page(memory, page));
        found.flatten().collect()
    }

    /// Compares the page of a finding again.
    pub fn check_again<P: Physical>(&self, memory: &P, key: &Key) -> Option<Finding> {
        self.page(memory, usize::try_from(key.place).ok()?)
    }

    fn hash<P: Physical>(&self, memory: &P, page: usize) -> Option<u64> {
        let mut bytes = [0; PAGE];
        // CAST: widening.
        let gpa = self.place.gpa.wrapping_add((page * PAGE) as u64);
        memory
            .read(gpa, &mut bytes)
            .then(|| self.state.hash_one(bytes))
    }

    fn page<P: Physical>(&self, memory: &P, page: usize) -> Option<Finding> {
        let expected = *self.hashes.get(page)?;
        if self.hash(memory, page) == expected {
            return None;
        }
        // CAST: widening.
        let linear = self.place.linear.wrapping_add((page * PAGE) as u64);
        Some(Finding {
            key: Key {
                kind: Kind::Constants,
                // CAST: widening.
                place: page as u64,
                processor: None,
                name: "",
                gpa: None,
            },
            place: format!("page {linear:#x}"),
            expected: "the contents of the baseline".to_owned(),
            found: "others".to_owned(),
        })
    }
}
