// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rights of VTL0 to memory, which it has as long as a machine exists. Those of VTL1 are given later, and
//! end earlier or at the same time. Only a command that is killed leaves both, until the next machine is
//! built: it revokes what was left in all memory that it does not lend.

use vtl::{GpaRange, PageRights, Status, Vm, Vtl};

const PAGE: u64 = 4096;

/// What sets rights of VTL0.
pub(crate) trait Rights {
    /// Sets its rights to a range; other VTLs have none then.
    fn set(&self, range: &GpaRange, rights: PageRights) -> vtl::Result<()>;

    /// Reads what is known about the page at an address.
    fn page(&self, gpa: u64) -> vtl::Result<Page>;
}

/// A page, of any size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Byte after its last one.
    end: u64,
    /// VTL0 or VTL1 has rights to it. None has to one that was never accepted.
    has_rights: bool,
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

    fn page(&self, gpa: u64) -> vtl::Result<Page> {
        let page = self.vtl.page_attributes(gpa)?;
        Ok(Page {
            end: page.gpa + page.size,
            has_rights: [Vm::VTL0, Vm::VTL1]
                .into_iter()
                .any(|vm| page.rights(vm).valid()),
        })
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

    /// Revokes what a command that was killed has left of the rights of VTL0 and VTL1 to `ranges`.
    ///
    /// Only where there is something to revoke: to set rights in a part of a large page has the host
    /// split it, even if it is not accepted. That costs a call for each page, and without large ones there
    /// are 262144 in a GiB.
    pub(crate) fn revoke_left(&self, ranges: &[GpaRange]) -> vtl::Result<()> {
        for range in ranges {
            let mut at = range.base();
            while at < range.end() {
                let page = self.page(at)?;
                // Whatever the TDX module says, this goes on, and not beyond the range.
                let end = page.end.clamp(at + PAGE, range.end());
                if page.has_rights {
                    let left = GpaRange::new(at, end - at)?;
                    self.rights.set(&left, PageRights::NONE)?;
                }
                at = end;
            }
        }
        Ok(())
    }

    /// A page that is shared with the host is no page of the TD: nothing is known about it, and no VTL has rights
    /// to it. A process that has ended may have left some.
    fn page(&self, at: u64) -> vtl::Result<Page> {
        match self.rights.page(at) {
            Err(vtl::Error::Tdcall { status, .. }) if status.code() == Status::OPERAND_INVALID => {
                Ok(Page {
                    end: at + PAGE,
                    has_rights: false,
                })
            }
            other => other,
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

        /// Small pages below 2 MiB, of which every other one has rights, and large ones, of which the
        /// one at 4 MiB has. One at 16 MiB is shared with the host, and at 32 MiB nothing can be told.
        fn page(&self, gpa: u64) -> vtl::Result<Page> {
            let failed = |raw| vtl::Error::Tdcall {
                leaf: "TDG.MEM.PAGE.ATTR.RD",
                operand: gpa,
                status: Status::from_raw(raw),
            };
            match gpa {
                0x100_0000 => return Err(failed(0xc000_0100_0000_0001)),
                0x200_0000 => return Err(failed(0x8000_0200_0000_0001)),
                0x100_1000 => {
                    return Ok(Page {
                        end: 0x100_2000,
                        has_rights: true,
                    });
                }
                _ => {}
            }
            let size = if gpa < 0x20_0000 { 0x1000 } else { 0x20_0000 };
            let number = gpa / size;
            Ok(Page {
                end: (number + 1) * size,
                has_rights: if size == 0x1000 {
                    number % 2 == 1
                } else {
                    number == 2
                },
            })
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
    fn rights_that_were_left_are_revoked_and_nothing_else_is_set() {
        let note = Note::default();
        let lent = Lent::new(&note);
        let range = |base, end| GpaRange::new(base, end - base).expect("whole pages");
        let ranges = [range(0x2000, 0x5000), range(0x30_0000, 0x41_0000)];
        assert_eq!(lent.revoke_left(&ranges), Ok(()));
        assert_eq!(*note.0.borrow(), [(0x3000, false), (0x40_0000, false)]);
        // A part of the same page, and one that can't be revoked.
        let ranges = [range(0x41_0000, 0x80_0000), page(0x1000), page(0x3000)];
        assert_eq!(lent.revoke_left(&ranges), Err(vtl::Error::NoVtlFile));
        assert_eq!(note.0.borrow()[2..], [(0x41_0000, false), (0x1000, false)]);
    }

    #[test]
    fn a_page_that_was_left_shared_with_the_host_has_no_rights() {
        let note = Note::default();
        let lent = Lent::new(&note);
        let shared = GpaRange::new(0x100_0000, 0x3000).expect("whole pages");
        assert_eq!(lent.revoke_left(&[shared]), Ok(()));
        assert_eq!(*note.0.borrow(), [(0x100_1000, false)]);
        // Another error is one.
        assert!(lent.revoke_left(&[page(0x200_0000)]).is_err());
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
