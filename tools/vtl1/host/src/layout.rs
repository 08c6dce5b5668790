// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is where in VTL1's memory: fixed pages, then stacks and image, then page tables.

use vtl1::boot::{
    ASSIST_VA, BOOT_VA, FAULT_STACK_END_VA, FAULT_STACK_LEN, HYPERCALL_VA, IMAGE_VA, STACK_END_VA,
    STACK_LEN,
};
use vtl1::image::Image;
use vtl1::ranges::PAGE;

use crate::tables::{Access, Tables};
use crate::{Error, Result};

/// Length of VTL1's memory: one large page, so that its rights are in one entry.
pub const VTL1_LEN: u64 = 2 << 20;

/// Offsets in VTL1's memory.
pub(crate) const BOOT: u64 = 0;
pub(crate) const ASSIST: u64 = PAGE;
pub(crate) const HYPERCALL: u64 = 2 * PAGE;
const STACK: u64 = 3 * PAGE;
const FAULT_STACK: u64 = STACK + STACK_LEN;
/// Where the image is.
pub(crate) const IMAGE: u64 = FAULT_STACK + FAULT_STACK_LEN;

/// Offset of the page tables, after the image.
pub(crate) fn tables_at(image: &Image) -> u64 {
    IMAGE + image.len()
}

/// Maps what VTL1 has of its own memory, at `base`.
pub(crate) fn map_own(tables: &mut Tables, base: u64, image: &Image) -> Result<()> {
    use Access::{Execute, Read, Write};
    let Image {
        text,
        constants,
        data,
        zero,
        ..
    } = *image;
    let mut at = IMAGE;
    for (len, access) in [(text, Execute), (constants, Read), (data + zero, Write)] {
        map(tables, IMAGE_VA + (at - IMAGE), base + at, len, access)?;
        at += len;
    }
    for (address, offset, len) in [
        (BOOT_VA, BOOT, PAGE),
        (ASSIST_VA, ASSIST, PAGE),
        (HYPERCALL_VA, HYPERCALL, PAGE),
        (STACK_END_VA - STACK_LEN, STACK, STACK_LEN),
        (
            FAULT_STACK_END_VA - FAULT_STACK_LEN,
            FAULT_STACK,
            FAULT_STACK_LEN,
        ),
    ] {
        map(tables, address, base + offset, len, Write)?;
    }
    Ok(())
}

/// Maps `len` bytes, in large pages where possible.
pub(crate) fn map(
    tables: &mut Tables,
    address: u64,
    gpa: u64,
    len: u64,
    access: Access,
) -> Result<()> {
    const LARGE: u64 = 2 << 20;
    let mut done = 0;
    while done < len {
        let (address, gpa) = (address + done, gpa + done);
        let is_large = (address | gpa) % LARGE == 0 && len - done >= LARGE;
        let mapped = if is_large {
            tables.map_large(address, gpa, access)
        } else {
            tables.map_page(address, gpa, access)
        };
        mapped.ok_or(Error::NoRoom)?;
        done += if is_large { LARGE } else { PAGE };
    }
    Ok(())
}

/// Returns the offset in VTL1's memory of `len` bytes at VTL1's `address`, if they are in its image
/// or on one of its stacks.
pub(crate) fn offset_of(address: u64, len: u64, image_len: u64) -> Option<u64> {
    [
        (IMAGE_VA, IMAGE, image_len),
        (STACK_END_VA - STACK_LEN, STACK, STACK_LEN),
        (
            FAULT_STACK_END_VA - FAULT_STACK_LEN,
            FAULT_STACK,
            FAULT_STACK_LEN,
        ),
    ]
    .into_iter()
    .find_map(|(start, offset, whole)| {
        let at = address.checked_sub(start)?;
        (at.checked_add(len)? <= whole).then_some(offset + at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_memory_do_not_overlap_and_a_text_is_found_in_them() {
        let image = Image {
            entry: 0x40,
            text: 0x3000,
            constants: 0x1000,
            data: 0x1000,
            zero: 0x6000,
        };
        let base = 0x80_0000;
        let mut tables = Tables::new(base + tables_at(&image), 20);
        assert!(map_own(&mut tables, base, &image).is_ok());
        assert_eq!(offset_of(IMAGE_VA + 5, 10, image.len()), Some(IMAGE + 5));
        assert_eq!(offset_of(IMAGE_VA + 0xaff0, 0x11, image.len()), None);
        assert_eq!(
            offset_of(STACK_END_VA - 16, 16, image.len()),
            Some(FAULT_STACK - 16)
        );
        assert_eq!(offset_of(STACK_END_VA - 16, 17, image.len()), None);
        assert_eq!(
            offset_of(FAULT_STACK_END_VA - 1, 1, image.len()),
            Some(IMAGE - 1)
        );
        assert_eq!(offset_of(BOOT_VA, 1, image.len()), None);
        assert_eq!(offset_of(u64::MAX, 2, image.len()), None);
    }
}
