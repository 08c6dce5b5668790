// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is the same in each start of a kernel on the same machine, wherever it is in memory. Taken from a
//! start that is trusted, it takes the place of what a later start shows of itself.

use super::image::KernelImage;
use super::patched;

/// Bytes of the text, by the offset of the first one.
pub type Run = (u32, Vec<u8>);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Bits of CR0, CR4 and EFER that are never cleared.
    pub control: [u64; 3],
    /// STAR.
    pub star: u64,
    /// SFMASK.
    pub sfmask: u64,
    /// Interrupt gates. Where one leads to is an offset from the text.
    pub gates: Vec<[u8; 16]>,
    /// What the kernel patched while it started, as the processor wants it.
    pub patched: Vec<Run>,
    /// Places of indirect branches that led to thunks outside of the text, which are elsewhere each time.
    pub elsewhere: Vec<u32>,
}

impl Baseline {
    /// Returns true if it is about all gates, and of the text about such places only as are patched at boot.
    pub fn fits(&self, image: &KernelImage) -> bool {
        let lasts = patched::lasting(image);
        let is_known = |(at, bytes): &Run| {
            let len = u32::try_from(bytes.len()).ok();
            let end = len.and_then(|len| at.checked_add(len));
            end.is_some_and(|end| !bytes.is_empty() && (*at..end).all(&lasts))
        };
        let is_branch = |at: &u32| image.indirect.binary_search(at).is_ok();
        self.gates.len() == super::gates::GATES
            && self.patched.iter().all(is_known)
            && self.elsewhere.iter().all(is_branch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::fake;

    #[test]
    fn what_is_not_about_places_that_are_patched_at_boot_does_not_fit() {
        let mut image = fake::image();
        image.indirect = vec![0x40];
        // CAST: small.
        let patched = fake::PATCHED as u32;
        let with = |run: Run, at: u32, gates: usize| Baseline {
            gates: vec![[0; 16]; gates],
            patched: vec![run],
            elsewhere: vec![at],
            ..Baseline::default()
        };
        let whole = || (patched, vec![0; 5]);
        assert!(with(whole(), 0x40, 256).fits(&image));
        for run in [
            (patched, Vec::new()),
            (patched, vec![0; 6]),
            (patched - 1, vec![0]),
            (0x1234, vec![0]),
            (u32::MAX, vec![0; 4]),
        ] {
            assert!(!with(run.clone(), 0x40, 256).fits(&image), "{run:?}");
        }
        assert!(!with(whole(), 0x41, 256).fits(&image));
        for gates in [0, 255, 257] {
            assert!(!with(whole(), 0x40, gates).fits(&image), "{gates}");
        }
    }
}
