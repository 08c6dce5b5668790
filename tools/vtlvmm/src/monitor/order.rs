// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! In which order pages are compared: another one each time, so that the guest can't know which are next.

use std::iter;

use super::random;

/// An endless sequence in which, from pass to pass, each page comes once.
#[derive(Debug)]
pub(super) struct Order {
    total: usize,
    left: usize,
    next: usize,
    stride: usize,
}

impl Order {
    /// Of as many pages.
    pub(super) const fn new(total: usize) -> Self {
        Self {
            total,
            left: 0,
            next: 0,
            stride: 1,
        }
    }

    /// The next pages, at most each once.
    pub(super) fn take(&mut self, count: usize) -> Vec<usize> {
        let count = count.min(self.total);
        iter::repeat_with(|| self.one()).take(count).collect()
    }

    fn one(&mut self) -> usize {
        if self.left == 0 {
            self.begin();
        }
        let now = self.next;
        self.left -= 1;
        self.next = (now + self.stride) % self.total;
        now
    }

    /// A stride that has no divisor in common with the total visits each page.
    fn begin(&mut self) {
        // CAST: any bits.
        let page = || random::number() as usize % self.total;
        self.next = page();
        let mut stride = page().max(1);
        while greatest_divisor(stride, self.total) != 1 {
            stride = (stride % self.total) + 1;
        }
        self.stride = stride;
        self.left = self.total;
    }
}

const fn greatest_divisor(a: usize, b: usize) -> usize {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_page_comes_once_in_a_pass() {
        for total in 1..60 {
            let mut order = Order::new(total);
            for _ in 0..3 {
                let pass: Vec<usize> = order.take(total / 2);
                let rest = order.take(total - total / 2);
                let all: HashSet<usize> = pass.into_iter().chain(rest).collect();
                assert_eq!(all.len(), total);
                assert!(all.iter().all(|page| *page < total));
            }
        }
        assert!(Order::new(0).take(5).is_empty());
    }

    #[test]
    fn the_order_differs_from_pass_to_pass() {
        let mut order = Order::new(4463);
        let passes: HashSet<Vec<usize>> = (0..8)
            .map(|_| order.take(4463).into_iter().take(16).collect())
            .collect();
        assert!(passes.len() > 1);
    }
}
