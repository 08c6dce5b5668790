// SPDX-License-Identifier: GPL-2.0
//! XSAVE images of the lower VTLs in the standard format, as `MSHV_VTL_XSAVE_GET` and
//! `MSHV_VTL_XSAVE_SET` hand them over: where each component is, and which images XRSTOR takes.
//! [SDM1 13.4] `rust/cpu/fpu.rs` has the image that the processor saves to, `xsave_tests.rs` the tests.

use core::ops::Range;

const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;
const PKRU: u64 = 1 << 9;
const APX: u64 = 1 << 19;

/// Components that are handed over. MPX is not: XRSTOR faults on some of its values. Nor is AMX:
/// which tile configurations XRSTOR takes can't be told from the image.
const KNOWN: u64 = X87 | SSE | AVX | AVX512 | PKRU | APX;
const COMPONENTS: usize = 20;
const INDEX_PKRU: usize = 9;

/// Size of an FXSAVE image in 8-byte words.
pub const FX_WORDS: usize = 64;
/// So many of them have state; the processor looks at no other one.
pub const FX_STATE_WORDS: usize = SSE_REGISTERS.end;
/// The legacy region, in words of 8 bytes, as everything below.
const MXCSR_WORD: usize = 3;
const X87_CONTROL: usize = 0;
const X87_POINTERS: Range<usize> = 1..3;
const X87_REGISTERS: Range<usize> = 4..20;
const SSE_REGISTERS: Range<usize> = 20..52;
const LEGACY: Range<usize> = 0..64;
/// FCW of the initial state; everything else of x87 is zero then.
const X87_START: u64 = 0x37f;
/// XSTATE_BV; behind it XCOMP_BV and reserved words, all zero in the standard format.
pub const XSTATE_BV_WORD: usize = 64;
const ZERO_WORDS: Range<usize> = 65..72;
/// Legacy region and header.
const HEAD_WORDS: usize = 72;

/// What CPUID leaf 0xD says of a component: bytes from the begin of the image.
#[derive(Clone, Copy, Default)]
pub struct Area {
    /// EBX of the sub-leaf.
    pub offset: u32,
    /// EAX of the sub-leaf.
    pub len_bytes: u32,
}

impl Area {
    /// The words; `None` for what is no place behind the header of so many words.
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

/// Where the components are that are handed over.
pub struct Layout {
    components: u64,
    len_words: usize,
    areas: [Range<usize>; COMPONENTS],
}

impl Layout {
    /// `xcr0` is what VTL2 has on; `max_bytes` the length of the processor's image;
    /// `area` asks CPUID for a component.
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

    /// The components, by their bits in XCR0.
    pub const fn components(&self) -> u64 {
        self.components
    }

    /// Length of an image.
    pub const fn len_words(&self) -> usize {
        self.len_words
    }

    /// Whether XRSTOR takes an image of userspace. `mxcsr_mask` has the bits that MXCSR may have.
    pub fn takes(&self, image: &[u64], mxcsr_mask: u32) -> bool {
        let word = |index: usize| image.get(index).copied().unwrap_or(u64::MAX);
        image.len() == self.len_words
            && word(XSTATE_BV_WORD) & !self.components == 0
            && image
                .get(ZERO_WORDS)
                .is_some_and(|zero| zero.iter().all(|&word| word == 0))
            && word(MXCSR_WORD) as u32 & !mxcsr_mask == 0 // CAST: the low half
    }

    /// Areas of the components in a set, PKRU apart.
    fn areas(&self, set: u64) -> impl Iterator<Item = &Range<usize>> {
        let set = set & self.components & !PKRU;
        self.areas
            .iter()
            .enumerate()
            .filter(move |(number, _)| (set >> number) & 1 == 1)
            .map(|(_, words)| words)
    }

    /// Makes an image for userspace, in `image` of zeros, from the processor's and PKRU.
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

    /// Puts an image that [`Self::takes`] let through into the processor's; the answer is PKRU. What is
    /// not handed over stays, what the image leaves out gets its initial state.
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
