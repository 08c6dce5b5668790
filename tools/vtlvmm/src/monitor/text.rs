// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel's text in memory: where it is, and what of it differs from the image.

mod compare;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::baseline::Baseline;
use super::finding::{Finding, Key};
use super::image::KernelImage;
use super::indirect;
use super::order::Order;
use super::patched;
use super::roots::Tables;
use super::sites::{self, LONGEST, Site, Verdict};
use super::view::{Physical, Root};

use compare::{Changes, Compare};

/// Bytes that are compared at once.
pub const PAGE: usize = 4096;

/// Where the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Linear address of its first byte.
    pub linear: u64,
    /// Guest-physical address of it.
    pub gpa: u64,
}

/// The linear addresses at which Linux may place its image, in steps of a large page.
pub(super) const IMAGES: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// Finds the text: it is the first page of the kernel's image.
pub fn find<P: Physical>(memory: &P, root: Root) -> Option<super::tables::Leaf> {
    const STEP: usize = 1 << 21;
    let mut candidates = IMAGES.step_by(STEP);
    candidates.find_map(|linear| super::tables::leaf(memory, root, linear))
}

/// The text as it ought to be.
#[derive(Debug)]
pub struct Text {
    image: Arc<KernelImage>,
    place: Place,
    expected: Vec<u8>,
    order: Order,
    /// Places that had INT3 as first byte of late.
    in_change: BTreeMap<u32, Changes>,
    /// Bytes in which the kernel that was found differed from the image at places that change at boot.
    adopted: usize,
}

impl Text {
    /// Compares all of the text with the image, and takes over what the kernel has patched at places where
    /// it does so while it starts. If a trusted start has told what is to be there, only what differs from
    /// start to start is taken over. What else differs is found by the checks.
    pub fn baseline<P: Physical>(
        image: Arc<KernelImage>,
        memory: &P,
        root: Root,
        place: Place,
        trusted: Option<&Baseline>,
    ) -> Self {
        let mut expected = relocated(&image, place.linear.wrapping_sub(image.base));
        let (own, mut adopted) = match trusted {
            Some(trusted) => patched::apply(&image, &trusted.patched, &mut expected),
            None => (&image.adopted, 0),
        };
        let mut page = [0; PAGE];
        for (number, chunk) in expected.chunks_mut(PAGE).enumerate() {
            let Some(now) = page.get_mut(..chunk.len()) else {
                break;
            };
            // CAST: widening.
            if !memory.read(place.gpa + (number * PAGE) as u64, now) || now == chunk {
                continue;
            }
            adopted += adopt(chunk, now, |offset| own.contains(number * PAGE + offset));
        }
        for at in trusted.map_or(&[][..], |it| &it.elsewhere) {
            adopted += adopt_branch(&image, memory, root, place, *at, &mut expected);
        }
        // A trusted start has told how labels are that do not change any more.
        let sealed = trusted.map_or(&image.sealed[..], |_| &[]);
        for site in image.sites.iter().chain(sealed) {
            adopted += adopt_site(&image, memory, place, *site, &mut expected);
        }
        let order = Order::new(expected.len().div_ceil(PAGE));
        Self {
            image,
            place,
            expected,
            order,
            in_change: BTreeMap::new(),
            adopted,
        }
    }

    /// What was patched while the kernel started and will be so the next time, for a later start.
    pub fn learned(&self) -> Baseline {
        let original = relocated(&self.image, self.place.linear.wrapping_sub(self.image.base));
        Baseline {
            patched: patched::learned(&self.image, &original, &self.expected),
            elsewhere: patched::elsewhere(&self.image, &self.expected),
            ..Baseline::default()
        }
    }

    /// Where it is.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Bytes that were taken over from the running kernel.
    pub const fn adopted(&self) -> usize {
        self.adopted
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// It has some.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    /// Compares the next pages, and those of findings again.
    pub fn check<'a, P: Physical>(
        &mut self,
        memory: &P,
        used: &[Tables],
        pages: usize,
        again: impl Iterator<Item = &'a Key>,
    ) -> Vec<Finding> {
        let again = again.filter_map(|key| Some(usize::try_from(key.place).ok()? / PAGE));
        let pages: Vec<usize> = again.chain(self.order.take(pages)).collect();
        let mut compare = Compare::new(self, memory, used);
        let found = pages.iter().filter_map(|page| compare.page(*page));
        let mut found: Vec<Finding> = found.collect();
        found.extend(compare.settle());
        let changing = compare.changing;
        let visited: BTreeSet<usize> = pages.into_iter().collect();
        compare::remember(&mut self.in_change, &changing, |at| {
            // CAST: u32 fits.
            visited.contains(&(at as usize / PAGE))
        });
        found
    }

    /// How an address is called, as an offset in the text.
    pub fn name(&self, linear: u64) -> Option<String> {
        let offset = u32::try_from(linear.checked_sub(self.place.linear)?).ok()?;
        // CAST: widening.
        (u64::from(offset) < self.expected.len() as u64).then_some(())?;
        self.image.symbols.name_at(offset)
    }

    /// An address, with its name if it is of the text.
    pub fn show(&self, linear: u64) -> String {
        match self.name(linear) {
            Some(name) => format!("{linear:#x} ({name})"),
            None => format!("{linear:#x}"),
        }
    }

    /// Returns true if the address is of the text.
    pub fn contains(&self, linear: u64) -> bool {
        // CAST: widening.
        linear.wrapping_sub(self.place.linear) < self.expected.len() as u64
    }

    /// Returns true if the address is of text that is freed after the start.
    pub fn was_init(&self, linear: u64) -> bool {
        let (start, end) = self.image.init_text;
        let offset = linear.wrapping_sub(self.place.linear);
        start <= offset && offset < end
    }

    /// The address of a symbol of the text.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let offset = self.image.symbols.offset_of(name)?;
        Some(self.place.linear.wrapping_add(offset.into()))
    }
}

/// Takes over the bytes that may differ. Returns how many did.
fn adopt(old: &mut [u8], new: &[u8], may_differ: impl Fn(usize) -> bool) -> usize {
    const WORD: usize = 8;
    let mut adopted = 0;
    let words = old.chunks_mut(WORD).zip(new.chunks(WORD)).enumerate();
    for (number, (old, new)) in words.filter(|(_, (old, new))| old != new) {
        for (offset, (old, new)) in old.iter_mut().zip(new).enumerate() {
            if old != new && may_differ(number * WORD + offset) {
                *old = *new;
                adopted += 1;
            }
        }
    }
    adopted
}

/// Takes over what is at a place that may change, if it is one of those that may be there.
fn adopt_site<P: Physical>(
    image: &KernelImage,
    memory: &P,
    place: Place,
    site: Site,
    expected: &mut [u8],
) -> usize {
    let mut bytes = [0; LONGEST];
    let (Ok(at), Some(now)) = (usize::try_from(site.at), bytes.get_mut(..site.len())) else {
        return 0;
    };
    let Some(expected) = expected.get_mut(at..at + site.len()) else {
        return 0;
    };
    let is_new = memory.read(place.gpa + u64::from(site.at), now) && now != expected;
    // What is in the middle of a change ends as something else.
    if !is_new || sites::is_in_change(now) || site.judge(now, &image.map()) != Verdict::Allowed {
        return 0;
    }
    adopt(expected, now, |_| true)
}

/// Takes over an indirect branch to a thunk outside of the text, if it is one of the same register.
fn adopt_branch<P: Physical>(
    image: &KernelImage,
    memory: &P,
    root: Root,
    place: Place,
    at: u32,
    expected: &mut [u8],
) -> usize {
    let mut bytes = [0; indirect::LONGEST];
    // CAST: u32 fits.
    let Some(expected) = expected.get_mut(at as usize..) else {
        return 0;
    };
    if !memory.read(place.gpa + u64::from(at), &mut bytes) {
        return 0;
    }
    let branch = (at, &*expected, &bytes[..]);
    let Some(len) = indirect::to_same_register(image, memory, root, place, branch) else {
        return 0;
    };
    match (expected.get_mut(..len), bytes.get(..len)) {
        (Some(expected), Some(now)) => adopt(expected, now, |_| true),
        _ => 0,
    }
}

fn relocated(image: &KernelImage, delta: u64) -> Vec<u8> {
    let mut text = image.text.clone();
    let (narrow, wide) = &image.moved;
    for at in narrow.iter().filter_map(|at| usize::try_from(*at).ok()) {
        if let Some(number) = text.get_mut(at..).and_then(|it| it.first_chunk_mut()) {
            // CAST: the kernel adds the lower half.
            *number = u32::from_le_bytes(*number)
                .wrapping_add(delta as u32)
                .to_le_bytes();
        }
    }
    for at in wide.iter().filter_map(|at| usize::try_from(*at).ok()) {
        if let Some(number) = text.get_mut(at..).and_then(|it| it.first_chunk_mut()) {
            *number = u64::from_le_bytes(*number)
                .wrapping_add(delta)
                .to_le_bytes();
        }
    }
    text
}
