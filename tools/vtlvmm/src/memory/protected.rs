// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Pages that VTL1 protects from VTL0. Devices, which access the guest's memory as VTL0 tells them, have
//! to leave these alone: otherwise VTL0 could write by means of them what it may not write itself.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::{Range, joined};

/// The pages, and who is writing for VTL0 at the moment.
#[derive(Debug, Default)]
pub struct Protected {
    ranges: RwLock<Vec<Range>>,
    writers: RwLock<()>,
}

/// As long as this exists, a write that was begun before a page was protected may go on.
#[derive(Debug)]
pub struct Writing<'a>(#[expect(dead_code, reason = "held")] RwLockReadGuard<'a, ()>);

impl Protected {
    /// Protects ranges. On return no write to them goes on.
    pub fn add(&self, ranges: impl IntoIterator<Item = Range>) {
        let mut all = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        all.extend(ranges);
        // VTL0 may have the same page protected again and again.
        *all = joined(&all, u64::MAX);
        drop(all);
        // Whoever has found a page free before has written by now.
        drop(self.writers.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// To be held from the check of an address until the write is over.
    pub fn writing(&self) -> Writing<'_> {
        Writing(self.writers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns true if one of the bytes is protected.
    pub fn overlaps(&self, range: Range) -> bool {
        let all = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .any(|it| it.start < range.end && range.start < it.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn every_byte_of_a_protected_page_is_and_no_other_however_often() {
        let protected = Protected::default();
        protected.add([Range::new(0x2000, 0x3000), Range::new(0x3000, 0x4000)]);
        protected.add([Range::new(0x8000, 0x9000)]);
        for (start, end, is_protected) in [
            (0, 0x2000, false),
            (0, 0x2001, true),
            (0x3fff, 0x4000, true),
            (0x4000, 0x8000, false),
            (0x1000, 0xa000, true),
            (0x9000, 0xa000, false),
        ] {
            assert_eq!(
                protected.overlaps(Range::new(start, end)),
                is_protected,
                "{start:#x}"
            );
        }
        assert_eq!(protected.ranges.read().map(|all| all.len()).ok(), Some(2));
        for start in [0x8000, 0x2000, 0x3000, 0x8000] {
            protected.add([Range::new(start, start + 0x1000)]);
        }
        assert_eq!(protected.ranges.read().map(|all| all.len()).ok(), Some(2));
    }

    #[test]
    fn a_write_that_goes_on_is_over_when_its_page_is_protected() {
        let (protected, is_written) = (Protected::default(), AtomicBool::new(false));
        let writing = protected.writing();
        thread::scope(|scope| {
            let adder = scope.spawn(|| {
                protected.add([Range::new(0, 0x1000)]);
                is_written.load(Ordering::SeqCst)
            });
            while !protected.overlaps(Range::new(0, 1)) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(20));
            is_written.store(true, Ordering::SeqCst);
            drop(writing);
            assert_eq!(adder.join().ok(), Some(true));
        });
    }
}
