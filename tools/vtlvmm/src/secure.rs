// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The secure kernel at VTL1, beside the guest: its image, and its memory.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use vtl::GpaRange;
use vtl1_host::{Prepared, VTL1_LEN};

pub use vtl1_host::Secrets;

use crate::error::{Error, Result};
use crate::linux;
use crate::memory::{Range, place};

const WHAT: &str = "secure kernel";

/// An image, opened and checked.
pub struct SecureKernel {
    image: Vec<u8>,
    path: PathBuf,
}

impl SecureKernel {
    /// Opens an image of a secure kernel.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Content`].
    pub fn open(path: &Path) -> Result<Self> {
        let (file, _) = linux::open(WHAT, path)?;
        let mut image = Vec::new();
        // A larger one has no place in VTL1's memory.
        let read = file.take(VTL1_LEN).read_to_end(&mut image);
        read.map_err(|error| Error::File {
            what: WHAT,
            path: path.to_path_buf(),
            error,
        })?;
        if !vtl1_host::is_image(&image) {
            return Err(content(
                path,
                "is no image of one, or not all of it (expected build/vtl1)",
            ));
        }
        Ok(Self {
            image,
            path: path.to_path_buf(),
        })
    }

    /// Prepares it for its memory, beside VTL0's.
    pub(crate) fn prepare(self, secrets: &Secrets, own: Range, ram: &[Range]) -> Result<Prepared> {
        let vtl0: vtl::Result<Vec<GpaRange>> = ram
            .iter()
            .map(|piece| GpaRange::new(piece.start, piece.len()))
            .collect();
        Prepared::new(self.image, own.start, vtl0?, secrets).map_err(|error| match error {
            vtl1_host::Error::Vtl(error) => Error::Vtl(error),
            vtl1_host::Error::Memory => Error::Memory(error.to_string()),
            other => content(&self.path, &format!("cannot be loaded: {other}")),
        })
    }
}

fn content(path: &Path, problem: &str) -> Error {
    Error::Content {
        what: WHAT,
        path: path.to_path_buf(),
        problem: problem.to_owned(),
    }
}

/// Takes VTL1's memory from the guest's: the last large page of it.
pub(crate) fn take_memory(ram: &mut Vec<Range>) -> Result<Range> {
    let last = |piece: &Range| {
        let start = (piece.end & !(VTL1_LEN - 1)).checked_sub(VTL1_LEN)?;
        let own = Range::new(start, start + VTL1_LEN);
        (start >= place::HIGH && piece.contains(own)).then_some(own)
    };
    let found = ram.iter().enumerate().rev();
    let Some((at, own)) = found
        .filter_map(|(at, piece)| Some((at, last(piece)?)))
        .next()
    else {
        return Err(Error::Memory(
            "there is no large page for VTL1 in VTL0's memory above 1 MiB; give the machine more \
             with --memory, or the emulator with emu.vtl0="
                .to_owned(),
        ));
    };
    let piece = ram[at];
    let rest = [
        Range::new(piece.start, own.start),
        Range::new(own.end, piece.end),
    ];
    ram.splice(at..=at, rest.into_iter().filter(|rest| !rest.is_empty()));
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn take(ram: &[Range]) -> Option<(Range, Vec<Range>)> {
        let mut ram = ram.to_vec();
        let own = take_memory(&mut ram).ok()?;
        Some((own, ram))
    }

    #[test]
    fn the_last_large_page_is_no_longer_the_guests() {
        let low = Range::new(0, 0x7_0000);
        let own = Range::new(6 * MIB, 8 * MIB);
        let expected = |rest: &[Range]| Some((own, [&[low][..], rest].concat()));
        let below = Range::new(MIB, 6 * MIB);
        assert_eq!(take(&[low, Range::new(MIB, 8 * MIB)]), expected(&[below]));
        // The end is in the middle of a large page.
        let above = Range::new(8 * MIB, 9 * MIB);
        assert_eq!(
            take(&[low, Range::new(MIB, 9 * MIB)]),
            expected(&[below, above])
        );
        // A last piece without one, and a piece that is one.
        let odd = Range::new(11 * MIB, 13 * MIB);
        assert_eq!(take(&[low, own, odd]), expected(&[odd]));
    }

    #[test]
    fn a_guest_without_a_large_page_above_the_first_mebibyte_has_none_for_vtl1() {
        for ram in [
            &[][..],
            &[Range::new(0, 0x7_0000)],
            &[Range::new(0, 2 * MIB)],
            &[Range::new(3 * MIB, 5 * MIB)],
        ] {
            assert_eq!(take(ram), None, "{ram:x?}");
        }
    }
}
