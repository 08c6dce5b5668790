// SPDX-License-Identifier: GPL-2.0
//! Private memory of a lower VTL that has a `struct page`: `MSHV_ADD_VTL0_MEMORY`.
//!
//! A device can only access pages that can be pinned, which needs a `struct page`. A range exists
//! from its registration until the last file is closed by which lower-VTL memory can be mapped:
//! then nobody can have a page of it mapped. A page that is still pinned then, for I/O in progress,
//! keeps its range, and the range keeps the module loaded; a timer checks it again until it is
//! free.
//!
//! The kernel creates and removes `struct page`s under locks of its own, which CPU and memory
//! hotplug take, too. So this never happens under a lock that a fault, a mapping or a conversion of
//! pages needs: a range is recorded first, without pages, which keeps its memory from being
//! converted.
//!
//! Lock order: `CHANGING`, then that of `withdrawn`, then `STATE`.

// UNSAFETY: FFI with the page maps, and a global lock.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;

use super::ranges::lower_memory;
use super::withdrawn::Stay;
use crate::glue::abi::{self, ends_in_c, safe_in_c, Made, TakenBack, Valid};
use crate::pure::lower::LowerRange;
use crate::pure::mapping::Alias;
use crate::pure::ranges::{first_missing, Frames, Request};

/// Limit, because ranges are searched one by one; a machine has a handful.
const MAX_RANGES: usize = 256;

/// A range that is registered, or about to be, or was until a moment ago.
struct Range {
    frames: Frames,
    /// `None` while the pages are being created or removed, which happens without the lock.
    pages: Option<Pages>,
}

/// The `struct page`s of a range. Dropped under `CHANGING` and no other lock.
struct Pages {
    map: Made<bindings::dev_pagemap>,
    _loaded: ModuleHeld,
}

// SAFETY: Any task may remove a map. Removing it waits until no page is held.
unsafe impl TakenBack for bindings::dev_pagemap {
    const TAKE_BACK: unsafe extern "C" fn(*mut Self) = abi::vtl_pages_remove;
}

// The first is called by code of the module, so the module is loaded. After the second returns,
// `retry` does not run, and will not run again. The third reads pages that live as long as the map.
safe_in_c! {
    fn vtl_module_keep();
    fn vtl_pages_retry_never();
    fn vtl_pages_are_held(
        map: Valid<'_, bindings::dev_pagemap> as *const bindings::dev_pagemap
    ) -> bool;
}

/// Keeps the module loaded.
struct ModuleHeld(());

impl ModuleHeld {
    fn new() -> Self {
        vtl_module_keep();
        Self(())
    }
}

// Code that still runs in the module is in a system call on one of its files, or `Registry::drop`
// waits for it.
ends_in_c! {
    ModuleHeld: vtl_module_let_go;
}

struct State {
    /// Number of open files by which lower-VTL memory can be mapped or registered.
    users: usize,
    ranges: KVec<Range>,
}

kernel::sync::global_lock! {
    /// All registered memory, and who could use it.
    unsafe(uninit) static STATE: Mutex<State> = State { users: 0, ranges: KVec::new() };
}

kernel::sync::global_lock! {
    /// Serializes creation and removal of pages.
    unsafe(uninit) static CHANGING: Mutex<()> = ();
}

/// The initialized locks. There is no range when it is dropped, because a range keeps the module
/// loaded.
pub(crate) struct Registry(());

impl Registry {
    /// Initializes the locks.
    pub(crate) fn new() -> Self {
        // SAFETY: Called once per load: only the module's init makes a `Registry`, before any use
        // of the lock, and each load gets fresh statics.
        unsafe { STATE.init() };
        // SAFETY: As above.
        unsafe { CHANGING.init() };
        Self(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        vtl_pages_retry_never();
        // Statics are never dropped: without this the empty list's allocation would leak.
        let ranges = core::mem::replace(&mut STATE.lock().ranges, KVec::new());
        // If the module is unloaded by force with pages pinned, they stay.
        ranges.into_iter().for_each(core::mem::forget);
    }
}

/// An open file by which lower-VTL memory can be used. Mappings keep their file open.
pub(crate) struct User(());

impl User {
    /// Counts a file.
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

/// Registers the part of a range that is not registered yet.
///
/// # Errors
///
/// EINVAL: not all of it is in the list of lower-VTL memory, or some of it has been shared with the
/// host. EOPNOTSUPP: it is memory shared with the host. EBUSY: some of it has a `struct page` from
/// another driver. ENOSPC: too many ranges. ENOMEM. On an error nothing has changed.
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

/// Records the parts that are not registered yet at the end of the list, without pages. From then
/// on none of that memory is converted.
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

/// Creates the pages of all ranges, or of none. Nothing maps them before the ranges have them.
fn make_pages(noted: &[Frames]) -> Result<KVec<Pages>> {
    let mut made = KVec::with_capacity(noted.len(), GFP_KERNEL)?;
    for frames in noted {
        // The vector has room for it, as allocated above.
        made.push(Pages::new(*frames)?, GFP_KERNEL)?;
    }
    Ok(made)
}

/// The first part of `wanted` that is in none of the ranges.
fn missing<'a>(ranges: impl Iterator<Item = &'a Range> + Clone, wanted: Frames) -> Option<Frames> {
    first_missing(wanted, ranges.map(|range| &range.frames))
}

/// Returns true if each of some private pages is registered. They stay registered while the
/// caller's file is open.
pub(super) fn contains(first: u64, count: u64) -> bool {
    let end = first + count;
    let state = STATE.lock();
    let ready = state.ranges.iter().filter(|range| range.pages.is_some());
    missing(ready, Frames { first, end }).is_none()
}

/// Returns true if some page of `memory` has a `struct page`, by either alias.
pub(super) fn overlaps(memory: LowerRange) -> bool {
    let frames = Frames::of(memory);
    let state = STATE.lock();
    let mut ranges = state.ranges.iter();
    ranges.any(|range| range.frames.overlaps(frames))
}

/// Removes the pages that nobody holds, unless a file is open.
fn remove_unused() {
    let _alone = CHANGING.lock();
    while let Some(unused) = take_unused() {
        drop(unused);
        // The lock excludes others that would have a range without pages.
        let mut state = STATE.lock();
        state.ranges.retain(|range| range.pages.is_some());
    }
    let state = STATE.lock();
    if state.users == 0 && !state.ranges.is_empty() {
        // SAFETY: `retry` may be called at any time until `Registry::drop` returns.
        unsafe { abi::vtl_pages_retry_later(Some(retry)) };
    }
}

/// Takes the pages of a range that nobody can get any more: no file is open, and none is pinned.
fn take_unused() -> Option<Pages> {
    let mut state = STATE.lock();
    if state.users != 0 {
        return None;
    }
    let mut slots = state.ranges.iter_mut().map(|range| &mut range.pages);
    let is_unused = |pages: &Option<Pages>| pages.as_ref().is_some_and(|pages| !pages.are_held());
    slots.find(|pages| is_unused(pages))?.take()
}

/// Timer function: checks again what was pinned when the last file was closed.
extern "C" fn retry() {
    remove_unused();
}

impl Pages {
    fn new(frames: Frames) -> Result<Self> {
        let memory = memory_of(frames)?;
        let (start, len_bytes) = (memory.start_gpa(), memory.len_bytes());
        // SAFETY: Whole pieces of 2 MiB, checked by `Request::new`, which `ranges::Claims` keeps
        // from every other user. Only the new `Made` removes the map.
        let map = unsafe { Made::new(abi::vtl_pages_make(start, len_bytes)) }?;
        let _loaded = ModuleHeld::new();
        Ok(Self { map, _loaded })
    }

    /// Returns true if any page has a reference besides that of the range.
    fn are_held(&self) -> bool {
        vtl_pages_are_held((&self.map).into())
    }
}
