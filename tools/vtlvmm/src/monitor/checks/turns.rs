// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whose page tables a pass goes through: those of any processor, so that the guest can't know which are next, but
//! of each of them before those of one come again.

use std::collections::HashSet;

use crate::monitor::random;
use crate::monitor::roots::Tables;
use crate::monitor::view::Root;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The root that the pass goes through.
    now: Option<Root>,
    /// Those that it went through.
    done: HashSet<Root>,
    /// The most roots that were in use at once.
    most: usize,
    were_all: bool,
}

impl Turns {
    /// Returns true if the pass went through all roots that were in use, or as many: processes come and go.
    pub(super) const fn were_all(&self) -> bool {
        self.were_all
    }

    /// The root to go on with. If that of the pass is not in use any more, the pass goes on with another one: most
    /// of the kernel's half is the same there.
    pub(super) fn next(&mut self, used: &[Tables]) -> Option<Tables> {
        self.most = self.most.max(used.len());
        let now = used.iter().find(|it| Some(it.root) == self.now);
        let is_new = |it: &&Tables| !self.done.contains(&it.root);
        let next = now.copied();
        let next = next.or_else(|| any(used.iter().filter(is_new)));
        let next = next.or_else(|| any(used.iter()));
        self.now = next.map(|it| it.root);
        next
    }

    /// The pass is at its end.
    pub(super) fn end(&mut self, used: &[Tables]) {
        self.done.extend(self.now.take());
        let are_done = used.iter().all(|it| self.done.contains(&it.root));
        if are_done || self.done.len() >= self.most {
            self.were_all = true;
            self.done.clear();
        }
    }
}

fn any<'a>(all: impl Iterator<Item = &'a Tables>) -> Option<Tables> {
    let all: Vec<&Tables> = all.collect();
    // CAST: any number.
    let any = random::number() as usize % all.len().max(1);
    all.get(any).map(|it| **it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(pages: &[u64]) -> Vec<Tables> {
        let root = |page: &u64| Root {
            cr3: page << 12,
            levels: 4,
        };
        pages.iter().map(|it| Tables::of_image(root(it))).collect()
    }

    #[test]
    fn each_root_comes_once_in_any_order() {
        let all = used(&[1, 2, 3]);
        let mut firsts = HashSet::new();
        let mut turns = Turns::default();
        for _ in 0..32 {
            let mut seen = HashSet::new();
            for turn in 0..3 {
                let next = turns.next(&all).expect("one");
                assert_eq!(turns.next(&all), Some(next), "until the pass ends");
                turns.end(&all);
                if turn == 0 {
                    firsts.insert(next.root);
                }
                seen.insert(next.root);
            }
            assert!(seen.len() == 3 && turns.were_all());
        }
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn a_pass_goes_on_with_another_root_and_ends_all_the_same() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(&[]), None);
        let first = turns.next(&used(&[1, 2])).expect("one");
        assert_eq!(turns.next(&used(&[3])).map(|it| it.root.cr3), Some(3 << 12));
        turns.end(&used(&[3, 4]));
        assert!(!turns.were_all() && first.root.cr3 < 3 << 12);
        assert_eq!(
            turns.next(&used(&[3, 4])).map(|it| it.root.cr3),
            Some(4 << 12)
        );
        turns.end(&used(&[5, 6]));
        assert!(turns.were_all(), "as many as there were");
    }
}
