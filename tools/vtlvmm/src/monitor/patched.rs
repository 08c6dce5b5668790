// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a kernel has patched while it started, as one start tells it another: the bytes that follow from the
//! processor and the command line, and none that follow from where things are.

use super::baseline::Run;
use super::image::{Bits, KernelImage};
use super::indirect;
use super::sites;

/// What may be told: it is patched at boot, or never again once the constants are read-only, and is the same in
/// each start.
pub(super) fn lasting(image: &KernelImage) -> impl Fn(u32) -> bool {
    let mut sealed = Bits::with_len(image.text.len());
    for site in &image.sealed {
        // CAST: a handful.
        sealed.add(site.at.into(), site.len() as u64);
    }
    move |at| {
        // CAST: u32 fits.
        let index = at as usize;
        (image.adopted.contains(index) || sealed.contains(index))
            && !image.varying.contains(index)
            && sites::covering(&image.sites, at).is_none()
    }
}

/// The places of indirect branches that have become branches to outside of the text.
pub(super) fn elsewhere(image: &KernelImage, expected: &[u8]) -> Vec<u32> {
    let all = image.indirect.iter().copied();
    all.filter(|at| indirect::elsewhere(expected, *at).is_some())
        .collect()
}

/// What `expected`, the text that runs, has in place of what was booted, and will have the next time.
pub(super) fn learned(image: &KernelImage, original: &[u8], expected: &[u8]) -> Vec<Run> {
    let mut moving = Bits::with_len(expected.len());
    for at in elsewhere(image, expected) {
        let len = indirect::elsewhere(expected, at).map_or(0, |branch| branch.len);
        // CAST: a handful.
        moving.add(at.into(), len as u64);
    }
    let lasts = lasting(image);
    let mut runs: Vec<Run> = Vec::new();
    let mut end = None;
    for (at, (old, new)) in (0_u32..).zip(original.iter().zip(expected)) {
        // CAST: u32 fits.
        if old == new || !lasts(at) || moving.contains(at as usize) {
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
) -> (&'a Bits, usize) {
    let mut count = 0;
    for (at, bytes) in runs {
        // CAST: u32 fits.
        let place = text.get_mut(*at as usize..);
        if let Some(place) = place.and_then(|it| it.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
            count += bytes.len();
        }
    }
    (&image.varying, count)
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
    fn branches_to_outside_of_the_text_are_told_by_their_places_only() {
        let image = image();
        let mut now = image.text.clone();
        now[0x40..0x46].copy_from_slice(&[0x2e, 0xe8, 0, 0, 0, 0x10]);
        now[0x50..0x55].copy_from_slice(&[0xe9, 0, 1, 0, 0]);
        // What follows the branch is patched by itself.
        now[0x60..0x66].copy_from_slice(&[0xe9, 0xff, 0xff, 0xff, 0xe0, 0xcc]);
        let runs = learned(&image, &image.text, &now);
        assert_eq!(runs, [(0x50, vec![0xe9, 0, 1, 0, 0]), (0x65, vec![0xcc])]);
        assert_eq!(elsewhere(&image, &now), [0x40, 0x60]);
        let mut next = image.text.clone();
        let (_, count) = apply(&image, &runs, &mut next);
        assert_eq!((count, &next[0x50..0x55]), (6, &now[0x50..0x55]));
    }

    #[test]
    fn a_branch_that_a_trusted_start_left_alone_may_not_differ() {
        let image = image();
        let mut text = image.text.clone();
        let (own, count) = apply(&image, &[], &mut text);
        assert!(!own.contains(0x40) && count == 0 && text == image.text);
    }

    #[test]
    fn labels_that_do_not_change_any_more_are_told() {
        let image = fake::image();
        let mut now = image.text.clone();
        // CAST: small.
        let (sealed, label) = (fake::SEALED as usize, fake::LABEL as usize);
        for at in [sealed, label] {
            now[at..at + 5].copy_from_slice(&[0xe9, 0xbb, 0xff, 0xff, 0xff]);
        }
        let runs = learned(&image, &image.text, &now);
        // CAST: small.
        assert_eq!(runs, [(sealed as u32, vec![0xe9, 0xbb, 0xff, 0xff, 0xff])]);
    }
}
