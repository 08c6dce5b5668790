// SPDX-License-Identifier: GPL-2.0
//! `MSHV_VTL_XSAVE_GET` and `MSHV_VTL_XSAVE_SET`: the whole XSAVE image of the lower VTLs, of the VP
//! of the current CPU.
//!
//! x87 and SSE are those of the run page, as for an entry, and PKRU is the kernel's own; the rest is
//! in the image of `fpu.rs`. `pure/xsave.rs` knows the format.

use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::pure::xsave::Layout;
use crate::vp::claim::Pinned;
use crate::vp::machine::Machine;

/// Of the image in userspace, as XSAVE itself wants it.
const ALIGNMENT: u64 = 64;

/// `struct mshv_vtl_xsave`, without the flags, which are zero.
struct Request {
    size: usize,
    components: u64,
    image: u64,
}

impl Request {
    fn read(argument: UserPtr) -> Result<Self> {
        let operand = UserSlice::new(argument, size_of::<[u64; 3]>());
        let [head, components, image]: [u64; 3] = operand.reader().read()?;
        if head >> 32 != 0 || image % ALIGNMENT != 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            size: head as usize, // CAST: the high half is zero
            components,
            image,
        })
    }

    fn slice(&self, layout: &Layout) -> UserSlice {
        let image = UserPtr::from_addr(self.image as usize); // CAST: usize has 64 bits
        UserSlice::new(image, len_bytes(layout))
    }
}

fn len_bytes(layout: &Layout) -> usize {
    layout.len_words() * size_of::<u64>()
}

/// `MSHV_VTL_XSAVE_GET`.
///
/// # Errors
///
/// EFAULT; EINVAL for an operand that is not as described; EBUSY, ENXIO as for a run.
pub(crate) fn get(machine: &Machine, argument: UserPtr) -> Result<isize> {
    let layout = &machine.features().layout;
    let request = Request::read(argument)?;
    if request.components != 0 {
        return Err(EINVAL);
    }
    if request.size != 0 {
        if request.size < len_bytes(layout) {
            return Err(EINVAL);
        }
        let mut image = KVec::from_elem(0_u64, layout.len_words(), GFP_KERNEL)?;
        export(machine, &mut image)?;
        let mut writer = request.slice(layout).writer();
        for word in &image {
            writer.write(word)?;
        }
    }
    // CAST: usize has 64 bits
    let answer = [len_bytes(layout) as u64, layout.components(), request.image];
    UserSlice::new(argument, size_of_val(&answer))
        .writer()
        .write(&answer)?;
    Ok(0)
}

fn export(machine: &Machine, image: &mut [u64]) -> Result {
    Pinned::with(machine, |pinned| {
        let (vp, features, private) = pinned.parts();
        let pkru = private.pkru;
        vp.run_page.read_fx_state(private.extended.legacy_image()?);
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
/// EFAULT; EINVAL for an operand that is not as described and an image that the processor does not
/// take; EBUSY, ENXIO as for a run. Then nothing has changed.
pub(crate) fn set(machine: &Machine, argument: UserPtr) -> Result<isize> {
    let layout = &machine.features().layout;
    let request = Request::read(argument)?;
    if request.size != len_bytes(layout) || request.components != layout.components() {
        return Err(EINVAL);
    }
    let mut image = KVec::with_capacity(layout.len_words(), GFP_KERNEL)?;
    let mut reader = request.slice(layout).reader();
    for _ in 0..layout.len_words() {
        image.push(reader.read::<u64>()?, GFP_KERNEL)?;
    }
    if !layout.takes(&image, machine.features().limits.mxcsr) {
        return Err(EINVAL);
    }
    Pinned::with(machine, |pinned| {
        let (vp, _, private) = pinned.parts();
        private.pkru = layout.import(&image, private.extended.words());
        vp.run_page.write_fx_state(private.extended.legacy_image()?);
        Ok(0)
    })?
}
