// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Sets of interrupt vectors, as the run page and an APIC hold them.

use core::fmt;

/// A set of interrupt vectors, 0 to 255.
///
/// ```
/// use vtl::Vectors;
///
/// let vectors: Vectors = [0x20, 0xf1].into_iter().collect();
/// assert!(vectors.contains(0xf1) && !vectors.contains(0xf0));
/// assert_eq!(vectors.highest(), Some(0xf1));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Vectors([u32; Self::WORDS]);

impl Vectors {
    /// 32-bit words of a set.
    pub(crate) const WORDS: usize = 8;
    /// No vector.
    pub const NONE: Self = Self([0; Self::WORDS]);
    /// Every vector.
    pub const ALL: Self = Self([u32::MAX; Self::WORDS]);

    /// Makes a set from a bitmap: bit n of word m is vector 32 m + n.
    pub const fn from_words(words: [u32; 8]) -> Self {
        Self(words)
    }

    /// The words of [`Self::from_words`].
    pub const fn words(self) -> [u32; 8] {
        self.0
    }

    /// Returns true if `vector` is in the set.
    pub const fn contains(self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        self.0[word] & bit != 0
    }

    /// Adds `vector`.
    pub const fn insert(&mut self, vector: u8) {
        let (word, bit) = Self::place(vector);
        self.0[word] |= bit;
    }

    /// Removes `vector`.
    pub const fn remove(&mut self, vector: u8) {
        let (word, bit) = Self::place(vector);
        self.0[word] &= !bit;
    }

    /// Returns true if the set is empty.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The highest vector, which an APIC delivers first.
    pub fn highest(self) -> Option<u8> {
        (0..=u8::MAX).rev().find(|vector| self.contains(*vector))
    }

    /// The vectors, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |vector| self.contains(*vector))
    }

    /// Index of the word with the vector's bit, and the bit in it.
    pub(crate) const fn place(vector: u8) -> (usize, u32) {
        // CAST: widening.
        (vector as usize / 32, 1 << (vector % 32))
    }
}

impl FromIterator<u8> for Vectors {
    fn from_iter<T: IntoIterator<Item = u8>>(vectors: T) -> Self {
        let mut set = Self::NONE;
        vectors.into_iter().for_each(|vector| set.insert(vector));
        set
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_is_a_set(vectors in proptest::collection::btree_set(any::<u8>(), 0..40), out: u8) {
            let mut set: Vectors = vectors.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), vectors.clone());
            prop_assert_eq!(set.highest(), vectors.last().copied());
            prop_assert_eq!(set.is_empty(), vectors.is_empty());
            prop_assert_eq!(Vectors::from_words(set.words()), set);
            set.remove(out);
            prop_assert!(!set.contains(out));
        }
    }

    #[test]
    fn words_are_those_of_the_run_page() {
        let words = Vectors::from_iter([0x21, 0xff]).words();
        assert_eq!((words[1], words[7]), (2, 1 << 31));
    }
}
