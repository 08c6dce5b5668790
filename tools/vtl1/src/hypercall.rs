// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The hypercall by which VTL1 has VTL2 change VTL0's rights to pages, as both sides see it.
//! [TLFS 15.9]

/// Code of HvCallModifyVtlProtectionMask.
pub const MODIFY_PROTECTION: u16 = 0x0c;
/// Bytes of an input page: a header and the addresses.
const INPUT_PAGE: usize = 4096;
const HEADER: usize = 16;
/// Most pages of one hypercall.
pub const MOST_PAGES: usize = (INPUT_PAGE - HEADER) / 8;

/// HV_PARTITION_ID_SELF.
const SELF: u64 = u64::MAX;
/// HV_INPUT_VTL: VTL 0, in use.
const TARGET_VTL0: u32 = 1 << 4;
/// Rights that VTL0 keeps: read, and execute in both modes.
const READ_EXECUTE: u32 = 1 | 4 | 8;

const REPS_SHIFT: u32 = 32;
const REPS_MASK: u64 = 0xfff;

/// Pages from which VTL0's right to write is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectInput {
    /// Address of the first page.
    pub gpa: u64,
    /// Number of pages, at most [`MOST_PAGES`].
    pub pages: usize,
}

impl ProtectInput {
    /// RCX of the hypercall.
    pub const fn control(&self) -> u64 {
        // CAST: widening; at most 510.
        MODIFY_PROTECTION as u64 | ((self.pages as u64 & REPS_MASK) << REPS_SHIFT)
    }

    /// Words of the input page, with their numbers.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        let header = [
            SELF,
            u64::from(READ_EXECUTE) | (u64::from(TARGET_VTL0) << 32),
        ];
        let gpa = self.gpa;
        // CAST: widening.
        let list = (0..self.pages.min(MOST_PAGES)).map(move |page| (gpa >> 12) + page as u64);
        header.into_iter().chain(list).enumerate()
    }

    /// Decodes RCX and the input page; the pages one by one, in `each`.
    ///
    /// # Errors
    /// The HV_STATUS for a call that is not this one.
    pub fn decode(control: u64, input: &[u8], mut each: impl FnMut(u64)) -> Result<(), u16> {
        // CAST: the low 16 bits.
        if control as u16 != MODIFY_PROTECTION {
            return Err(status::INVALID_CODE);
        }
        let reps = (control >> REPS_SHIFT) & REPS_MASK;
        if control & !(0xffff | (REPS_MASK << REPS_SHIFT)) != 0 {
            return Err(status::INVALID_INPUT);
        }
        let mut words = input.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        let rights = u64::from(READ_EXECUTE) | (u64::from(TARGET_VTL0) << 32);
        if words.next() != Some(SELF) || words.next() != Some(rights) {
            return Err(status::INVALID_PARAMETER);
        }
        for _ in 0..reps {
            let frame = words.next().ok_or(status::INVALID_INPUT)?;
            let gpa = frame.checked_mul(4096).ok_or(status::INVALID_PARAMETER)?;
            each(gpa);
        }
        Ok(())
    }
}

/// HV_STATUS values.
pub mod status {
    /// Done.
    pub const SUCCESS: u16 = 0;
    /// Unknown code.
    pub const INVALID_CODE: u16 = 2;
    /// Reserved bits of the control word, or too many repetitions.
    pub const INVALID_INPUT: u16 = 3;
    /// A field of the input.
    pub const INVALID_PARAMETER: u16 = 5;
    /// The pages are not VTL0's.
    pub const ACCESS_DENIED: u16 = 6;
}

/// RAX after a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// HV_STATUS.
    pub status: u16,
    /// Repetitions that were completed.
    pub pages: usize,
}

impl Completion {
    /// Decodes RAX.
    pub const fn from_raw(rax: u64) -> Self {
        // CAST: fields of 16 and 12 bits.
        Self {
            status: rax as u16,
            pages: ((rax >> REPS_SHIFT) & REPS_MASK) as usize,
        }
    }

    /// Encodes RAX.
    pub const fn into_raw(self) -> u64 {
        // CAST: widening.
        self.status as u64 | ((self.pages as u64 & REPS_MASK) << REPS_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn page_of(input: &ProtectInput) -> Vec<u8> {
        let mut page = std::vec![0; INPUT_PAGE];
        for (number, word) in input.words() {
            page[8 * number..8 * number + 8].copy_from_slice(&word.to_le_bytes());
        }
        page
    }

    #[test]
    fn vtl2_decodes_what_vtl1_encodes() {
        for pages in [1, 2, MOST_PAGES] {
            let input = ProtectInput {
                gpa: 0x12_3000,
                pages,
            };
            let mut found = Vec::new();
            let decoded =
                ProtectInput::decode(input.control(), &page_of(&input), |gpa| found.push(gpa));
            assert_eq!(decoded, Ok(()));
            let expected: Vec<u64> = (0..pages as u64).map(|n| 0x12_3000 + 4096 * n).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn another_call_or_target_is_refused() {
        let input = ProtectInput {
            gpa: 0x1000,
            pages: 1,
        };
        let page = page_of(&input);
        let decode = |control, page: &[u8]| ProtectInput::decode(control, page, |_| {});
        let control = input.control();
        assert_eq!(
            decode(control & !0xffff | 0x0d, &page),
            Err(status::INVALID_CODE)
        );
        assert_eq!(
            decode(control | (1 << 16), &page),
            Err(status::INVALID_INPUT)
        );
        assert_eq!(
            decode(control | (1 << 48), &page),
            Err(status::INVALID_INPUT)
        );
        let more = control | (REPS_MASK << REPS_SHIFT);
        assert_eq!(decode(more, &page), Err(status::INVALID_INPUT));
        for at in [0, 8, 12] {
            let mut changed = page.clone();
            changed[at] ^= 2;
            assert_eq!(
                decode(control, &changed),
                Err(status::INVALID_PARAMETER),
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_completion_comes_back() {
        for completion in [
            Completion {
                status: 0,
                pages: 510,
            },
            Completion {
                status: 6,
                pages: 3,
            },
        ] {
            assert_eq!(Completion::from_raw(completion.into_raw()), completion);
        }
    }
}
