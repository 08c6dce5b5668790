// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Segment descriptors and page tables that a 64-bit guest starts with: flat segments at the
//! selectors of the boot protocol, and the first 4 GiB mapped to themselves.

use vm_memory::{Bytes as _, GuestAddress, GuestMemory};

use crate::error::Result;
use crate::memory::place;

/// Selector of the code segment.
pub const CODE_SELECTOR: u16 = 0x10;
/// Selector of the data segments.
pub const DATA_SELECTOR: u16 = 0x18;
/// Limit of the descriptor table.
pub const DESCRIPTORS_LIMIT: u64 = 8 * DESCRIPTORS.len() as u64 - 1;

const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
const TABLE: u64 = 4096;
const GIB_MAPPED: u64 = 4;

/// Writes both.
pub(super) fn write<M: GuestMemory>(memory: &M) -> Result<()> {
    memory.write_slice(&bytes_of(&DESCRIPTORS), GuestAddress(place::DESCRIPTORS))?;
    memory.write_slice(&page_tables(), GuestAddress(place::PAGE_TABLES))?;
    Ok(())
}

/// Top level, next level, and a table with pages of 2 MiB for each GiB.
fn page_tables() -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let pointers = place::PAGE_TABLES + TABLE;
    let top = table([pointers | PRESENT_WRITABLE]);
    let middle = table((1..=GIB_MAPPED).map(|gib| (pointers + gib * TABLE) | PRESENT_WRITABLE));
    let leaves = (0..GIB_MAPPED * 512).map(|page| (page << 21) | PRESENT_WRITABLE | LARGE);
    let words: Vec<u64> = top.into_iter().chain(middle).chain(leaves).collect();
    bytes_of(&words)
}

fn table(entries: impl IntoIterator<Item = u64>) -> [u64; 512] {
    let mut words = [0; 512];
    for (word, entry) in words.iter_mut().zip(entries) {
        *word = entry;
    }
    words
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
