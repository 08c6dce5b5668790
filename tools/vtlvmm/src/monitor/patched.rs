// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a kernel has patched while it started, as one start tells it another: the bytes that follow from the
//! processor and the command line, and none that follow from where things are.

use std::borrow::Cow;

use super::baseline::Run;
use super::image::{Bits, KernelImage};
use super::sites;

/// What `expected`, the text that runs, has in place of what was booted, and will have the next time.
pub(super) fn learned(image: &KernelImage, original: &[u8], expected: &[u8]) -> Vec<Run> {
    let elsewhere = calls_of_elsewhere(image, expected);
    let lasts = |at: u32| {
        // CAST: u32 fits.
        let index = at as usize;
        image.adopted.contains(index)
            && !image.varying.contains(index)
            && !elsewhere.contains(index)
            && sites::covering(&image.sites, at).is_none()
    };
    let mut runs: Vec<Run> = Vec::new();
    let mut end = None;
    for (at, (old, new)) in (0_u32..).zip(original.iter().zip(expected)) {
        if old == new || !lasts(at) {
            continue;
        }
        match runs.last_mut() {
            Some((_, bytes)) if end == Some(at) => bytes.push(*new),
            _ => runs.push((at, vec![*new])),
        }
        end = at.checked_add(1);
    }
    runs
}

/// Puts what another start has told into `text`. Returns what else may differ, and how many bytes it were.
pub(super) fn apply<'a>(
    image: &'a KernelImage,
    runs: &[Run],
    text: &mut [u8],
) -> (Cow<'a, Bits>, usize) {
    let mut own = image.varying.clone();
    let mut told = Bits::with_len(text.len());
    let mut count = 0;
    for (at, bytes) in runs {
        // CAST: u32 fits.
        let place = text.get_mut(*at as usize..);
        if let Some(place) = place.and_then(|it| it.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
            // CAST: widening.
            told.add(u64::from(*at), bytes.len() as u64);
            count += bytes.len();
        }
    }
    for at in &image.indirect {
        // CAST: u32 fits.
        let place = *at as usize;
        if !(place..place + INDIRECT_LEN).any(|at| told.contains(at)) {
            // CAST: widening.
            own.add(u64::from(*at), INDIRECT_LEN as u64);
        }
    }
    (Cow::Owned(own), count)
}

/// Bytes of a place with an indirect branch.
pub(super) const INDIRECT_LEN: usize = 6;

/// The places of indirect branches that have become branches to outside of the text: on some processors Linux makes
/// thunks for them, which are where there was room.
fn calls_of_elsewhere(image: &KernelImage, text: &[u8]) -> Bits {
    let mut bits = Bits::with_len(text.len());
    for at in &image.indirect {
        // CAST: u32 fits.
        let place = text.get(*at as usize..);
        let bytes = place.and_then(|it| it.first_chunk::<INDIRECT_LEN>());
        let is_elsewhere = bytes.and_then(distance).is_some_and(|distance| {
            let target = i64::from(*at) + distance;
            // CAST: the text is shorter than 4 GiB.
            !(0..text.len() as i64).contains(&target)
        });
        if is_elsewhere {
            // CAST: widening.
            bits.add(u64::from(*at), INDIRECT_LEN as u64);
        }
    }
    bits
}

/// How far from its first byte a call or jump leads. It may have a prefix, or be conditional.
fn distance(bytes: &[u8; INDIRECT_LEN]) -> Option<i64> {
    let (len, stored) = match *bytes {
        [0xe8 | 0xe9, a, b, c, d, _] => (5, [a, b, c, d]),
        [0x2e, 0xe8 | 0xe9, a, b, c, d] => (6, [a, b, c, d]),
        [0x0f, 0x80..=0x8f, a, b, c, d] => (6, [a, b, c, d]),
        _ => return None,
    };
    Some(len + i64::from(i32::from_le_bytes(stored)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::fake;

    /// A kernel with three indirect branches, at 0x40, 0x50 and 0x60.
    fn image() -> KernelImage {
        let mut image = fake::image();
        image.indirect = vec![0x40, 0x50, 0x60];
        for at in &image.indirect {
            image.adopted.add(u64::from(*at), 6);
        }
        image
    }

    #[test]
    fn branches_to_outside_of_the_text_are_not_told_and_may_be_elsewhere_the_next_time() {
        let image = image();
        let mut now = image.text.clone();
        now[0x40..0x46].copy_from_slice(&[0x2e, 0xe8, 0, 0, 0, 0x10]);
        now[0x50..0x55].copy_from_slice(&[0xe9, 0, 1, 0, 0]);
        now[0x60..0x66].copy_from_slice(&[0x0f, 0x84, 0xff, 0xff, 0xff, 0xe0]);
        let runs = learned(&image, &image.text, &now);
        assert_eq!(runs, [(0x50, vec![0xe9, 0, 1, 0, 0])]);
        let mut next = image.text.clone();
        let (own, count) = apply(&image, &runs, &mut next);
        assert_eq!((count, &next[0x50..0x55]), (5, &now[0x50..0x55]));
        let may_differ = [0x40, 0x45, 0x46, 0x50, 0x55, 0x60, 0x65].map(|at| own.contains(at));
        assert_eq!(may_differ, [true, true, false, false, false, true, true]);
    }

    #[test]
    fn what_becomes_something_else_is_no_branch_elsewhere() {
        for bytes in [
            [0xff, 0xd0, 0x90, 0x90, 0x90, 0x90],
            [0x0f, 0xae, 0xe8, 0xff, 0xd0, 0x90],
            [0x2e, 0xff, 0xd0, 0, 0, 0x70],
        ] {
            assert_eq!(distance(&bytes), None, "{bytes:x?}");
        }
    }
}
