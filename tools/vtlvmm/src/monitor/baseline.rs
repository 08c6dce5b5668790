// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is the same in each start of a kernel on the same machine, wherever it is in memory. Taken from a
//! start that is trusted, it takes the place of what a later start shows of itself.

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
}

impl Baseline {
    /// Returns true if all of it is in a text of so many bytes.
    pub fn fits(&self, text_len: usize) -> bool {
        let is_inside = |(at, bytes): &Run| {
            let end = usize::try_from(*at)
                .ok()
                .and_then(|at| at.checked_add(bytes.len()));
            end.is_some_and(|end| end <= text_len)
        };
        self.gates.len() <= super::gates::GATES && self.patched.iter().all(is_inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_of_the_text_does_not_fit() {
        let with = |run: Run| Baseline {
            patched: vec![run],
            ..Baseline::default()
        };
        assert!(with((12, vec![0; 4])).fits(16));
        for run in [(13, vec![0; 4]), (u32::MAX, vec![0; 4]), (17, Vec::new())] {
            assert!(!with(run.clone()).fits(16), "{run:?}");
        }
        let gates = Baseline {
            gates: vec![[0; 16]; 257],
            ..Baseline::default()
        };
        assert!(!gates.fits(16));
    }
}
