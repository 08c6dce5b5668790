// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The extended state of the lower VTLs: vector registers, protection keys and
//! the like, as an XSAVE image in the standard format.
//!
//! [`crate::Vp`] reads and writes it; what an image may hold is the kernel's
//! affair, so that a bad one is refused there.

/// What XSAVE aligns an image to, and writes at a time at most.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(pub(crate) [u64; LINE_WORDS]);

const LINE_WORDS: usize = 8;
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
        // CAST: widening.
        let count = (size as usize).div_ceil(LINE_LEN);
        let mut image = Self {
            lines: vec![Line::default(); count],
            size,
            xfeatures,
        };
        image.set_word(MXCSR, MXCSR_INITIAL);
        image
    }

    /// Takes an image that [`Self::to_bytes`] gave, with the components it was
    /// made for.
    ///
    /// The kernel looks at it when it is set.
    pub fn from_bytes(xfeatures: u64, bytes: &[u8]) -> Option<Self> {
        let size = u32::try_from(bytes.len()).ok()?;
        let lines = bytes.chunks(LINE_LEN).map(|chunk| {
            let mut words = chunk.chunks(8).map(|word| {
                let mut whole = [0; 8];
                whole[..word.len()].copy_from_slice(word);
                u64::from_le_bytes(whole)
            });
            Line([(); LINE_WORDS].map(|()| words.next().unwrap_or(0)))
        });
        Some(Self {
            lines: lines.collect(),
            size,
            xfeatures,
        })
    }

    /// The image as it stands in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.lines.iter().flat_map(|line| line.0);
        let bytes = words.flat_map(u64::to_le_bytes);
        // CAST: widening.
        bytes.take(self.size as usize).collect()
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

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [Line] {
        &mut self.lines
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
        assert_eq!(image.lines().as_ptr().addr() % 64, 0);
        assert_eq!(image.lines().len(), 14);
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
