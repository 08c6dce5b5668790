// SPDX-License-Identifier: GPL-2.0
//! Lower-VTL memory that has page structures: `MSHV_ADD_VTL0_MEMORY`.
//!
//! With a structure a page can be pinned, so that a device reads and writes it. A range lives from
//! its registration until no file is open any more by which lower-VTL memory can be mapped: then
//! nobody can have a page of it mapped. A page that somebody still holds then, for an I/O under way,
//! keeps its range; the range is looked at again when the next last file is closed.

// UNSAFETY: FFI with the page maps, and a global lock.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;

use super::ranges::lower_memory;
use super::withdrawn::Stay;
use crate::glue::abi;
use crate::pure::lower::LowerRange;
use crate::pure::mapping::{frame, is_shared, Alias};
use crate::pure::ranges::{first_missing, Frames, Request};

/// More would make the search slow; a machine has a handful.
const MAX_RANGES: usize = 256;

/// A range and its page structures.
struct Range {
    frames: Frames,
    alias: Alias,
    map: NonNull<bindings::dev_pagemap>,
}

// SAFETY: The map belongs to no thread; it is used under the lock only.
unsafe impl Send for Range {}

struct State {
    /// Open files by which lower-VTL memory can be mapped or registered.
    users: usize,
    ranges: KVec<Range>,
}

kernel::sync::global_lock! {
    /// All registered memory.
    unsafe(uninit) static STATE: Mutex<State> = State { users: 0, ranges: KVec::new() };
}

/// The lock is ready. Its drop, at the end of the module, takes back what is left.
pub(crate) struct Registry(());

impl Registry {
    /// Makes the lock ready.
    pub(crate) fn new() -> Self {
        // SAFETY: Once per load: only the module's init makes a `Registry`, before any other use of
        // the lock, and a reload gets fresh statics.
        unsafe { STATE.init() };
        Self(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let mut state = STATE.lock();
        remove_unused(&mut state);
        let left = state.ranges.len();
        if left > 0 {
            // The structures stay in the kernel for good, which harms nobody; to take them back
            // under an I/O would.
            pr_warn!("{left} ranges of lower-VTL memory are still held by I/O and stay\n");
        }
        // Statics are never dropped: without this the list's own memory would stay, even empty.
        state.ranges = KVec::new();
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
        let mut state = STATE.lock();
        state.users -= 1;
        if state.users == 0 {
            remove_unused(&mut state);
        }
    }
}

/// Registers what is not registered yet of a range.
///
/// # Errors
///
/// EINVAL: not all of it is in the list of lower-VTL memory, or the host has been given some of its
/// private side. EEXIST: some of it is registered by the other alias. ENOSPC: too many ranges. ENOMEM.
/// Nothing has changed then.
pub(crate) fn add(wanted: Request) -> Result {
    memory_of(wanted.frames)?;
    let Frames { first, end } = wanted.frames;
    let stay = Stay::new();
    if wanted.alias == Alias::Private && stay.is_withdrawn(first, (end - first) << PAGE_SHIFT) {
        return Err(EINVAL);
    }
    let mut state = STATE.lock();
    let mut others = state.ranges.iter();
    if others.any(|range| range.alias != wanted.alias && range.frames.overlaps(wanted.frames)) {
        return Err(EEXIST);
    }
    let before = state.ranges.len();
    let result = add_missing(&mut state.ranges, wanted);
    if result.is_err() {
        // Nobody can hold a page yet: mappings find a range only under this lock.
        while state.ranges.len() > before {
            if let Some(range) = state.ranges.pop() {
                range.remove();
            }
        }
    }
    result
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

fn add_missing(ranges: &mut KVec<Range>, wanted: Request) -> Result {
    let missing = |ranges: &KVec<Range>| {
        let known = ranges.iter().map(|range| &range.frames);
        first_missing(wanted.frames, known)
    };
    while let Some(frames) = missing(ranges) {
        if ranges.len() >= MAX_RANGES {
            return Err(ENOSPC);
        }
        ranges.reserve(1, GFP_KERNEL)?;
        ranges.push(Range::new(frames, wanted.alias)?, GFP_KERNEL)?;
    }
    Ok(())
}

/// Whether a page, by an offset in pages that names frame and alias, has a structure by which the
/// kernel reaches it. The answer stays true as long as the caller's file is open.
pub(super) fn contains(page: u64) -> bool {
    let state = STATE.lock();
    let mut ranges = state.ranges.iter();
    ranges.any(|range| {
        range.frames.contains(frame(page)) && is_shared(page) == (range.alias == Alias::Shared)
    })
}

/// Whether a page of these has a structure, by either alias.
pub(super) fn overlaps(frames: Frames) -> bool {
    let state = STATE.lock();
    let mut ranges = state.ranges.iter();
    ranges.any(|range| range.frames.overlaps(frames))
}

fn remove_unused(state: &mut State) {
    state.ranges.retain(|range| !range.remove());
}

impl Range {
    fn new(frames: Frames, alias: Alias) -> Result<Self> {
        let memory = memory_of(frames)?;
        let (start, len_bytes) = (memory.start_gpa(), memory.len_bytes());
        // SAFETY: Whole pieces of 2 MiB, by `Request::new`, that `ranges::Claims` keeps from every
        // other user.
        let map = unsafe { abi::vtl_pages_make(start, len_bytes, alias == Alias::Shared) };
        let map = NonNull::new(from_err_ptr(map)?.cast()).ok_or(ENOMEM)?;
        Ok(Self { frames, alias, map })
    }

    /// Takes the structures back unless one is held. Returns whether the range is gone, and then it
    /// must be forgotten.
    fn remove(&self) -> bool {
        // SAFETY: Made by `vtl_pages_make`, and not removed yet: who gets true drops the range.
        unsafe { abi::vtl_pages_remove(self.map.as_ptr().cast()) }
    }
}
