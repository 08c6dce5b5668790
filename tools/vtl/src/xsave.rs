// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The extended state of the lower VTLs: vector registers, protection keys and so on, as an XSAVE
//! image in the standard format.
//!
//! [`crate::Vp`] reads and writes it. The kernel decides which images are valid, and refuses
//! others.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Alignment of an XSAVE image, and the largest unit in which it is written.
#[repr(C, align(64))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
struct Line([u64; 8]);

const LINE_LEN: usize = 64;
const MXCSR: usize = 24;
/// MXCSR of a processor after reset.
const MXCSR_INITIAL: u64 = 0x1f80;
const XSTATE_BV: usize = 512;

/// An image of the extended state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XsaveImage {
    lines: Vec<Line>,
    size: u32,
    xfeatures: u64,
}

impl XsaveImage {
    /// The state of a processor after reset: every component is initial.
    pub(crate) fn initial(size: u32, xfeatures: u64) -> Self {
        let mut image = Self::zeroed(size, xfeatures);
        image.set_word(MXCSR, MXCSR_INITIAL);
        image
    }

    fn zeroed(size: u32, xfeatures: u64) -> Self {
        // CAST: widening.
        let count = (size as usize).div_ceil(LINE_LEN);
        Self {
            lines: vec![Line::default(); count],
            size,
            xfeatures,
        }
    }

    /// Makes an image from what [`Self::to_bytes`] returned, and the components it was made for.
    ///
    /// The kernel checks it when it is set.
    pub fn from_bytes(xfeatures: u64, bytes: &[u8]) -> Option<Self> {
        let size = u32::try_from(bytes.len()).ok()?;
        let mut image = Self::zeroed(size, xfeatures);
        image.bytes_mut().copy_from_slice(bytes);
        Some(image)
    }

    /// The image as bytes, as in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes().to_vec()
    }

    /// Components that the image has room for, by their bits in XCR0.
    pub fn xfeatures(&self) -> u64 {
        self.xfeatures
    }

    /// Components that are not in their initial state (XSTATE_BV).
    pub fn in_use(&self) -> u64 {
        self.word(XSTATE_BV).unwrap_or(0)
    }

    /// Control and status of SSE.
    pub fn mxcsr(&self) -> u32 {
        // CAST: the low half.
        self.word(MXCSR).unwrap_or(0) as u32
    }

    /// The eight bytes at `offset`, a multiple of eight; `None` outside.
    pub fn word(&self, offset: usize) -> Option<u64> {
        let line = self.lines.get(offset / LINE_LEN)?;
        (offset % 8 == 0).then(|| line.0[offset % LINE_LEN / 8])
    }

    fn set_word(&mut self, offset: usize, value: u64) {
        if let Some(line) = self.lines.get_mut(offset / LINE_LEN) {
            line.0[offset % LINE_LEN / 8] = value;
        }
    }

    /// The bytes of the image.
    pub(crate) fn bytes(&self) -> &[u8] {
        // CAST: widening.
        &self.lines.as_bytes()[..self.size as usize]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // CAST: widening.
        &mut self.lines.as_mut_bytes()[..self.size as usize]
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_aligned_as_the_processor_wants_them() {
        let image = XsaveImage::initial(576 + 256 + 8, 7);
        assert_eq!(image.bytes().as_ptr().addr() % 64, 0);
        assert_eq!(image.bytes().len(), 840);
        assert_eq!(image.size(), 840);
    }

    #[test]
    fn an_initial_image_uses_nothing_but_has_mxcsr() {
        let image = XsaveImage::initial(832, 7);
        assert_eq!((image.in_use(), image.mxcsr()), (0, 0x1f80));
        assert_eq!(image.xfeatures(), 7);
        let set = image.to_bytes().iter().filter(|byte| **byte != 0).count();
        assert_eq!(set, 2);
    }

    #[test]
    fn bytes_and_images_are_the_same() {
        let bytes: Vec<u8> = (0..840_u32).map(|at| (at % 251) as u8).collect();
        let image = XsaveImage::from_bytes(7, &bytes);
        let image = image.unwrap_or_else(|| XsaveImage::initial(0, 0));
        assert_eq!(image.to_bytes(), bytes);
        assert_eq!(image.size(), 840);
        assert_eq!(
            image.word(512),
            Some(u64::from_le_bytes([10, 11, 12, 13, 14, 15, 16, 17]))
        );
        assert_eq!(image.word(513), None);
        assert_eq!(image.word(14 * 64), None);
    }
}
