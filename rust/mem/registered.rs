// SPDX-License-Identifier: GPL-2.0
//! Private memory of a lower VTL that has a `struct page`: `MSHV_ADD_VTL0_MEMORY`.
//!
//! With a `struct page` a page can be pinned, so that a device reads and writes it. A range lives
//! from its registration until no file is open any more by which lower-VTL memory can be mapped: then
//! nobody can have a page of it mapped. A page that somebody still holds then, for an I/O under way,
//! keeps its range, and the range keeps the module; from then on it is looked at again and again.

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

/// A range and its `struct page`s.
struct Range {
    frames: Frames,
    map: NonNull<bindings::dev_pagemap>,
    _loaded: Loaded,
}

// SAFETY: The map belongs to no thread; it is used under the lock only.
unsafe impl Send for Range {}

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

/// The lock is ready. Its drop, at the end of the module, finds no range: a range keeps the module.
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
/// EINVAL: not all of it is in the list of lower-VTL memory, or the host has been given some of it.
/// EOPNOTSUPP: it is memory shared with the host. EBUSY: some of it has a `struct page` from another
/// driver. ENOSPC: too many ranges. ENOMEM. Nothing has changed then.
pub(crate) fn add(wanted: Request) -> Result {
    if wanted.alias == Alias::Shared {
        return Err(EOPNOTSUPP);
    }
    memory_of(wanted.frames)?;
    let Frames { first, end } = wanted.frames;
    let stay = Stay::new();
    if stay.is_withdrawn(first, (end - first) << PAGE_SHIFT) {
        return Err(EINVAL);
    }
    let mut state = STATE.lock();
    let before = state.ranges.len();
    let result = add_missing(&mut state.ranges, wanted.frames);
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

fn add_missing(ranges: &mut KVec<Range>, wanted: Frames) -> Result {
    while let Some(frames) = missing(ranges, wanted) {
        if ranges.len() >= MAX_RANGES {
            return Err(ENOSPC);
        }
        ranges.reserve(1, GFP_KERNEL)?;
        ranges.push(Range::new(frames)?, GFP_KERNEL)?;
    }
    Ok(())
}

/// The first part that is not registered.
fn missing(ranges: &[Range], wanted: Frames) -> Option<Frames> {
    first_missing(wanted, ranges.iter().map(|range| &range.frames))
}

/// Whether each of some private pages is registered. That it is stays true as long as the caller's
/// file is open.
pub(super) fn contains(first: u64, count: u64) -> bool {
    let end = first + count;
    missing(&STATE.lock().ranges, Frames { first, end }).is_none()
}

/// Whether a page of these has a structure, by either alias.
pub(super) fn overlaps(frames: Frames) -> bool {
    let state = STATE.lock();
    let mut ranges = state.ranges.iter();
    ranges.any(|range| range.frames.overlaps(frames))
}

fn remove_unused(state: &mut State) {
    state.ranges.retain(|range| !range.remove());
    if !state.ranges.is_empty() {
        // SAFETY: `retry` may be called at any time until `Registry::drop` returns.
        unsafe { abi::vtl_pages_retry_later(Some(retry)) };
    }
}

/// Looks again at what was held when the last file was closed.
extern "C" fn retry() {
    let mut state = STATE.lock();
    if state.users == 0 {
        remove_unused(&mut state);
    }
}

impl Range {
    fn new(frames: Frames) -> Result<Self> {
        let memory = memory_of(frames)?;
        let (start, len_bytes) = (memory.start_gpa(), memory.len_bytes());
        // SAFETY: Whole pieces of 2 MiB, by `Request::new`, that `ranges::Claims` keeps from every
        // other user.
        let map = unsafe { abi::vtl_pages_make(start, len_bytes) };
        let map = NonNull::new(from_err_ptr(map)?.cast()).ok_or(ENOMEM)?;
        let _loaded = Loaded::new();
        Ok(Self {
            frames,
            map,
            _loaded,
        })
    }

    /// Takes the structures back unless one is held. Returns whether the range is gone, and then it
    /// must be forgotten.
    fn remove(&self) -> bool {
        // SAFETY: Made by `vtl_pages_make`, and not removed yet: who gets true drops the range.
        unsafe { abi::vtl_pages_remove(self.map.as_ptr().cast()) }
    }
}
