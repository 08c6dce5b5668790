// SPDX-License-Identifier: GPL-2.0
//! XSAVE images of the lower VTLs in the standard format, for `MSHV_VTL_XSAVE_GET` and
//! `MSHV_VTL_XSAVE_SET`: the offset of each component, and which images XRSTOR accepts. [SDM1 13.4]
//!
//! `rust/cpu/fpu.rs` has the image that the processor saves to.

use core::ops::Range;

const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;
const PKRU: u64 = 1 << 9;
const APX: u64 = 1 << 19;

/// Components in an image for userspace. MPX is not among them: XRSTOR faults on some of its
/// values. Nor is AMX: which tile configurations XRSTOR accepts can't be told from the image.
const KNOWN: u64 = X87 | SSE | AVX | AVX512 | PKRU | APX;
const COMPONENTS: usize = 20;
const INDEX_PKRU: usize = 9;

/// Size of an FXSAVE image in 8-byte words.
pub const FX_WORDS: usize = 64;
/// The first of them hold state; the processor does not read the others.
pub const FX_STATE_WORDS: usize = SSE_REGISTERS.end;
/// Offset of MXCSR in it, in bytes.
pub const FX_MXCSR: usize = 8 * MXCSR_WORD;

/// The legacy region, in 8-byte words like everything below.
const MXCSR_WORD: usize = 3;
const X87_CONTROL: usize = 0;
const X87_POINTERS: Range<usize> = 1..3;
const X87_REGISTERS: Range<usize> = 4..20;
const SSE_REGISTERS: Range<usize> = 20..52;
const LEGACY: Range<usize> = 0..64;
/// FCW of the initial state. The rest of the x87 state is zero then.
const X87_START: u64 = 0x37f;
/// XSTATE_BV. XCOMP_BV and reserved words follow, which are zero in the standard format.
pub const XSTATE_BV_WORD: usize = 64;
const ZERO_WORDS: Range<usize> = 65..72;
/// Legacy region and header.
const HEAD_WORDS: usize = 72;

/// Position of a component in the image, as CPUID leaf 0xD reports it.
#[derive(Clone, Copy, Default)]
pub struct Area {
    /// EBX of the sub-leaf: bytes from the beginning of the image.
    pub offset: u32,
    /// EAX of the sub-leaf.
    pub len_bytes: u32,
}

impl Area {
    /// The range in words; `None` if it does not lie between the header and the end of the image.
    fn words(self, max_words: usize) -> Option<Range<usize>> {
        let (offset, len) = (self.offset as usize, self.len_bytes as usize); // CAST: u32 fits
        let words = offset / 8..offset.checked_add(len)? / 8;
        let is_place = offset % 8 == 0
            && len % 8 == 0
            && HEAD_WORDS <= words.start
            && words.start < words.end
            && words.end <= max_words;
        is_place.then_some(words)
    }
}

/// Positions of the components in an image for userspace.
pub struct Layout {
    components: u64,
    len_words: usize,
    areas: [Range<usize>; COMPONENTS],
}

impl Layout {
    /// `xcr0` is what VTL2 has enabled, `max_bytes` the length of the processor's image; `area`
    /// reads the position of a component from CPUID.
    pub fn new(xcr0: u64, max_bytes: usize, area: impl Fn(u32) -> Area) -> Self {
        let mut layout = Self {
            components: X87 | SSE,
            len_words: HEAD_WORDS,
            areas: [const { 0..0 }; COMPONENTS],
        };
        for (number, slot) in (0..).zip(&mut layout.areas).skip(2) {
            let component = 1 << number;
            if xcr0 & KNOWN & component == 0 {
                continue;
            }
            if let Some(words) = area(number).words(max_bytes / 8) {
                layout.components |= component;
                layout.len_words = layout.len_words.max(words.end);
                *slot = words;
            }
        }
        layout
    }

    /// The components, as bits of XCR0.
    pub const fn components(&self) -> u64 {
        self.components
    }

    /// Length of an image in words.
    pub const fn len_words(&self) -> usize {
        self.len_words
    }

    /// Returns true if XRSTOR would accept an image of userspace. `mxcsr_mask` has the bits that
    /// may be set in MXCSR.
    pub fn takes(&self, image: &[u64], mxcsr_mask: u32) -> bool {
        let word = |index: usize| image.get(index).copied().unwrap_or(u64::MAX);
        image.len() == self.len_words
            && word(XSTATE_BV_WORD) & !self.components == 0
            && image
                .get(ZERO_WORDS)
                .is_some_and(|zero| zero.iter().all(|&word| word == 0))
            && word(MXCSR_WORD) as u32 & !mxcsr_mask == 0 // CAST: the low half
    }

    /// Positions of the components in a set, except PKRU.
    fn areas(&self, set: u64) -> impl Iterator<Item = &Range<usize>> {
        let set = set & self.components & !PKRU;
        self.areas
            .iter()
            .enumerate()
            .filter(move |(number, _)| (set >> number) & 1 == 1)
            .map(|(_, words)| words)
    }

    /// Fills an image for userspace, which is zero before, from the processor's image and PKRU.
    pub fn export(&self, kept: &[u64], pkru: u32, image: &mut [u64]) {
        let present = kept.get(XSTATE_BV_WORD).copied().unwrap_or(0) & self.components & !PKRU;
        copy(kept, image, &LEGACY);
        for words in self.areas(present) {
            copy(kept, image, words);
        }
        let mut told = present | X87 | SSE;
        if self.components & PKRU != 0 && pkru != 0 {
            put(image, self.areas[INDEX_PKRU].start, u64::from(pkru));
            told |= PKRU;
        }
        put(image, XSTATE_BV_WORD, told);
    }

    /// Copies an image that [`Self::takes`] accepts to the processor's image, and returns PKRU.
    /// Components that are not exchanged keep their values; those not present in the image get
    /// their initial state.
    pub fn import(&self, image: &[u64], kept: &mut [u64]) -> u32 {
        let present = image.get(XSTATE_BV_WORD).copied().unwrap_or(0);
        copy(image, kept, &LEGACY);
        if present & X87 == 0 {
            put(kept, X87_CONTROL, X87_START);
            clear(kept, &X87_POINTERS);
            clear(kept, &X87_REGISTERS);
        }
        if present & SSE == 0 {
            clear(kept, &SSE_REGISTERS);
        }
        for words in self.areas(present) {
            copy(image, kept, words);
        }
        if let Some(bits) = kept.get_mut(XSTATE_BV_WORD) {
            *bits = *bits & !self.components | present & !PKRU | X87 | SSE;
        }
        match image.get(self.areas[INDEX_PKRU].start) {
            Some(&word) if present & PKRU != 0 => word as u32, // CAST: PKRU has 32 bits
            _ => 0,
        }
    }
}

fn copy(from: &[u64], to: &mut [u64], words: &Range<usize>) {
    let from = from.get(words.clone()).unwrap_or_default();
    for (to, from) in to.iter_mut().skip(words.start).zip(from) {
        *to = *from;
    }
}

fn clear(image: &mut [u64], words: &Range<usize>) {
    for word in image.get_mut(words.clone()).unwrap_or_default() {
        *word = 0;
    }
}

fn put(image: &mut [u64], index: usize, value: u64) {
    if let Some(word) = image.get_mut(index) {
        *word = value;
    }
}

#[cfg(test)]
#[path = "xsave_tests.rs"]
mod tests;
