// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page tables for small guests in 64-bit mode.

const PAGE: u64 = 0x1000;
const ENTRIES: u64 = 512;

/// Three pages of page tables that map the gigabyte around `base` to itself, writable, by large
/// pages. They belong at `base`, a multiple of 4096 which then is CR3 of [`crate::Mode::Long64`].
///
/// ```
/// let tables = vtl::identity_tables(0x20_0000);
/// assert_eq!(tables.len(), 3 * 4096);
/// ```
#[must_use]
pub fn identity_tables(base: u64) -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    const GIB_SHIFT: u32 = 30;
    let gib = base >> GIB_SHIFT << GIB_SHIFT;
    let only = |at: u64, next: u64| {
        (0..ENTRIES).map(move |index| {
            if index == at % ENTRIES {
                next | PRESENT_WRITABLE
            } else {
                0
            }
        })
    };
    let large = (0..ENTRIES).map(|index| (gib + (index << 21)) | PRESENT_WRITABLE | LARGE);
    only(base >> 39, base + PAGE)
        .chain(only(base >> GIB_SHIFT, base + 2 * PAGE))
        .chain(large)
        .flat_map(u64::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the processor does with tables at `base`.
    fn walk(tables: &[u8], base: u64, address: u64) -> Option<u64> {
        let mut table = base;
        for shift in [39, 30, 21] {
            let at = (table - base + (address >> shift) % ENTRIES * 8) as usize; // CAST: of 3 pages
            let bytes = tables.get(at..at + 8)?.try_into().ok()?;
            let entry = u64::from_le_bytes(bytes);
            if entry & 1 == 0 {
                return None;
            }
            if entry & 0x80 != 0 {
                return Some((entry & !0x1f_ffff) | (address & 0x1f_ffff));
            }
            table = entry & !0xfff;
        }
        None
    }

    #[test]
    fn the_gigabyte_around_them_is_mapped_to_itself_and_nothing_else() {
        for base in [0, 0x20_0000, 0x7fff_f000, 0x1_4000_0000, 0x123_4567_8000] {
            let tables = identity_tables(base);
            let gib = base & !0x3fff_ffff;
            for address in [gib, base, gib + 0x3fff_ffff] {
                assert_eq!(walk(&tables, base, address), Some(address), "{base:#x}");
            }
            assert_eq!(walk(&tables, base, gib + 0x4000_0000), None, "{base:#x}");
            assert_eq!(walk(&tables, base, gib ^ (1 << 40)), None, "{base:#x}");
        }
    }
}
