// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Layout of a guest's memory at its start.
//!
//! Offsets from the base of VTL0's memory:
//!
//! ```text
//! 0x0000    segment descriptors                  (protected and long mode)
//! 0x0100    task-state segment, all zero         (protected and long mode)
//! 0x1000    page tables, identity mapping        (long mode)
//! load      the image; the stack ends at the end of memory
//! ```
//!
//! In real mode the image may be anywhere in the first 64 KiB, and the stack grows down from it.

use anyhow::{Context as _, bail};
use vtl::GpaRange;

/// The mode a guest starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ModeName {
    /// 16-bit real mode
    Real,
    /// 32-bit protected mode, flat, no paging
    Prot32,
    /// 64-bit mode, identity page tables
    Long,
}

impl ModeName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Prot32 => "prot32",
            Self::Long => "long",
        }
    }
}

const GIB: u64 = 1 << 30;
const PAGE: u64 = 0x1000;
/// Where the task-state segment is.
const TASK_OFFSET: u64 = 0x100;
/// Where the page tables begin.
const TABLES_OFFSET: u64 = 0x1000;
/// The identity mapping covers at least the first 4 GiB, and one top-level
/// entry at most.
const MAPPED_MIN: u64 = 4 * GIB;
const MAPPED_MAX: u64 = 512 * GIB;
/// Reach of a real-mode offset.
const REAL_MODE_END: u64 = 0x1_0000;

/// Where everything is, for one mode in one memory range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    mode: ModeName,
    memory: GpaRange,
    load_offset: u64,
    /// First offset after what `vtlctl` itself puts into memory.
    reserved_end: u64,
}

impl Layout {
    /// Checks that the image's place suits mode and memory.
    pub(crate) fn new(
        mode: ModeName,
        memory: GpaRange,
        load_offset: Option<u64>,
    ) -> anyhow::Result<Self> {
        let reserved_end = match mode {
            ModeName::Real => 0,
            ModeName::Prot32 => TABLES_OFFSET,
            ModeName::Long => {
                if memory.end() > MAPPED_MAX {
                    bail!("long mode needs memory below 512 GiB, {memory} is not");
                }
                TABLES_OFFSET + (2 + mapped_gib(&memory)) * PAGE
            }
        };
        let default_offset = match mode {
            ModeName::Real => 0x7c00,
            ModeName::Prot32 | ModeName::Long => 0x10_0000_u64.max(reserved_end),
        };
        let layout = Self {
            mode,
            memory,
            load_offset: load_offset.unwrap_or(default_offset),
            reserved_end,
        };
        layout.check()?;
        Ok(layout)
    }

    fn check(&self) -> anyhow::Result<()> {
        let Self {
            mode,
            memory,
            load_offset,
            reserved_end,
        } = *self;
        if mode == ModeName::Prot32 && memory.end() > 4 * GIB {
            bail!("protected mode needs memory below 4 GiB, {memory} is not");
        }
        if load_offset < reserved_end {
            bail!(
                "load address {load_offset:#x} is inside the tables of mode {} \
                 (expected {reserved_end:#x} or above)",
                mode.name()
            );
        }
        if load_offset >= self.end_offset() {
            bail!(
                "load address {load_offset:#x} is outside the guest's memory (expected below \
                 {:#x} in mode {})",
                self.end_offset(),
                mode.name()
            );
        }
        Ok(())
    }

    /// Offset after the last byte that the image may use.
    fn end_offset(&self) -> u64 {
        match self.mode {
            ModeName::Real => self.memory.len().min(REAL_MODE_END),
            ModeName::Prot32 | ModeName::Long => self.memory.len(),
        }
    }

    /// Most bytes the image may have.
    pub(crate) fn room(&self) -> u64 {
        self.end_offset() - self.load_offset
    }

    /// Where the image is loaded, from the base of memory.
    pub(crate) fn load_offset(&self) -> u64 {
        self.load_offset
    }

    /// The mode the guest starts in.
    pub(crate) fn mode(&self) -> ModeName {
        self.mode
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> GpaRange {
        self.memory
    }

    /// The start state of the processor.
    pub(crate) fn start_mode(&self) -> vtl::Mode {
        let base = self.memory.base();
        match self.mode {
            ModeName::Real => vtl::Mode::Real16 { segment_base: base },
            ModeName::Prot32 => vtl::Mode::Protected32,
            ModeName::Long => vtl::Mode::Long64 {
                cr3: base + TABLES_OFFSET,
            },
        }
    }

    /// The first instruction, as the guest's instruction pointer sees it.
    pub(crate) fn entry(&self) -> u64 {
        match self.mode {
            ModeName::Real => self.load_offset,
            ModeName::Prot32 | ModeName::Long => self.memory.base() + self.load_offset,
        }
    }

    /// The first stack pointer.
    pub(crate) fn stack(&self) -> u64 {
        match self.mode {
            ModeName::Real => self.load_offset & !1,
            ModeName::Prot32 | ModeName::Long => self.memory.end(),
        }
    }

    /// Base of the guest's memory, as the guest sees it.
    pub(crate) fn guest_base(&self) -> u64 {
        match self.mode {
            ModeName::Real => 0,
            ModeName::Prot32 | ModeName::Long => self.memory.base(),
        }
    }

    /// The tables, as (offset, contents).
    pub(crate) fn tables(&self) -> anyhow::Result<Vec<(u64, Vec<u8>)>> {
        let mut parts = Vec::new();
        if self.mode != ModeName::Real {
            parts.push((0, bytes_of(&self.descriptors())));
            parts.push((TASK_OFFSET, vec![0; TASK_LEN]));
        }
        if self.mode == ModeName::Long {
            let tables = self.page_tables().context("cannot build page tables")?;
            parts.push((TABLES_OFFSET, tables));
        }
        Ok(parts)
    }

    /// Where the segment descriptors are, and the limit of their table.
    pub(crate) fn descriptor_table(&self) -> Option<(u64, u64)> {
        // CAST: widening.
        let limit = size_of_val(&self.descriptors()) as u64 - 1;
        (self.mode != ModeName::Real).then_some((self.memory.base(), limit))
    }

    /// Where the task-state segment is.
    pub(crate) fn task_segment(&self) -> u64 {
        self.memory.base() + TASK_OFFSET
    }

    /// Null, code, data and task-state segment, at the selectors of
    /// `vtl::vp`. The last takes two entries in long mode.
    fn descriptors(&self) -> [u64; 5] {
        const CODE32: u64 = 0x00cf_9b00_0000_ffff;
        const CODE64: u64 = 0x00af_9b00_0000_ffff;
        const DATA: u64 = 0x00cf_9300_0000_ffff;
        const BUSY_TASK: u64 = 0x0000_8b00_0000_0067;
        let code = if self.mode == ModeName::Long {
            CODE64
        } else {
            CODE32
        };
        let task = self.task_segment();
        let task_low = BUSY_TASK | ((task & 0xff_ffff) << 16) | (((task >> 24) & 0xff) << 56);
        [0, code, DATA, task_low, task >> 32]
    }

    /// Four-level identity mapping with 2 MiB pages.
    fn page_tables(&self) -> anyhow::Result<Vec<u8>> {
        const PRESENT_WRITABLE: u64 = 3;
        const LARGE: u64 = 1 << 7;
        let gib = mapped_gib(&self.memory);
        let pointers = self.memory.base() + TABLES_OFFSET + PAGE;
        let mut words = vec![0_u64; usize::try_from((2 + gib) * PAGE / 8)?];
        let (top, rest) = words.split_at_mut(512);
        let (middle, leaves) = rest.split_at_mut(512);
        top[0] = pointers | PRESENT_WRITABLE;
        for (entry, table) in middle.iter_mut().zip(1..=gib) {
            *entry = (pointers + table * PAGE) | PRESENT_WRITABLE;
        }
        for (entry, page) in leaves.iter_mut().zip(0_u64..) {
            *entry = (page << 21) | PRESENT_WRITABLE | LARGE;
        }
        Ok(bytes_of(&words))
    }
}

const TASK_LEN: usize = 0x68;

fn mapped_gib(memory: &GpaRange) -> u64 {
    memory.end().max(MAPPED_MIN).div_ceil(GIB)
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(mode: ModeName, load: Option<u64>) -> anyhow::Result<Layout> {
        Layout::new(mode, GpaRange::new(0x3c00_0000, 64 << 20)?, load)
    }

    /// Walks the tables the way the processor does.
    fn translate(tables: &[u8], base: u64, address: u64) -> anyhow::Result<u64> {
        let word = |table: u64, index: u64| -> anyhow::Result<u64> {
            let at = usize::try_from(table - base - TABLES_OFFSET + index * 8)?;
            Ok(u64::from_le_bytes(tables[at..at + 8].try_into()?))
        };
        let top = word(base + TABLES_OFFSET, (address >> 39) & 0x1ff)?;
        let middle = word(top & !0xfff, (address >> 30) & 0x1ff)?;
        let leaf = word(middle & !0xfff, (address >> 21) & 0x1ff)?;
        for entry in [top, middle, leaf] {
            anyhow::ensure!(entry & 3 == 3, "not present: {entry:#x}");
        }
        anyhow::ensure!(leaf & 0x80 != 0, "not large: {leaf:#x}");
        Ok((leaf & !0x1f_ffff) | address & 0x1f_ffff)
    }

    #[test]
    fn page_tables_map_every_address_to_itself() -> anyhow::Result<()> {
        let layout = layout(ModeName::Long, None)?;
        let tables = layout.page_tables()?;
        for address in [
            0,
            0x1234,
            0x3c10_0000,
            0x3fff_ffff,
            0x4000_0000,
            0xffff_ffff,
        ] {
            assert_eq!(translate(&tables, layout.memory.base(), address)?, address);
        }
        Ok(())
    }

    #[test]
    fn the_image_never_covers_the_tables() -> anyhow::Result<()> {
        for mode in [ModeName::Real, ModeName::Prot32, ModeName::Long] {
            let layout = layout(mode, None)?;
            for (offset, bytes) in layout.tables()? {
                assert!(
                    offset + bytes.len() as u64 <= layout.reserved_end,
                    "{mode:?}"
                );
            }
            assert!(layout.load_offset >= layout.reserved_end, "{mode:?}");
        }
        Ok(())
    }

    #[test]
    fn load_addresses_outside_are_refused() {
        for (mode, load) in [
            (ModeName::Long, 0x1000),
            (ModeName::Long, 64 << 20),
            (ModeName::Prot32, 0),
            (ModeName::Real, 0x1_0000),
        ] {
            assert!(layout(mode, Some(load)).is_err(), "{mode:?} {load:#x}");
        }
    }

    #[test]
    fn room_ends_with_memory_or_with_the_segment() -> anyhow::Result<()> {
        assert_eq!(layout(ModeName::Real, Some(0x7c00))?.room(), 0x8400);
        assert_eq!(
            layout(ModeName::Long, Some(0x10_0000))?.room(),
            (64 << 20) - 0x10_0000
        );
        Ok(())
    }

    #[test]
    fn the_task_descriptor_carries_its_base() -> anyhow::Result<()> {
        let [null, .., low, high] = layout(ModeName::Long, None)?.descriptors();
        assert_eq!((null, high), (0, 0));
        assert_eq!(low, 0x3c00_8b00_0100_0067);
        Ok(())
    }
}
