// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is collected from the sections and tables of a kernel: symbols, the places that change, and the
//! relocations after the file.

use std::collections::{BTreeMap, HashMap};

use super::{Bits, Problem};
use crate::monitor::elf::{Elf, File, Section};
use crate::monitor::indirect;
use crate::monitor::sites::{Site, SiteKind};
use crate::monitor::symbols::{Symbols, Tables};

/// Addresses of symbols that are not in the text.
pub(super) type Others = HashMap<&'static str, u64>;

const RETPOLINES: &str = ".retpoline_sites";
const BOUNDS: [&str; 8] = [
    "__start___jump_table",
    "__stop___jump_table",
    "__start_static_call_sites",
    "__stop_static_call_sites",
    "__start_mcount_loc",
    "__stop_mcount_loc",
    "__start_rodata",
    "__end_rodata",
];

/// What the symbols say.
#[derive(Default)]
pub(super) struct Named {
    /// Those of the text.
    pub(super) symbols: Symbols,
    pub(super) others: Others,
    /// Where the trampolines of static calls are in the text.
    pub(super) trampolines: Vec<u32>,
    /// Where the thunks of indirect branches are, and of which register.
    pub(super) thunks: BTreeMap<u32, u8>,
}

impl Named {
    pub(super) fn read(text: Section<'_>, constants: Section<'_>) -> Option<Self> {
        let mut named = Self::default();
        // CAST: widening.
        let len = text.bytes.len() as u64;
        let mut has_start = false;
        Tables::find(constants)?.each(|symbol| {
            let offset = symbol.address.wrapping_sub(text.address);
            if let Some(name) = BOUNDS.iter().find(|name| **name == symbol.name) {
                named.others.insert(name, symbol.address);
            } else if let (true, Ok(offset)) = (offset < len, u32::try_from(offset)) {
                has_start |= offset == 0 && symbol.name == "_stext";
                named.add(offset, symbol.name);
            }
        })?;
        named.symbols.sort();
        has_start.then_some(named)
    }

    fn add(&mut self, offset: u32, name: &str) {
        if name.starts_with("__SCT__") {
            self.trampolines.push(offset);
        }
        if let Some(register) = indirect::thunk_of(name) {
            self.thunks.insert(offset, register);
        }
        // These lead anywhere, and no call of a function becomes one of them.
        if !name.starts_with("__x86_indirect_") {
            self.symbols.add(offset, name);
        }
    }
}

/// What the sites are collected from.
pub(super) struct Collected<'a> {
    pub(super) elf: &'a Elf<'a>,
    pub(super) text: Section<'a>,
    pub(super) others: &'a Others,
    /// Sites that have names.
    pub(super) named: Vec<Site>,
}

impl Collected<'_> {
    /// The offset in the text of an address for which the kernel is linked.
    fn offset(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.text.address)?;
        // CAST: widening.
        (offset < self.text.bytes.len() as u64).then_some(u32::try_from(offset).ok()?)
    }

    pub(super) fn constants(&self, section: Section<'_>) -> (u64, u64) {
        let own = |name, or: u64| self.others.get(name).copied().unwrap_or(or);
        // CAST: widening.
        let end = section.address + section.bytes.len() as u64;
        let start = own("__start_rodata", section.address).wrapping_sub(self.text.address);
        (
            start,
            own("__end_rodata", end).wrapping_sub(self.text.address),
        )
    }

    /// A table between two symbols: its address and contents.
    fn table(&self, start: &str, stop: &str) -> Result<(u64, File<'_>), Problem> {
        let missing = || format!("has no table between {start} and {stop}");
        let (Some(from), Some(to)) = (self.others.get(start), self.others.get(stop)) else {
            return Err(missing());
        };
        let bytes = self.elf.at(*from, to.saturating_sub(*from));
        Ok((*from, File(bytes.ok_or_else(missing)?)))
    }

    /// What changes as the kernel runs, and jump labels whose keys are in the constants (offsets from the text):
    /// those do not change once these are read-only.
    pub(super) fn sites(&self, constants: (u64, u64)) -> Result<(Vec<Site>, Vec<Site>), Problem> {
        if u32::try_from(self.text.bytes.len()).is_err() {
            return Err("has more than 4 GiB of text".to_owned());
        }
        let mut sites = self.named.clone();
        let (from, to) = constants;
        let (sealed, labels): (Vec<_>, Vec<_>) = self
            .jump_labels()?
            .into_iter()
            .partition(|(_, key)| (from..to).contains(key));
        sites.extend(labels.into_iter().map(|(site, _)| site));
        sites.extend(self.static_calls()?);
        sites.extend(self.traced()?);
        sites.sort_by_key(|site| site.at);
        sites.dedup_by_key(|site| site.at);
        Ok((sites, sealed.into_iter().map(|(site, _)| site).collect()))
    }

    /// Entries of 16 bytes: code, target and key, each relative to where it is stored; the key has two flags in
    /// it. The key is returned as an offset from the text.
    fn jump_labels(&self) -> Result<Vec<(Site, u64)>, Problem> {
        const FLAGS: u64 = 3;
        let (address, table) = self.table(BOUNDS[0], BOUNDS[1])?;
        // CAST: widening.
        let all = (0..table.0.len() as u64 / 16).filter_map(|number| {
            let stored_at = 16 * number;
            let relative = |at| {
                let distance = i64::from(table.i32(at)?);
                self.offset(address.wrapping_add(at).wrapping_add_signed(distance))
            };
            let (at, target) = (relative(stored_at)?, relative(stored_at + 4)?);
            let first = self.elf.at(self.text.address + u64::from(at), 1)?.first()?;
            let kind = match first {
                0x66 | 0xeb => SiteKind::ShortJump(target),
                0x0f | 0xe9 => SiteKind::LongJump(target),
                _ => return None,
            };
            let key_at = stored_at + 8;
            let key = table.u64(key_at)? & !FLAGS;
            let key = address.wrapping_add(key_at).wrapping_add(key);
            Some((Site { at, kind }, key.wrapping_sub(self.text.address)))
        });
        Ok(all.collect())
    }

    /// Entries of 8 bytes: the code, relative to where it is stored, and the key, with a bit for calls at
    /// the end of a function. Beside them the trampolines, which are jumps.
    fn static_calls(&self) -> Result<Vec<Site>, Problem> {
        let (address, table) = self.table(BOUNDS[2], BOUNDS[3])?;
        // CAST: widening.
        let all = (0..table.0.len() as u64 / 8).filter_map(|number| {
            let stored_at = 8 * number;
            let distance = i64::from(table.i32(stored_at)?);
            let at = address
                .wrapping_add(stored_at)
                .wrapping_add_signed(distance);
            let (first, second) = match self.elf.at(at, 2)? {
                [first, second, ..] => (*first, *second),
                _ => return None,
            };
            let at = self.offset(at)?;
            let kind = match first {
                0xe8 => SiteKind::StaticCall,
                0xe9 => SiteKind::StaticTail,
                0x0f if second & 0xf0 == 0x80 => SiteKind::StaticConditional(second),
                _ => return None,
            };
            Some(Site { at, kind })
        });
        Ok(all.collect())
    }

    /// Addresses; those of functions that do not exist are zero.
    fn traced(&self) -> Result<Vec<Site>, Problem> {
        let (_, table) = self.table(BOUNDS[4], BOUNDS[5])?;
        // CAST: widening.
        let all = (0..table.0.len() as u64 / 8).filter_map(|number| {
            let at = self.offset(table.u64(8 * number)?)?;
            let kind = SiteKind::Traced;
            Some(Site { at, kind })
        });
        Ok(all.collect())
    }

    /// Indirect branches, which the compiler has made calls of thunks.
    pub(super) fn indirect(&self) -> Vec<u32> {
        let sections = self.elf.sections();
        let mut all: Vec<u32> = sections
            .filter(|section| section.name == RETPOLINES)
            .flat_map(|section| {
                let file = File(section.bytes);
                // CAST: widening.
                (0..section.bytes.len() as u64 / 4).filter_map(move |number| {
                    let distance = i64::from(file.i32(4 * number)?);
                    let address = section.address.wrapping_add(4 * number);
                    self.offset(address.wrapping_add_signed(distance))
                })
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What the kernel patches once, for the processor that it finds: alternatives, calls and returns
    /// through thunks, ENDBR, and constants of the running system. The latter also by themselves.
    pub(super) fn adopted(&self) -> (Bits, Bits) {
        let mut bits = Bits::with_len(self.text.bytes.len());
        let mut varying = Bits::with_len(self.text.bytes.len());
        const ALTERNATIVE: u64 = 14;
        for section in self.elf.sections() {
            let (entry_len, patched) = match section.name {
                ".altinstructions" => (ALTERNATIVE, None),
                // CAST: six.
                RETPOLINES => (4, Some(indirect::LONGEST as u64)),
                ".return_sites" => (4, Some(5)),
                ".ibt_endbr_seal" => (4, Some(4)),
                name if name.starts_with("runtime_ptr_") => (4, Some(8)),
                name if name.starts_with("runtime_mask_") => (4, Some(4)),
                name if name.starts_with("runtime_shift_") => (4, Some(1)),
                _ => continue,
            };
            let file = File(section.bytes);
            // CAST: widening.
            for at in (0..section.bytes.len() as u64 / entry_len).map(|it| it * entry_len) {
                let Some(distance) = file.i32(at) else { break };
                let address = section.address.wrapping_add(at);
                let Some(offset) = self.offset(address.wrapping_add_signed(distance.into())) else {
                    continue;
                };
                let own_len = || file.bytes(at + 12, 1).map_or(0, |it| u64::from(it[0]));
                let len = patched.unwrap_or_else(own_len);
                bits.add(offset.into(), len);
                if section.name.starts_with("runtime_") {
                    varying.add(offset.into(), len);
                }
            }
        }
        (bits, varying)
    }
}

/// After the ELF file: zero, addresses of numbers of 64 bits, zero, addresses of numbers of 32 bits. All
/// are the lower halves of addresses for which the kernel is linked; read from the end.
pub(super) fn relocations(bytes: &[u8], end: u64, text: Section<'_>) -> (Vec<u32>, Vec<u32>) {
    let file = File(bytes);
    // CAST: widening.
    let mut at = bytes.len() as u64;
    let mut list = || {
        let mut list = Vec::new();
        while let Some(next) = at.checked_sub(4).filter(|next| *next >= end) {
            at = next;
            let Some(value) = file.i32(at) else { break };
            if value == 0 {
                break;
            }
            // CAST: sign extension is what the kernel does.
            let offset = (i64::from(value) as u64).wrapping_sub(text.address);
            if let (true, Ok(offset)) = (offset < text.bytes.len() as u64, u32::try_from(offset)) {
                list.push(offset);
            }
        }
        list
    };
    let narrow = list();
    (narrow, list())
}
