// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Frames: type and length, 32 bits each, the body, zeros up to a multiple of 8.

use super::BadFile;
use crate::bytes::{is_zero, length, word32};

/// Type and length.
const HEAD_LEN: usize = 8;
/// Stream, count and first, of a body that is about records.
pub(super) const PLACE_LEN: usize = 16;
/// Body of a leaf.
pub(super) const LEAF_LEN: usize = PLACE_LEN + 32;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Frame {
    /// Records of one stream.
    Records = 1,
    /// An event.
    Event = 2,
    /// The leaf of a segment.
    Leaf = 3,
    /// A TDREPORT.
    Report = 4,
    /// A quote.
    Quote = 5,
    /// The event log of the boot, as ACPI's table CCEL names it.
    BootLog = 6,
}

impl Frame {
    /// The frame with this type.
    #[must_use]
    pub fn new(kind: u32) -> Option<Self> {
        use Frame::{BootLog, Event, Leaf, Quote, Records, Report};
        let all = [Records, Event, Leaf, Report, Quote, BootLog];
        // CAST: the discriminant is what stands in the file.
        all.into_iter().find(|frame| *frame as u32 == kind)
    }
}

/// Type and body of a frame, and where the next one is.
type Whole<'a> = (u32, &'a [u8], usize);

/// The frame at `at`; `None` where no whole one is. Zeros up to the end are none: after a loss of power a
/// file may be as long as it should be, and what was written last is not there.
pub(super) fn next(file: &[u8], at: usize) -> Result<Option<Whole<'_>>, BadFile> {
    let (Some(kind), Some(len)) = (word32(file, at), word32(file, at.saturating_add(4))) else {
        return Ok(None);
    };
    if kind == 0 && len == 0 && file.get(at..).is_some_and(is_zero) {
        return Ok(None);
    }
    let start = at.saturating_add(HEAD_LEN);
    let end = start.saturating_add(length(len));
    let padded = end.checked_next_multiple_of(8).unwrap_or(usize::MAX);
    let (Some(body), Some(padding)) = (file.get(start..end), file.get(end..padded)) else {
        return Ok(None);
    };
    match is_zero(padding) {
        true => Ok(Some((kind, body, padded))),
        false => Err(BadFile::Form { at }),
    }
}
