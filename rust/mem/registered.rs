// SPDX-License-Identifier: GPL-2.0
//! Private memory of a lower VTL that has a `struct page`: `MSHV_ADD_VTL0_MEMORY`.
//!
//! With a `struct page` a page can be pinned, so that a device reads and writes it. A range lives
//! from its registration until no file is open any more by which lower-VTL memory can be mapped: then
//! nobody can have a page of it mapped. A page that somebody still holds then, for an I/O under way,
//! keeps its range, and the range keeps the module; from then on it is looked at again and again.
//!
//! The kernel makes and takes back a `struct page` under locks of its own, on which whoever plugs a CPU
//! or memory waits for others. So none is made or taken back under a lock that a fault, a mapping or
//! a page that changes hands needs: a range is written down first and has no pages yet, which keeps its
//! memory from changing hands.
//!
//! Order of the locks: `CHANGING`, then that of `withdrawn`, then `STATE`.

// UNSAFETY: FFI with the page maps, and a global lock.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;

use super::ranges::lower_memory;
use super::withdrawn::Stay;
use crate::glue::abi::{self, ends_in_c, safe_in_c};
use crate::pure::lower::LowerRange;
use crate::pure::mapping::Alias;
use crate::pure::ranges::{first_missing, Frames, Request};

/// More would make the search slow; a machine has a handful.
const MAX_RANGES: usize = 256;

/// A range that is registered, is about to be, or was.
struct Range {
    frames: Frames,
    /// `None`, while they are made or taken back, outside of the lock.
    pages: Option<Pages>,
}

/// The `struct page`s of a range. Where a module with held pages is unloaded by force, they stay.
struct Pages {
    map: NonNull<bindings::dev_pagemap>,
    _loaded: Loaded,
}

// SAFETY: The map belongs to no thread; it is used under `CHANGING` only.
unsafe impl Send for Pages {}

// The first is called by code of the module, so the module is there. When the second returns, `retry`
// does not run, and will not.
safe_in_c! {
    fn vtl_module_keep();
    fn vtl_pages_retry_never();
}

/// Keeps the module loaded.
struct Loaded(());

impl Loaded {
    fn new() -> Self {
        vtl_module_keep();
        Self(())
    }
}

// What goes on running in the module is in a system call on one of its files, or is waited for by
// `Registry::drop`.
ends_in_c! {
    Loaded: vtl_module_let_go;
}

struct State {
    /// Open files by which lower-VTL memory can be mapped or registered.
    users: usize,
    ranges: KVec<Range>,
}

kernel::sync::global_lock! {
    /// All registered memory.
    unsafe(uninit) static STATE: Mutex<State> = State { users: 0, ranges: KVec::new() };
}

kernel::sync::global_lock! {
    /// Whoever makes pages or takes them back.
    unsafe(uninit) static CHANGING: Mutex<()> = ();
}

/// The locks are ready. Its drop, at the end of the module, finds no range: a range keeps the module.
pub(crate) struct Registry(());

impl Registry {
    /// Makes the locks ready.
    pub(crate) fn new() -> Self {
        // SAFETY: Once per load: only the module's init makes a `Registry`, before any other use of
        // the lock, and a reload gets fresh statics.
        unsafe { STATE.init() };
        // SAFETY: As above.
        unsafe { CHANGING.init() };
        Self(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        vtl_pages_retry_never();
        // Statics are never dropped: without this the list's own memory would stay, even empty.
        STATE.lock().ranges = KVec::new();
    }
}

/// An open file by which lower-VTL memory can be used. It goes with the last mapping of the file.
pub(crate) struct User(());

impl User {
    /// Counts one more.
    pub(crate) fn new() -> Self {
        STATE.lock().users += 1;
        Self(())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        STATE.lock().users -= 1;
        remove_unused();
    }
}

/// Registers what is not registered yet of a range.
///
/// # Errors
///
/// EINVAL: not all of it is in the list of lower-VTL memory, or the host has been given some of it.
/// EOPNOTSUPP: it is memory shared with the host. EBUSY: some of it has a `struct page` from another
/// driver. ENOSPC: too many ranges. ENOMEM. Nothing has changed then.
pub(crate) fn add(wanted: Request) -> Result {
    if wanted.alias == Alias::Shared {
        return Err(EOPNOTSUPP);
    }
    let _alone = CHANGING.lock();
    let noted = note_missing(wanted.frames)?;
    let made = make_pages(&noted);
    let ranges = &mut STATE.lock().ranges;
    let before = ranges.len() - noted.len();
    match made {
        Ok(pages) => {
            for (range, pages) in ranges.iter_mut().skip(before).zip(pages) {
                range.pages = Some(pages);
            }
            Ok(())
        }
        Err(error) => {
            ranges.truncate(before);
            Err(error)
        }
    }
}

/// The memory of some frames.
///
/// # Errors
///
/// EINVAL: not all of it is in the list of lower-VTL memory.
fn memory_of(Frames { first, end }: Frames) -> Result<LowerRange> {
    let memory = lower_memory().range(first << PAGE_SHIFT, (end - first) << PAGE_SHIFT);
    memory.ok_or(EINVAL)
}

/// Writes down what is not registered yet, last and without pages. From then on none of it changes
/// hands.
fn note_missing(wanted: Frames) -> Result<KVec<Frames>> {
    let memory = memory_of(wanted)?;
    let stay = Stay::new();
    if stay.is_withdrawn(memory) {
        return Err(EINVAL);
    }
    let ranges = &mut STATE.lock().ranges;
    let before = ranges.len();
    let mut noted = KVec::new();
    let result = note_each(ranges, wanted, &mut noted);
    if result.is_err() {
        ranges.truncate(before);
    }
    result.map(|()| noted)
}

fn note_each(ranges: &mut KVec<Range>, wanted: Frames, noted: &mut KVec<Frames>) -> Result {
    while let Some(frames) = missing(ranges.iter(), wanted) {
        if ranges.len() >= MAX_RANGES {
            return Err(ENOSPC);
        }
        let pages = None;
        ranges.push(Range { frames, pages }, GFP_KERNEL)?;
        noted.push(frames, GFP_KERNEL)?;
    }
    Ok(())
}

/// Makes the pages of each range, or of none. Nobody maps them before the ranges have them.
fn make_pages(noted: &[Frames]) -> Result<KVec<Pages>> {
    let mut made = KVec::with_capacity(noted.len(), GFP_KERNEL)?;
    for frames in noted {
        // There is room, as made above.
        let result = Pages::new(*frames).and_then(|pages| Ok(made.push(pages, GFP_KERNEL)?));
        if let Err(error) = result {
            for pages in made {
                pages.remove();
            }
            return Err(error);
        }
    }
    Ok(made)
}

/// The first part that is in none of the ranges.
fn missing<'a>(ranges: impl Iterator<Item = &'a Range> + Clone, wanted: Frames) -> Option<Frames> {
    first_missing(wanted, ranges.map(|range| &range.frames))
}

/// Whether each of some private pages is registered. That it is stays true as long as the caller's
/// file is open.
pub(super) fn contains(first: u64, count: u64) -> bool {
    let end = first + count;
    let state = STATE.lock();
    let ready = state.ranges.iter().filter(|range| range.pages.is_some());
    missing(ready, Frames { first, end }).is_none()
}

/// Whether a page of these has a structure, by either alias.
pub(super) fn overlaps(memory: LowerRange) -> bool {
    let frames = Frames::of(memory);
    let state = STATE.lock();
    let mut ranges = state.ranges.iter();
    ranges.any(|range| range.frames.overlaps(frames))
}

/// Takes back what nobody holds, unless a file is open.
fn remove_unused() {
    let _alone = CHANGING.lock();
    while let Some(pages) = take_unused() {
        pages.remove();
        // Nobody else has a range without pages now.
        let mut state = STATE.lock();
        state.ranges.retain(|range| range.pages.is_some());
    }
    let state = STATE.lock();
    if state.users == 0 && !state.ranges.is_empty() {
        // SAFETY: `retry` may be called at any time until `Registry::drop` returns.
        unsafe { abi::vtl_pages_retry_later(Some(retry)) };
    }
}

/// The pages of a range, which nobody gets any more: no file is open, and none is held.
fn take_unused() -> Option<Pages> {
    let mut state = STATE.lock();
    if state.users != 0 {
        return None;
    }
    let mut slots = state.ranges.iter_mut().map(|range| &mut range.pages);
    let is_unused = |pages: &Option<Pages>| pages.as_ref().is_some_and(|pages| !pages.are_held());
    slots.find(|pages| is_unused(pages))?.take()
}

/// Looks again at what was held when the last file was closed.
extern "C" fn retry() {
    remove_unused();
}

impl Pages {
    fn new(frames: Frames) -> Result<Self> {
        let memory = memory_of(frames)?;
        let (start, len_bytes) = (memory.start_gpa(), memory.len_bytes());
        // SAFETY: Whole pieces of 2 MiB, by `Request::new`, that `ranges::Claims` keeps from every
        // other user.
        let map = unsafe { abi::vtl_pages_make(start, len_bytes) };
        let map = NonNull::new(from_err_ptr(map)?.cast()).ok_or(ENOMEM)?;
        let _loaded = Loaded::new();
        Ok(Self { map, _loaded })
    }

    /// Whether anybody but the range itself has one.
    fn are_held(&self) -> bool {
        // SAFETY: Made by `vtl_pages_make`, and removed in `remove` only, which takes `self`.
        unsafe { abi::vtl_pages_are_held(self.map.as_ptr().cast()) }
    }

    /// Takes them back. Nobody holds one: none was mapped yet, or `take_unused` has looked.
    fn remove(self) {
        // SAFETY: As above.
        unsafe { abi::vtl_pages_remove(self.map.as_ptr().cast()) }
    }
}
