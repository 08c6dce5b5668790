// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Pages of the lower VTLs: acceptance, rights of each VM, release, by TDCALLs on a [`Vtl`].

use crate::abi::Tdcall;
use crate::memory::{GpaRange, LowerMemory};
use crate::tdcall::{check, leaf};
use crate::vp::Vm;
use crate::{Error, Result, Status, Vtl};

const SIZE_4K: u64 = 0x1000;
const SIZE_2M: u64 = 0x20_0000;
const LEVEL_4K: u64 = 0;
const LEVEL_2M: u64 = 1;

/// Result of [`Vtl::accept`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes accepted now; the TDX module filled them with zeros.
    pub fresh_bytes: u64,
    /// Bytes that had been accepted before; their contents are unchanged.
    pub earlier_bytes: u64,
}

/// Rights of an L2 VM to a page: a word of GPA_ATTR [ABI 5.1].
#[bitfield_struct::bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PageRights {
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Execute, supervisor mode (any mode without mode-based execution).
    pub execute_supervisor: bool,
    /// Execute, user mode.
    pub execute_user: bool,
    #[bits(11)]
    _reserved: u16,
    /// The word is valid: the VM has an alias of the page.
    pub valid: bool,
}

impl PageRights {
    /// Read, write and execute.
    pub const ALL: Self = Self::new()
        .with_read(true)
        .with_write(true)
        .with_execute_supervisor(true)
        .with_execute_user(true)
        .with_valid(true);
    /// No access.
    pub const NONE: Self = Self::new().with_valid(true);

    /// The bits that [`Vtl::set_rights`] changes.
    const CHANGED: u64 = 0xf;

    const fn word_of(vm: Vm, word: u64) -> u64 {
        word << (16 * vm.index())
    }
}

/// What the TDX module knows about a page of the trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAttributes {
    /// First byte of the page.
    pub gpa: u64,
    /// Size of the page in bytes.
    pub size: u64,
    /// The page has not been accepted yet.
    pub is_pending: bool,
    words: u64,
}

impl PageAttributes {
    /// Decodes RCX and RDX of TDG.MEM.PAGE.ATTR.RD.
    const fn new(mapping: u64, words: u64) -> Self {
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        const LEVEL: u64 = 3;
        const PENDING: u64 = 1 << 62;
        Self {
            gpa: mapping & ADDRESS,
            size: SIZE_4K << (9 * (mapping & LEVEL)),
            is_pending: mapping & PENDING != 0,
            words,
        }
    }

    /// Rights of a VM; [`PageRights::valid`] is clear if it has none.
    pub const fn rights(&self, vm: Vm) -> PageRights {
        // CAST: a 16-bit word.
        PageRights::from_bits((self.words >> (16 * vm.index())) as u16)
    }
}

/// One step through a range: the level tried and the bytes that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RightsStep {
    gpa: u64,
    level: u64,
    len: u64,
}

/// The largest step at `gpa` that stays inside `range`.
fn step_at(range: &GpaRange, gpa: u64, small_until: u64) -> RightsStep {
    let is_large = gpa >= small_until && gpa % SIZE_2M == 0 && range.end() - gpa >= SIZE_2M;
    if is_large {
        RightsStep {
            gpa,
            level: LEVEL_2M,
            len: SIZE_2M,
        }
    } else {
        RightsStep {
            gpa,
            level: LEVEL_4K,
            len: SIZE_4K,
        }
    }
}

impl Vtl {
    /// Accepts every page of `range`, in pieces of 2 MiB if possible [ABI TDG.MEM.PAGE.ACCEPT].
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first page that was refused; pages before it
    /// stay accepted.
    pub fn accept(&self, range: &GpaRange) -> Result<Accepted> {
        let mut accepted = Accepted::default();
        self.accept_each(range, |step, is_fresh| {
            if is_fresh {
                accepted.fresh_bytes += step.len;
            } else {
                accepted.earlier_bytes += step.len;
            }
        })?;
        Ok(accepted)
    }

    /// Accepts and maps every page of `range`, all of it zero: pages that had been accepted before
    /// have what an earlier guest left in them, which the next one must not find.
    ///
    /// # Errors
    /// As [`Self::accept`] and [`LowerMemory::map`].
    pub fn accept_zeroed(&self, range: GpaRange) -> Result<LowerMemory> {
        let mut earlier = Vec::new();
        self.accept_each(&range, |step, is_fresh| {
            if !is_fresh {
                earlier.push(step);
            }
        })?;
        let memory = LowerMemory::map(range)?;
        for step in earlier {
            memory.zero(step.gpa - range.base(), step.len)?;
        }
        Ok(memory)
    }

    /// Tells of each step whether it was accepted now.
    fn accept_each(&self, range: &GpaRange, mut tell: impl FnMut(RightsStep, bool)) -> Result<()> {
        self.for_each_page(range, |vtl, step| {
            let call = vtl.tdcall_until_idle(Tdcall {
                rax: leaf::TDG_MEM_PAGE_ACCEPT,
                rcx: step.gpa | step.level,
                ..Tdcall::default()
            })?;
            let status = Status::from_raw(call.rax);
            match status.code() {
                Status::SUCCESS => tell(step, true),
                Status::PAGE_ALREADY_ACCEPTED => tell(step, false),
                _ => return Ok(Err(("TDG.MEM.PAGE.ACCEPT", status))),
            }
            Ok(Ok(()))
        })
    }

    /// Sets the rights of the L2 VM `vm` to `rights`, for every page of `range`
    /// [ABI TDG.MEM.PAGE.ATTR.WR].
    ///
    /// Revoking rights does not flush translations: call [`Self::flush`] afterwards.
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first page that was refused.
    pub fn set_rights(&self, range: &GpaRange, vm: Vm, rights: PageRights) -> Result<()> {
        self.set_rights_of_vms(range, &[(vm, rights)])
    }

    /// Sets the rights of several L2 VMs, which takes as long as those of one: see
    /// [`Self::set_rights`].
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first page that was refused.
    pub fn set_rights_of_vms(&self, range: &GpaRange, all: &[(Vm, PageRights)]) -> Result<()> {
        let (mut attributes, mut changed) = (0, 0);
        for (vm, rights) in all {
            let rights = rights.with_valid(true).into_bits();
            attributes |= PageRights::word_of(*vm, u64::from(rights));
            changed |= PageRights::word_of(*vm, PageRights::CHANGED);
        }
        self.for_each_page(range, |vtl, step| {
            let call = vtl.tdcall_until_idle(Tdcall {
                rax: leaf::TDG_MEM_PAGE_ATTR_WR,
                rcx: step.gpa | step.level,
                rdx: attributes,
                r8: changed,
                ..Tdcall::default()
            })?;
            Ok(done("TDG.MEM.PAGE.ATTR.WR", call.rax))
        })
    }

    /// Returns what the TDX module knows about the page at `gpa` [ABI TDG.MEM.PAGE.ATTR.RD].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn page_attributes(&self, gpa: u64) -> Result<PageAttributes> {
        let call = self.tdcall_until_idle(Tdcall {
            rax: leaf::TDG_MEM_PAGE_ATTR_RD,
            rcx: gpa,
            ..Tdcall::default()
        })?;
        check("TDG.MEM.PAGE.ATTR.RD", gpa, Status::from_raw(call.rax))?;
        Ok(PageAttributes::new(call.rcx, call.rdx))
    }

    /// Releases every page of `range` to the host. Nothing may access it until it is accepted again
    /// [ABI TDG.MEM.PAGE.RELEASE]. Version 1.5 of the TDX module does not have this leaf.
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first page that was refused.
    pub fn release(&self, range: &GpaRange) -> Result<()> {
        self.for_each_page(range, |vtl, step| {
            let call = vtl.tdcall_until_idle(Tdcall {
                rax: leaf::TDG_MEM_PAGE_RELEASE,
                rcx: step.gpa | step.level,
                ..Tdcall::default()
            })?;
            Ok(done("TDG.MEM.PAGE.RELEASE", call.rax))
        })
    }

    /// Walks `range` page by page; a step that ends with PAGE_SIZE_MISMATCH
    /// at 2 MiB is repeated with the 4 KiB pages below it.
    fn for_each_page(
        &self,
        range: &GpaRange,
        mut visit: impl FnMut(
            &Self,
            RightsStep,
        ) -> Result<core::result::Result<(), (&'static str, Status)>>,
    ) -> Result<()> {
        let mut gpa = range.base();
        let mut small_until = 0;
        while gpa < range.end() {
            let step = step_at(range, gpa, small_until);
            match visit(self, step)? {
                Ok(()) => gpa += step.len,
                Err((_, status))
                    if status.code() == Status::PAGE_SIZE_MISMATCH && step.level == LEVEL_2M =>
                {
                    small_until = gpa + SIZE_2M;
                }
                Err((leaf, status)) => {
                    return Err(Error::Tdcall {
                        leaf,
                        operand: gpa,
                        status,
                    });
                }
            }
        }
        Ok(())
    }
}

fn done(leaf: &'static str, rax: u64) -> core::result::Result<(), (&'static str, Status)> {
    let status = Status::from_raw(rax);
    match status.code() {
        Status::SUCCESS => Ok(()),
        _ => Err((leaf, status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_of_a_page_are_those_of_its_words() {
        let page = PageAttributes::new((1 << 62) | 0x4000_0001, 0x800f_0000);
        assert_eq!((page.gpa, page.size), (0x4000_0000, SIZE_2M));
        assert!(page.is_pending);
        assert_eq!(page.rights(Vm::VTL0), PageRights::ALL);
        assert!(!page.rights(Vm::VTL1).valid());
    }

    proptest! {
        #[test]
        fn steps_cover_a_range_once_and_stay_inside(first in 0u64..2048, count in 1u64..2048) {
            let range = GpaRange::new(first * SIZE_4K, count * SIZE_4K)?;
            let mut gpa = range.base();
            while gpa < range.end() {
                let step = step_at(&range, gpa, 0);
                prop_assert_eq!((step.gpa, gpa % step.len), (gpa, 0));
                gpa += step.len;
            }
            prop_assert_eq!(gpa, range.end());
        }
    }

    #[test]
    fn rights_words_match_the_specification() {
        let word = u64::from(PageRights::ALL.into_bits());
        assert_eq!(PageRights::word_of(Vm::VTL0, word), 0x800f_0000);
        assert_eq!(PageRights::word_of(Vm::VTL1, word), 0x800f_0000_0000);
        assert_eq!(PageRights::NONE.into_bits(), 0x8000);
    }

    #[test]
    fn steps_are_large_only_where_aligned_and_whole() -> Result<()> {
        let range = GpaRange::new(0x1f_f000, 0x20_2000)?;
        assert_eq!(step_at(&range, 0x1f_f000, 0).level, LEVEL_4K);
        assert_eq!(step_at(&range, 0x20_0000, 0).level, LEVEL_2M);
        assert_eq!(step_at(&range, 0x40_0000, 0).level, LEVEL_4K);
        // After a size mismatch the same address is retried with small pages.
        assert_eq!(step_at(&range, 0x20_0000, 0x40_0000).level, LEVEL_4K);
        Ok(())
    }
}
