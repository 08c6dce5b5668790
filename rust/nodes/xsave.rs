// SPDX-License-Identifier: GPL-2.0
//! `MSHV_VTL_XSAVE_GET` and `MSHV_VTL_XSAVE_SET`: the complete XSAVE image of the lower VTLs, of
//! the VP of the current CPU.
//!
//! x87 and SSE are in the run page, as for an entry, and PKRU is kept separately; the rest is in
//! the image of `fpu.rs`. `pure/xsave.rs` has the format.

use kernel::prelude::*;
use kernel::uaccess::UserSlice;

use crate::glue::abi::mshv_vtl_xsave;
use crate::nodes::args::Argument;
use crate::pure::xsave::Layout;
use crate::vp::claim::Pinned;
use crate::vp::machine::Machine;

/// Alignment of the image in user memory, as XSAVE itself requires.
const ALIGNMENT: u64 = 64;

fn read(argument: Argument) -> Result<mshv_vtl_xsave> {
    let request: mshv_vtl_xsave = argument.read()?;
    if request.flags != 0 || request.image % ALIGNMENT != 0 {
        return Err(EINVAL);
    }
    Ok(request)
}

fn image_of(request: &mshv_vtl_xsave, layout: &Layout) -> UserSlice {
    Argument::pointer(request.image).bytes(len_bytes(layout))
}

fn len_bytes(layout: &Layout) -> usize {
    layout.len_words() * size_of::<u64>()
}

/// `MSHV_VTL_XSAVE_GET`.
///
/// # Errors
///
/// EFAULT; EINVAL for an invalid operand; EBUSY, ENXIO as for a run.
pub(crate) fn get(machine: &Machine, argument: Argument) -> Result<isize> {
    let layout = &machine.features().layout;
    let request = read(argument)?;
    if request.xfeatures != 0 {
        return Err(EINVAL);
    }
    let size = request.size as usize; // CAST: u32 fits
    if size != 0 {
        if size < len_bytes(layout) {
            return Err(EINVAL);
        }
        let mut image = KVec::from_elem(0_u64, layout.len_words(), GFP_KERNEL)?;
        export(machine, &mut image)?;
        let mut writer = image_of(&request, layout).writer();
        for word in &image {
            writer.write(word)?;
        }
    }
    argument.write(&mshv_vtl_xsave {
        size: len_bytes(layout) as u32, // CAST: CPUID says it in 32 bits
        xfeatures: layout.components(),
        ..request
    })?;
    Ok(0)
}

fn export(machine: &Machine, image: &mut [u64]) -> Result {
    Pinned::with(machine, |pinned| {
        let (vp, features, private) = pinned.parts();
        let pkru = private.pkru;
        vp.run_page.read_fx_state(private.extended.legacy_image());
        features
            .layout
            .export(private.extended.words(), pkru, image);
        Ok(())
    })?
}

/// `MSHV_VTL_XSAVE_SET`.
///
/// # Errors
///
/// EFAULT; EINVAL for an invalid operand, or an image that the processor does not accept; EBUSY,
/// ENXIO as for a run. Then nothing has changed.
pub(crate) fn set(machine: &Machine, argument: Argument) -> Result<isize> {
    let layout = &machine.features().layout;
    let request = read(argument)?;
    // CAST: u32 fits
    if request.size as usize != len_bytes(layout) || request.xfeatures != layout.components() {
        return Err(EINVAL);
    }
    let mut image = KVec::with_capacity(layout.len_words(), GFP_KERNEL)?;
    let mut reader = image_of(&request, layout).reader();
    for _ in 0..layout.len_words() {
        image.push(reader.read::<u64>()?, GFP_KERNEL)?;
    }
    if !layout.takes(&image, machine.features().limits.mxcsr) {
        return Err(EINVAL);
    }
    Pinned::with(machine, |pinned| {
        let (vp, _, private) = pinned.parts();
        private.pkru = layout.import(&image, private.extended.words());
        vp.run_page.write_fx_state(private.extended.legacy_image());
        Ok(0)
    })?
}
