// SPDX-License-Identifier: GPL-2.0
//! Private pages of the lower VTLs that the host has been given: nobody may touch them, nor ask the
//! TDX module about them, or the host ends the TD.
//!
//! ```text
//! to shared    note the pages ─► unmap their private side ─► hypercall ─► forget those not done
//! to private   unmap their shared side ─► hypercall ─► forget those done: they wait to be accepted
//! ```
//!
//! A [`Change`] excludes every [`Stay`]: a fault, or a TDCALL about a page, happens before the page
//! is noted or finds it noted. What the host does without being asked no kernel can prevent.
//!
//! A noted page keeps the module loaded: the next load would know nothing of it. Before another kernel
//! starts, the host is asked for all of them.

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
use crate::pure::lower::LowerRange;
use crate::pure::mapping::{Alias, SHARED_PAGE};
use crate::pure::policy::LowerPage;
use crate::pure::ranges::Frames;
use crate::pure::status::Status;
use crate::pure::tdcall::{tdg_mem_page_attr_rd, PageState};

// They take any number; the lock that some want is that of the guards below, which alone call them.
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

/// Files by which lower-VTL memory is mapped can be opened.
pub(crate) struct Ready(());

impl Ready {
    /// Before the first device node.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        to_result(vtl_withdrawn_init())?;
        Ok(Self(()))
    }
}

// `Ready` goes with the module, which every file keeps.
ends_in_c! {
    Ready: vtl_withdrawn_exit;
    Stay: vtl_withdrawn_up_read;
    Change: vtl_withdrawn_up_write;
}

/// No page changes hands.
#[must_use]
pub(crate) struct Stay(NotThreadSafe);

impl Stay {
    /// Waits until no page changes hands. Not while the caller has one already.
    pub(crate) fn new() -> Self {
        vtl_withdrawn_down_read();
        Self(NotThreadSafe)
    }

    /// Returns true if any of some private memory is gone.
    pub(crate) fn is_withdrawn(&self, memory: LowerRange) -> bool {
        any_withdrawn(memory)
    }

    /// No page changes hands, and a private one is accepted: what the TDX module reads for a TDCALL must
    /// be there.
    ///
    /// # Errors
    ///
    /// The status that names the operand.
    pub(crate) fn on_accepted(lower: LowerPage) -> Result<Self, Status> {
        let LowerPage { page, operand } = lower;
        let stay = Self::new();
        if stay.is_withdrawn(page) || !is_accepted(page) {
            return Err(Status::operand_invalid(operand));
        }
        Ok(stay)
    }
}

/// With a [`Stay`] or a [`Change`].
fn any_withdrawn(memory: LowerRange) -> bool {
    let Frames { first, end } = Frames::of(memory);
    vtl_withdrawn_any(first, end - first)
}

fn is_accepted(page: LowerRange) -> bool {
    let state = tdg_mem_page_attr_rd(&mut tdcall::Instruction, page);
    matches!(state, Ok(PageState::Accepted { .. }))
}

/// Pages change hands.
#[must_use]
pub(crate) struct Change(NotThreadSafe);

impl Change {
    /// Waits until nobody looks at a page.
    ///
    /// # Errors
    ///
    /// EINTR: the task is being killed.
    fn new() -> Result<Self> {
        to_result(vtl_withdrawn_down_write())?;
        Ok(Self(NotThreadSafe))
    }
}

/// Has `call` give pages to the host. It returns how many it has done, from the first on.
///
/// # Errors
///
/// EBUSY: one has a `struct page`, by which the kernel reaches it. ENOMEM, EINTR, and those of
/// `call`: then nothing has changed.
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
    // Those that were gone before stay so, and one that is named twice is gone once it is done.
    forget(added.iter().filter(|page| !given.contains(page)));
    result.map(|(value, _)| value)
}

/// Has `call` ask the host for private pages. As [`to_shared`].
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
    // A host that is asked for a page which is private already may give a new one, not accepted.
    unmap(pages, Alias::Private);
    let (value, done) = call()?;
    forget(pages.iter().take(done));
    Ok(value)
}

/// Has `call` release private memory to the TDX module: it is pending then, until it is accepted again.
///
/// # Errors
///
/// EBUSY: some of it has a `struct page`, by which the kernel reaches it, or is with the host. EINTR: the
/// task is being killed. Then nothing has changed.
pub(crate) fn release<T>(memory: LowerRange, call: impl FnOnce() -> T) -> Result<T> {
    let _change = Change::new()?;
    if any_withdrawn(memory) || registered::overlaps(memory) {
        return Err(EBUSY);
    }
    unmap(&[memory], Alias::Private);
    Ok(call())
}

/// Has `call` ask the host for the private side of everything that it has been given, before another
/// kernel starts that knows nothing of it. `call` gets a page, and returns true if the host obeyed.
/// Returns how many pages the host has kept.
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

/// Pages with structures are in the direct map, by the alias that they were registered with.
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

/// Takes one side of memory out of all mappings, neighbours at once.
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
