// SPDX-License-Identifier: GPL-2.0
//! The list of the lower VTLs' memory: read once, when the module is loaded; compared with what
//! this kernel uses; and claimed, so that nothing else uses it until the module is unloaded.
//!
//! The list comes from the parameter `vtl0_mem=`, or else from the same word of the kernel's
//! command line. Without a list no memory belongs to a lower VTL.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::SetOnce;

use crate::glue::abi::{self, safe_in_c};
use crate::pure::lower::{of_command_line, LowerMemory, MAX_RANGES};

// They read constants since boot, fill a buffer of that length, or walk the resource tree under its
// lock, and accept any number. Only the module's init and exit use the list of claims.
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

/// The memory of the lower VTLs. Code that acts on an address from userspace must check it here
/// first.
pub(crate) fn lower_memory() -> &'static LowerMemory {
    static NOTHING: LowerMemory = LowerMemory::EMPTY;
    LOWER.as_ref().unwrap_or(&NOTHING)
}

/// The claim to the memory of the lower VTLs, released on drop.
pub(crate) struct Claims(());

impl Claims {
    /// Reads the list and claims its ranges.
    ///
    /// # Errors
    ///
    /// EINVAL, after a line in the log with the reason. ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        let text = given()?;
        let list = LowerMemory::parse(&text, vtl_private_end()).map_err(|refused| {
            let (start, len_bytes) = (refused.start_gpa, refused.len_bytes);
            let reason = refused.reason.text();
            pr_err!("not loaded: vtl0_mem=: {start:#x},{len_bytes:#x}: {reason}\n");
            EINVAL
        })?;
        if list.ranges().is_empty() {
            pr_warn!("no vtl0_mem=: the lower VTLs have no memory; pass vtl0_mem=START,LENGTH to the module or the kernel\n");
        }
        // If a claim fails, the drop releases the earlier ones.
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

/// The text of the list; empty if there is none.
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
        pr_warn!("reading the kernel's command line failed with error {length}; vtl0_mem= in it is ignored\n");
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
