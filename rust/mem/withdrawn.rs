// SPDX-License-Identifier: GPL-2.0
//! Private pages of the lower VTLs that have been shared with the host. Nothing may access their
//! private alias or ask the TDX module about them, or the host ends the TD.
//!
//! ```text
//! to shared    record the pages ─► unmap their private alias ─► hypercall ─► drop those not done
//! to private   unmap their shared alias ─► hypercall ─► drop those done, which have to be accepted
//! ```
//!
//! A [`Change`] excludes every [`Stay`]: a fault, or a TDCALL about a page, is over before the page
//! is recorded, or finds it recorded. No kernel can prevent what the host does on its own.
//!
//! A recorded page keeps the module loaded, because the next load would not know of it. Before
//! another kernel is started by kexec, the host is asked to return all of them.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::error::to_result;
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;
use kernel::types::NotThreadSafe;

use super::ranges::lower_memory;
use super::registered;
use crate::cpu::tdcall;
use crate::glue::abi::{ends_in_c, safe_in_c};
use crate::pure::accepted::accepted_operand;
use crate::pure::lower::LowerRange;
use crate::pure::mapping::{Alias, SHARED_PAGE};
use crate::pure::policy::LowerPage;
use crate::pure::ranges::Frames;
use crate::pure::status::Status;

// They accept any number. Some need the lock to be held: only the guards below call those.
safe_in_c! {
    fn vtl_withdrawn_init() -> c_int;
    fn vtl_withdrawn_down_read();
    fn vtl_withdrawn_down_write() -> c_int;
    fn vtl_withdrawn_any(first: u64, count: u64) -> bool;
    fn vtl_withdrawn_add(page: u64) -> c_int;
    fn vtl_withdrawn_remove(page: u64);
    fn vtl_withdrawn_next(page: u64) -> u64;
    fn vtl_low_unmap(offset: u64, count: u64);
}

/// Proof that files by which lower-VTL memory is mapped can be opened.
pub(crate) struct WithdrawnReady(());

impl WithdrawnReady {
    /// To be called before the first device node is registered.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        to_result(vtl_withdrawn_init())?;
        Ok(Self(()))
    }
}

// `WithdrawnReady` lives as long as the module, which every file keeps loaded.
ends_in_c! {
    WithdrawnReady: vtl_withdrawn_exit;
    Stay: vtl_withdrawn_up_read;
    Change: vtl_withdrawn_up_write;
}

/// Read side: no page is converted while this exists.
#[must_use]
pub(crate) struct Stay(NotThreadSafe);

impl Stay {
    /// Waits until no page is being converted. The caller must not have a `Stay` already.
    pub(crate) fn new() -> Self {
        vtl_withdrawn_down_read();
        Self(NotThreadSafe)
    }

    /// Returns true if any of some private memory has been shared with the host.
    pub(crate) fn is_withdrawn(&self, memory: LowerRange) -> bool {
        any_withdrawn(memory)
    }

    /// Makes sure that a private page is accepted and stays so, because the TDX module will read it
    /// for a TDCALL.
    ///
    /// # Errors
    ///
    /// The status that reports the operand as invalid, or as busy.
    pub(crate) fn on_accepted(lower: LowerPage) -> Result<Self, Status> {
        let LowerPage { page, operand } = lower;
        let stay = Self::new();
        if stay.is_withdrawn(page) {
            return Err(Status::operand_invalid(operand));
        }
        accepted_operand(&mut tdcall::Instruction, page, operand)?;
        Ok(stay)
    }
}

/// The caller holds a [`Stay`] or a [`Change`].
fn any_withdrawn(memory: LowerRange) -> bool {
    let Frames { first, end } = Frames::of(memory);
    vtl_withdrawn_any(first, end - first)
}

/// Write side: pages are being converted.
#[must_use]
pub(crate) struct Change(NotThreadSafe);

impl Change {
    /// Waits until no `Stay` exists.
    ///
    /// # Errors
    ///
    /// EINTR: the task is being killed.
    fn new() -> Result<Self> {
        to_result(vtl_withdrawn_down_write())?;
        Ok(Self(NotThreadSafe))
    }
}

/// Shares pages with the host by `call`, which returns how many it has converted, from the first.
///
/// # Errors
///
/// EBUSY: one has a `struct page`, so the kernel has mapped it. ENOMEM, EINTR, and those of `call`:
/// then nothing has changed.
pub(crate) fn to_shared<T>(
    pages: &[LowerRange],
    call: impl FnOnce() -> Result<(T, usize)>,
) -> Result<T> {
    let _change = Change::new()?;
    let mut added = KVec::with_capacity(pages.len(), GFP_KERNEL)?;
    refuse_registered(pages)?;
    let result = note(pages, &mut added).and_then(|()| {
        unmap(pages, Alias::Private);
        call()
    });
    let done = result.as_ref().map_or(0, |(_, done)| *done);
    let given = pages.get(..done).unwrap_or(pages);
    // Pages recorded before stay recorded; so does one named twice, once it has been converted.
    forget(added.iter().filter(|page| !given.contains(page)));
    result.map(|(value, _)| value)
}

/// Asks the host by `call` to make pages private again. Otherwise as [`to_shared`].
///
/// # Errors
///
/// As [`to_shared`].
pub(crate) fn to_private<T>(
    pages: &[LowerRange],
    call: impl FnOnce() -> Result<(T, usize)>,
) -> Result<T> {
    let _change = Change::new()?;
    refuse_registered(pages)?;
    unmap(pages, Alias::Shared);
    // The host may replace a page that is private already by a new one, which is not accepted.
    unmap(pages, Alias::Private);
    let (value, done) = call()?;
    forget(pages.iter().take(done));
    Ok(value)
}

/// Releases private memory to the TDX module by `call`. It is pending until it is accepted again.
///
/// # Errors
///
/// EBUSY: some of it has a `struct page`, so the kernel has mapped it, or is shared with the host.
/// EINTR: the task is being killed. Then nothing has changed.
pub(crate) fn release<T>(memory: LowerRange, call: impl FnOnce() -> T) -> Result<T> {
    let _change = Change::new()?;
    if any_withdrawn(memory) || registered::overlaps(memory) {
        return Err(EBUSY);
    }
    unmap(&[memory], Alias::Private);
    Ok(call())
}

/// Asks the host by `call` to return every recorded page, before another kernel starts that does
/// not know of them. `call` takes one page and returns true if the host did so. Returns the number
/// of pages that are still shared.
///
/// # Errors
///
/// EINTR: the task is being killed.
pub(crate) fn take_back(call: impl Fn(LowerRange) -> bool) -> Result<usize> {
    let _change = Change::new()?;
    let (mut from, mut kept) = (0, 0);
    loop {
        let page = vtl_withdrawn_next(from);
        if page == u64::MAX {
            return Ok(kept);
        }
        match lower_memory().range(page << PAGE_SHIFT, 1 << PAGE_SHIFT) {
            Some(range) if call(range) => vtl_withdrawn_remove(page),
            _ => kept += 1,
        }
        from = page + 1;
    }
}

/// Pages with a `struct page` are in the direct map, by the alias with which they were registered.
fn refuse_registered(pages: &[LowerRange]) -> Result {
    if pages.iter().any(|page| registered::overlaps(*page)) {
        Err(EBUSY)
    } else {
        Ok(())
    }
}

fn note(pages: &[LowerRange], added: &mut KVec<LowerRange>) -> Result {
    for page in pages {
        match to_result(vtl_withdrawn_add(Frames::of(*page).first)) {
            Ok(()) => added.push(*page, GFP_KERNEL)?,
            Err(EBUSY) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn forget<'a>(pages: impl Iterator<Item = &'a LowerRange>) {
    for page in pages {
        vtl_withdrawn_remove(Frames::of(*page).first);
    }
}

/// Removes one alias of memory from all mappings, adjacent pieces in one go.
fn unmap(pieces: &[LowerRange], side: Alias) {
    let alias = match side {
        Alias::Private => 0,
        Alias::Shared => SHARED_PAGE,
    };
    for run in pieces.chunk_by(|piece, next| piece.end_gpa() == next.start_gpa()) {
        if let [first, ..] = run {
            let count = run.iter().map(|piece| piece.len_bytes() >> PAGE_SHIFT);
            vtl_low_unmap(Frames::of(*first).first | alias, count.sum());
        }
    }
}
