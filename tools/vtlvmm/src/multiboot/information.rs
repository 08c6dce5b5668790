// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The table that a kernel finds: memory, its command line, its module, the loader's name.

use crate::memory::{Range, place};

/// A module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Module(pub(super) Range);

/// Offsets in the block that the table begins.
const MODULE_AT: u32 = 0x80;
const NAME_AT: u32 = 0xa0;
const MAP_AT: u32 = 0x100;

/// Flags: which fields there are.
const MEMORY: u32 = 1 << 0;
const COMMAND_LINE: u32 = 1 << 2;
const MODULES: u32 = 1 << 3;
const MAP: u32 = 1 << 6;
const NAME: u32 = 1 << 9;

/// Bytes for [`place::BOOT_PARAMETERS`].
pub(super) fn table(ram: &[Range], module: Option<Module>) -> Vec<u8> {
    // CAST: below 1 MiB, as all these places.
    const BASE: u32 = place::BOOT_PARAMETERS as u32;
    let mut block = vec![0; MAP_AT as usize];
    let mut put = |at: u32, value: u32| {
        block[at as usize..][..4].copy_from_slice(&value.to_le_bytes());
    };
    let map = map(ram);
    put(0, MEMORY | COMMAND_LINE | MODULES | MAP | NAME);
    put(4, kib(ram, 0, 0xa_0000));
    put(8, kib(ram, place::HIGH, u64::MAX));
    // CAST: as above.
    put(16, place::COMMAND_LINE as u32);
    if let Some(Module(at)) = module {
        put(20, 1);
        put(24, BASE + MODULE_AT);
        // CAST: RAM of the guest is below 4 GiB.
        put(MODULE_AT, at.start as u32);
        put(MODULE_AT + 4, at.end as u32);
    }
    // CAST: a handful of entries.
    put(44, map.len() as u32);
    put(48, BASE + MAP_AT);
    put(64, BASE + NAME_AT);
    block[NAME_AT as usize..][..7].copy_from_slice(b"vtlctl\0");
    block.extend(map);
    block
}

/// KiB of RAM from `start` on without a gap, up to `limit`.
fn kib(ram: &[Range], start: u64, limit: u64) -> u32 {
    let piece = ram.iter().find(|it| (it.start..it.end).contains(&start));
    // CAST: RAM of the guest is below 4 GiB.
    piece.map_or(0, |it| ((it.end.min(limit) - start) >> 10) as u32)
}

/// Entries of 24 bytes: how many follow, address, length, kind. The ACPI tables are no RAM.
fn map(ram: &[Range]) -> Vec<u8> {
    const FOLLOWING: u32 = 20;
    const USABLE: u32 = 1;
    const ACPI: u32 = 3;
    let mut bytes = Vec::new();
    let mut entry = |range: Range, kind: u32| {
        if range.is_empty() {
            return;
        }
        bytes.extend(FOLLOWING.to_le_bytes());
        bytes.extend(range.start.to_le_bytes());
        bytes.extend(range.len().to_le_bytes());
        bytes.extend(kind.to_le_bytes());
    };
    for piece in ram {
        if piece.contains(place::ACPI) {
            entry(Range::new(piece.start, place::ACPI.start), USABLE);
            entry(place::ACPI, ACPI);
            entry(Range::new(place::ACPI.end, piece.end), USABLE);
        } else {
            entry(*piece, USABLE);
        }
    }
    bytes
}
