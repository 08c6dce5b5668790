// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDCALL leaves as typed functions on a [`Vtl`]: page acceptance and rights,
//! metadata of the TD and of the TDX module.
//!
//! The leaves that act on one virtual processor are in [`crate::vp`], because
//! they are only right on its CPU.

use crate::abi::Tdcall;
use crate::device::Vtl;
use crate::memory::GpaRange;
use crate::vp::Vm;
use crate::{Error, Result, Status};

/// Leaf numbers [ABI 1.2].
pub mod leaf {
    /// TDG.MEM.PAGE.ACCEPT.
    pub const TDG_MEM_PAGE_ACCEPT: u64 = 6;
    /// TDG.VM.RD.
    pub const TDG_VM_RD: u64 = 7;
    /// TDG.VP.RD.
    pub const TDG_VP_RD: u64 = 9;
    /// TDG.VP.WR.
    pub const TDG_VP_WR: u64 = 10;
    /// TDG.SYS.RD.
    pub const TDG_SYS_RD: u64 = 11;
    /// TDG.MEM.PAGE.ATTR.RD.
    pub const TDG_MEM_PAGE_ATTR_RD: u64 = 23;
    /// TDG.MEM.PAGE.ATTR.WR.
    pub const TDG_MEM_PAGE_ATTR_WR: u64 = 24;
}

const SIZE_4K: u64 = 0x1000;
const SIZE_2M: u64 = 0x20_0000;
const LEVEL_4K: u64 = 0;
const LEVEL_2M: u64 = 1;

/// Attempts at a leaf that answers TDX_OPERAND_BUSY before giving up; the host
/// holds such a lock for microseconds.
const BUSY_RETRIES: u32 = 1000;

/// What a page's acceptance found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes accepted now; the TDX module filled them with zeros.
    pub fresh_bytes: u64,
    /// Bytes that were accepted before; their contents were kept.
    pub earlier_bytes: u64,
}

/// Rights of an L2 VM on a page [ABI 5.1].
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
    /// The word is meaningful.
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

    /// The attribute bits that TDG.MEM.PAGE.ATTR.WR changes here.
    const CHANGED: u64 = 0xf;

    const fn word_of(vm: Vm, word: u64) -> u64 {
        word << (16 * vm.index())
    }
}

/// One step over a range: the level tried and the bytes it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    gpa: u64,
    level: u64,
    len: u64,
}

/// The largest step at `gpa` that stays inside `range`.
fn step_at(range: &GpaRange, gpa: u64, small_until: u64) -> Step {
    let is_large = gpa >= small_until && gpa % SIZE_2M == 0 && range.end() - gpa >= SIZE_2M;
    if is_large {
        Step {
            gpa,
            level: LEVEL_2M,
            len: SIZE_2M,
        }
    } else {
        Step {
            gpa,
            level: LEVEL_4K,
            len: SIZE_4K,
        }
    }
}

impl Vtl {
    /// Accepts every page of `range`, 2 MiB at a time where that works
    /// [ABI TDG.MEM.PAGE.ACCEPT].
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first page that was refused; pages before it
    /// stay accepted.
    pub fn accept(&self, range: &GpaRange) -> Result<Accepted> {
        let mut accepted = Accepted::default();
        self.for_each_page(range, |vtl, step| {
            let status = vtl.tdcall_until_idle(Tdcall {
                rax: leaf::TDG_MEM_PAGE_ACCEPT,
                rcx: step.gpa | step.level,
                ..Tdcall::default()
            })?;
            match status.code() {
                Status::SUCCESS => accepted.fresh_bytes += step.len,
                Status::PAGE_ALREADY_ACCEPTED => accepted.earlier_bytes += step.len,
                _ => return Ok(Err(("TDG.MEM.PAGE.ACCEPT", status))),
            }
            Ok(Ok(()))
        })?;
        Ok(accepted)
    }

    /// Gives the L2 VM `vm` exactly `rights` on every page of `range`
    /// [ABI TDG.MEM.PAGE.ATTR.WR].
    ///
    /// Taking rights away does not flush translations of other CPUs.
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first page that was refused.
    pub fn set_rights(&self, range: &GpaRange, vm: Vm, rights: PageRights) -> Result<()> {
        let attributes = PageRights::word_of(vm, u64::from(rights.with_valid(true).into_bits()));
        let changed = PageRights::word_of(vm, PageRights::CHANGED);
        self.for_each_page(range, |vtl, step| {
            let status = vtl.tdcall_until_idle(Tdcall {
                rax: leaf::TDG_MEM_PAGE_ATTR_WR,
                rcx: step.gpa | step.level,
                rdx: attributes,
                r8: changed,
                ..Tdcall::default()
            })?;
            Ok(match status.code() {
                Status::SUCCESS => Ok(()),
                _ => Err(("TDG.MEM.PAGE.ATTR.WR", status)),
            })
        })
    }

    /// Reads a TD-wide field [ABI TDG.VM.RD].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status when the field is not readable.
    pub fn read_vm(&self, field_id: u64) -> Result<u64> {
        self.read_field("TDG.VM.RD", leaf::TDG_VM_RD, field_id)
    }

    /// Reads a field of the TDX module [ABI TDG.SYS.RD].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status when the field is not readable.
    pub fn read_sys(&self, field_id: u64) -> Result<u64> {
        self.read_field("TDG.SYS.RD", leaf::TDG_SYS_RD, field_id)
    }

    pub(crate) fn read_field(&self, name: &'static str, leaf: u64, field_id: u64) -> Result<u64> {
        let mut call = Tdcall {
            rax: leaf,
            rdx: field_id,
            ..Tdcall::default()
        };
        self.tdcall(&mut call)?;
        check(name, field_id, Status::from_raw(call.rax))?;
        Ok(call.r8)
    }

    /// Walks `range` page by page; a step that ends with PAGE_SIZE_MISMATCH
    /// at 2 MiB is repeated with the 4 KiB pages below it.
    fn for_each_page(
        &self,
        range: &GpaRange,
        mut visit: impl FnMut(&Self, Step) -> Result<core::result::Result<(), (&'static str, Status)>>,
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

    fn tdcall_until_idle(&self, call: Tdcall) -> Result<Status> {
        let mut attempt = 0;
        loop {
            let mut this_call = call;
            self.tdcall(&mut this_call)?;
            let status = Status::from_raw(this_call.rax);
            if status.code() != Status::OPERAND_BUSY || attempt == BUSY_RETRIES {
                return Ok(status);
            }
            attempt += 1;
        }
    }
}

/// Turns a status with the error bit into an [`Error`].
pub(crate) fn check(leaf: &'static str, operand: u64, status: Status) -> Result<()> {
    if status.is_error() {
        return Err(Error::Tdcall {
            leaf,
            operand,
            status,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // After a size mismatch the same place is taken page by page.
        assert_eq!(step_at(&range, 0x20_0000, 0x40_0000).level, LEVEL_4K);
        Ok(())
    }
}
