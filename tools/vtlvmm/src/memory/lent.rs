// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rights of VTL0 to memory, which it has as long as a machine exists and no longer, whatever becomes
//! of the machine. Those of VTL1 are given later, and end earlier or at the same time; a command that was
//! killed has left them.

use vtl::{GpaRange, PageRights, Vm, Vtl};

/// What sets rights of VTL0.
pub(crate) trait Rights {
    /// Sets its rights to a range; other VTLs have none then.
    fn set(&self, range: &GpaRange, rights: PageRights) -> vtl::Result<()>;
}

/// Rights of a TD's VMs.
#[derive(Debug)]
pub(crate) struct OfTd {
    pub(crate) vtl: Vtl,
    /// How many VMs it has.
    pub(crate) num_l2_vms: u32,
}

impl Rights for OfTd {
    fn set(&self, range: &GpaRange, rights: PageRights) -> vtl::Result<()> {
        let all = [(Vm::VTL0, rights), (Vm::VTL1, PageRights::NONE)];
        // CAST: one or two.
        let count = self.num_l2_vms.min(2) as usize;
        self.vtl.set_rights_of_vms(range, &all[..count])
    }
}

/// Memory to which VTL0 has rights. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Lent<R: Rights> {
    rights: R,
    ranges: Vec<GpaRange>,
}

impl<R: Rights> Lent<R> {
    /// Nothing yet.
    pub(crate) const fn new(rights: R) -> Self {
        Self {
            rights,
            ranges: Vec::new(),
        }
    }

    /// Gives VTL0 all rights to `range`.
    pub(crate) fn lend(&mut self, range: GpaRange) -> vtl::Result<()> {
        // Noted first: on failure it has rights to a part.
        self.ranges.push(range);
        self.rights.set(&range, PageRights::ALL)
    }

    /// Takes back what it has. Returns the first error, after it has tried all of them.
    pub(crate) fn take_back(&mut self) -> vtl::Result<()> {
        let mut outcome = Ok(());
        for range in self.ranges.drain(..) {
            outcome = outcome.and(self.rights.set(&range, PageRights::NONE));
        }
        outcome
    }
}

impl<R: Rights> Drop for Lent<R> {
    fn drop(&mut self) {
        // Whoever wants to know has called it.
        let _ = self.take_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Notes what is set; refuses all rights to the range at 0x3000, and to take back that at 0x1000.
    #[derive(Default)]
    struct Note(RefCell<Vec<(u64, bool)>>);

    impl Rights for &Note {
        fn set(&self, range: &GpaRange, rights: PageRights) -> vtl::Result<()> {
            let gives = rights == PageRights::ALL;
            self.0.borrow_mut().push((range.base(), gives));
            match (range.base(), gives) {
                (0x3000, true) | (0x1000, false) => Err(vtl::Error::NoVtlFile),
                _ => Ok(()),
            }
        }
    }

    fn page(base: u64) -> GpaRange {
        GpaRange::new(base, 0x1000).expect("a page")
    }

    #[test]
    fn a_machine_that_is_not_built_leaves_vtl0_no_rights() {
        let note = Note::default();
        let build = || {
            let mut lent = Lent::new(&note);
            lent.lend(page(0x1000))?;
            lent.lend(page(0x2000))?;
            lent.lend(page(0x3000))
        };
        assert_eq!(build(), Err(vtl::Error::NoVtlFile));
        let expected = [
            (0x1000, true),
            (0x2000, true),
            (0x3000, true),
            (0x1000, false),
            (0x2000, false),
            (0x3000, false),
        ];
        assert_eq!(*note.0.borrow(), expected);
    }

    #[test]
    fn rights_are_taken_back_once_and_the_first_error_is_told() {
        let note = Note::default();
        let mut lent = Lent::new(&note);
        assert_eq!(lent.lend(page(0x1000)), Ok(()));
        assert_eq!(lent.lend(page(0x2000)), Ok(()));
        assert_eq!(lent.take_back(), Err(vtl::Error::NoVtlFile));
        drop(lent);
        assert_eq!(note.0.borrow()[2..], [(0x1000, false), (0x2000, false)]);
    }
}
