// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What VTL2 tells the secure kernel at its start, and where its pages are in its address space.
//!
//! VTL2 makes VTL1's page tables: the image and the pages below in the upper half, and VTL0's
//! memory in the lower half, at its guest-physical addresses, without execute permission. VTL1's
//! own memory is in the upper half only, so an address from VTL0 can't be one of it.

use zeroize::Zeroize as _;

use crate::keys::SEED_LEN;
use crate::ranges::{MOST_RANGES, PAGE, Range, Vtl0Memory};

/// Address of the image, to which it is linked.
pub const IMAGE_VA: u64 = 0xffff_ffff_8000_0000;
/// Address of the page of this module.
pub const BOOT_VA: u64 = 0xffff_ffff_a000_0000;
/// Address of VTL1's VP assist page.
pub const ASSIST_VA: u64 = BOOT_VA + PAGE;
/// Address of the input page of hypercalls.
pub const HYPERCALL_VA: u64 = BOOT_VA + 2 * PAGE;
/// End of the stack. The page below it is not mapped.
pub const STACK_END_VA: u64 = 0xffff_ffff_a010_0000;
/// Length of the stack.
pub const STACK_LEN: u64 = 16 * PAGE;
/// End of the stack for exceptions, which has an unmapped page below it as well.
pub const FAULT_STACK_END_VA: u64 = 0xffff_ffff_a020_0000;
/// Length of the stack for exceptions.
pub const FAULT_STACK_LEN: u64 = 2 * PAGE;

const MAGIC: [u8; 8] = *b"VTL1BOOT";
const AT_SEED: usize = 8;
const AT_VTL1: usize = 40;
const AT_ASSIST: usize = 56;
const AT_HYPERCALL: usize = 64;
const AT_COUNTER: usize = 72;
const AT_RANGES: usize = 128;
const RANGES_END: usize = AT_RANGES + 16 * MOST_RANGES;

/// Contents of the page.
pub struct Boot {
    /// Source of the keys.
    pub seed: [u8; SEED_LEN],
    /// VTL1's own memory.
    pub vtl1: Range,
    /// Guest-physical address of VTL1's VP assist page.
    pub assist: u64,
    /// Guest-physical address of the input page of hypercalls.
    pub hypercall: u64,
    /// First value of the counter.
    pub counter: u64,
    /// VTL0's memory; the rest is empty.
    pub vtl0: [Range; MOST_RANGES],
}

impl Boot {
    /// Decodes the page; `None` if it is invalid.
    pub fn decode(page: &[u8; PAGE as usize]) -> Option<Self> {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&page[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let range = |at| Range::new(word(at), word(at + 8));
        let mut vtl0 = [Range::default(); MOST_RANGES];
        for (number, place) in vtl0.iter_mut().enumerate() {
            *place = range(AT_RANGES + 16 * number)?;
        }
        let mut seed = [0; SEED_LEN];
        seed.copy_from_slice(&page[AT_SEED..AT_VTL1]);
        let rest = page[AT_COUNTER + 8..AT_RANGES]
            .iter()
            .chain(&page[RANGES_END..]);
        let is_valid = page[..AT_SEED] == MAGIC && rest.copied().all(|byte| byte == 0);
        is_valid.then_some(Self {
            seed,
            vtl1: range(AT_VTL1)?,
            assist: word(AT_ASSIST),
            hypercall: word(AT_HYPERCALL),
            counter: word(AT_COUNTER),
            vtl0,
        })
    }

    /// Encodes the page.
    pub fn encode(&self) -> [u8; PAGE as usize] {
        let mut page = [0; PAGE as usize];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(AT_SEED, &self.seed);
        put(AT_VTL1, &self.vtl1.base().to_le_bytes());
        put(AT_VTL1 + 8, &self.vtl1.len().to_le_bytes());
        put(AT_ASSIST, &self.assist.to_le_bytes());
        put(AT_HYPERCALL, &self.hypercall.to_le_bytes());
        put(AT_COUNTER, &self.counter.to_le_bytes());
        for (number, range) in self.vtl0.iter().enumerate() {
            put(AT_RANGES + 16 * number, &range.base().to_le_bytes());
            put(AT_RANGES + 16 * number + 8, &range.len().to_le_bytes());
        }
        page
    }

    /// VTL0's memory, if the ranges are valid.
    pub fn memory(&self) -> Option<Vtl0Memory> {
        Vtl0Memory::new(self.vtl0, self.vtl1)
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        let mut vtl0 = [Range::default(); MOST_RANGES];
        vtl0[0] = Range::new(0, 0x10_0000).unwrap_or_default();
        vtl0[15] = Range::new(0x40_0000, 0x1000).unwrap_or_default();
        Boot {
            seed: [3; SEED_LEN],
            vtl1: Range::new(0x20_0000, 0x20_0000).unwrap_or_default(),
            assist: 0x20_1000,
            hypercall: 0x20_2000,
            counter: 9,
            vtl0,
        }
    }

    #[test]
    fn what_vtl2_encodes_is_decoded() {
        let Some(found) = Boot::decode(&boot().encode()) else {
            panic!("refused");
        };
        let Boot {
            seed,
            vtl1,
            assist,
            hypercall,
            counter,
            vtl0,
        } = &found;
        assert_eq!(*seed, boot().seed);
        assert_eq!((*vtl1, *vtl0), (boot().vtl1, boot().vtl0));
        assert_eq!([*assist, *hypercall, *counter], [0x20_1000, 0x20_2000, 9]);
        assert!(found.memory().is_some());
    }

    #[test]
    fn a_page_of_another_form_is_refused() {
        for at in [0, 7, AT_COUNTER + 8, AT_RANGES - 1, RANGES_END, 4095] {
            let mut page = boot().encode();
            page[at] ^= 1;
            assert!(Boot::decode(&page).is_none(), "byte {at}");
        }
        let mut page = boot().encode();
        page[AT_RANGES..AT_RANGES + 16].fill(0xff);
        assert!(Boot::decode(&page).is_none(), "a range without an end");
    }

    #[test]
    fn vtl0_gets_nothing_of_vtl1() {
        let mut boot = boot();
        boot.vtl0[3] = Range::new(0x3f_f000, 0x1000).unwrap_or_default();
        assert!(boot.memory().is_none());
    }
}
