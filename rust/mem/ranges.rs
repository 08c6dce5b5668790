// SPDX-License-Identifier: GPL-2.0
//! The list of the lower VTLs' memory: read once, when the module is loaded, held against what this
//! kernel uses, and kept from all other users until the module goes.
//!
//! The list comes from the parameter `vtl0_mem=`, else from the same word of the kernel's command
//! line. Without one no memory is a lower VTL's.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::SetOnce;

use crate::glue::abi::{self, safe_in_c};
use crate::pure::lower::{of_command_line, LowerMemory, MAX_RANGES};

// They look at constants since boot, fill a text of that length, walk the resource tree under its lock, and take any number
// there is; the list of claims is the module's init's and exit's alone.
safe_in_c! {
    fn vtl_private_end() -> u64;
    fn vtl_range_claim(start: u64, len_bytes: u64) -> c_int;
    fn vtl_ranges_release();
    fn vtl_list_given(text: &mut [u8; TEXT_BYTES] as *mut c_char) -> c_int;
    fn vtl_command_line(text: &mut [u8; TEXT_BYTES] as *mut c_char) -> c_int;
}

const TEXT_BYTES: usize = abi::VTL_TEXT_BYTES as usize; // CAST: u32 fits
const _: () = assert!(MAX_RANGES == abi::VTL_MAX_RANGES as usize); // CAST: u32 fits

static LOWER: SetOnce<LowerMemory> = SetOnce::new();

/// The memory of the lower VTLs. What acts on an address of userspace's choice asks it first.
pub(crate) fn lower_memory() -> &'static LowerMemory {
    static NOTHING: LowerMemory = LowerMemory::EMPTY;
    LOWER.as_ref().unwrap_or(&NOTHING)
}

/// The memory of the lower VTLs, claimed; it is let go of with the drop.
pub(crate) struct Claims(());

impl Claims {
    /// Reads the list and claims what stands in it.
    ///
    /// # Errors
    ///
    /// EINVAL, after a line in the log that says why. ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        let text = given()?;
        let list = LowerMemory::parse(&text, vtl_private_end()).map_err(|refused| {
            let (start, len_bytes) = (refused.start_gpa, refused.len_bytes);
            let reason = refused.reason.text();
            pr_err!("not loaded: vtl0_mem=: {start:#x},{len_bytes:#x}: {reason}\n");
            EINVAL
        })?;
        if list.ranges().is_empty() {
            pr_warn!("no vtl0_mem= names memory of the lower VTLs: there is none\n");
        }
        // Lets go of what was claimed before an error.
        let claims = Self(());
        for range in list.ranges() {
            to_result(vtl_range_claim(range.start_gpa(), range.len_bytes()))?;
        }
        LOWER.populate(list);
        Ok(claims)
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        vtl_ranges_release();
    }
}

/// The text of the list; empty without one.
fn given() -> Result<KVec<u8>> {
    let mut text = KVec::from_elem(0, TEXT_BYTES, GFP_KERNEL)?;
    let buffer = text.first_chunk_mut().ok_or(EINVAL)?; // never: it is that long
    let length = vtl_list_given(buffer);
    if let Ok(length) = usize::try_from(length) {
        text.truncate(length);
        return Ok(text);
    }
    let buffer = text.first_chunk_mut().ok_or(EINVAL)?; // as above
    let length = vtl_command_line(buffer);
    let length = usize::try_from(length).unwrap_or_else(|_| {
        pr_warn!("the kernel's command line can't be read: error {length}\n");
        0
    });
    text.truncate(length);
    let mut word = KVec::new();
    word.extend_from_slice(
        of_command_line(&text, b"vtl0_mem").unwrap_or(b""),
        GFP_KERNEL,
    )?;
    Ok(word)
}
