// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the file of a Linux kernel says: unpacks it, and collects what the checks compare with.

mod collect;
mod unpack;

use std::collections::BTreeMap;

use super::elf::Elf;
use super::sites::{Site, SiteKind, TextMap};
use super::symbols::Symbols;
use super::trampoline::Template;

use collect::{Collected, Named, relocations};

/// What is known of a kernel before it runs.
#[derive(Debug)]
pub struct KernelImage {
    /// Address for which its text is linked.
    pub base: u64,
    /// Its text, as linked.
    pub text: Vec<u8>,
    /// Its constants, as offsets from the text: begin and end.
    pub constants: (u64, u64),
    /// The text that is freed after the start, as offsets from the text. The kernel leaves gates for
    /// exceptions that do not exist pointing there.
    pub init_text: (u64, u64),
    /// Symbols of the text.
    pub symbols: Symbols,
    /// What changes as it runs. Sorted.
    pub sites: Vec<Site>,
    /// Of what changes as it runs, that which does not any more once the constants are read-only.
    pub(super) sealed: Vec<Site>,
    /// What changes while it starts, one bit per byte of the text.
    pub(super) adopted: Bits,
    /// Those of them that depend on the running system, not on the processor alone.
    pub(super) varying: Bits,
    /// Where the text has indirect branches, which are patched at boot.
    pub(super) indirect: Vec<u32>,
    /// Where the thunks are to which they lead, and of which register each is.
    pub(super) thunks: BTreeMap<u32, u8>,
    /// Where the text has numbers of 32 bits that move with it, and of 64.
    pub(super) moved: (Vec<u32>, Vec<u32>),
    /// What trampolines of the tracer are made of.
    pub(super) templates: Vec<Template>,
    tracers: Vec<u32>,
}

/// A set of offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn with_len(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn add(&mut self, at: u64, len: u64) {
        for offset in at..at.saturating_add(len) {
            let word = usize::try_from(offset / 64).ok();
            if let Some(word) = word.and_then(|word| self.0.get_mut(word)) {
                *word |= 1 << (offset % 64);
            }
        }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        let word = self.0.get(at / 64);
        word.is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// Why a kernel can't be monitored.
pub type Problem = String;

impl KernelImage {
    /// Reads a bzImage.
    ///
    /// # Errors
    /// What is missing in it.
    pub fn from_bzimage(bytes: &[u8]) -> Result<Self, Problem> {
        let unpacked = unpack::unpack(bytes)?;
        Self::from_vmlinux(&unpacked)
    }

    /// Reads what is packed in a bzImage: an ELF file, and relocations after it.
    ///
    /// # Errors
    /// What is missing in it.
    pub fn from_vmlinux(bytes: &[u8]) -> Result<Self, Problem> {
        let elf = Elf::parse(bytes).ok_or("contains no ELF file for x86-64")?;
        let section = |name: &str| elf.section(name).ok_or(format!("has no section {name}"));
        let (text, constants) = (section(".text")?, section(".rodata")?);
        let Named {
            symbols,
            others,
            trampolines,
            thunks,
        } = Named::read(text, constants).ok_or(
            "has no table of symbols that is understood (expected Linux 7.0 or newer, with \
             CONFIG_KALLSYMS_ALL=y)",
        )?;
        let tracer = ["ftrace_call", "ftrace_regs_call"];
        let tracer = tracer.iter().filter_map(|name| symbols.offset_of(name));
        let tracer = tracer.map(|at| (at, SiteKind::Tracer));
        let own = trampolines.into_iter().map(|at| (at, SiteKind::StaticTail));
        let collected = Collected {
            elf: &elf,
            text,
            others: &others,
            named: own
                .chain(tracer)
                .map(|(at, kind)| Site { at, kind })
                .collect(),
        };
        let (adopted, varying) = collected.adopted();
        let (sites, sealed) = collected.sites(collected.constants(constants))?;
        let tracers: Vec<u32> = ["ftrace_caller", "ftrace_regs_caller"]
            .iter()
            .filter_map(|name| symbols.offset_of(name))
            .collect();
        Ok(Self {
            base: text.address,
            constants: collected.constants(constants),
            init_text: elf.section(".init.text").map_or((0, 0), |section| {
                let start = section.address.wrapping_sub(text.address);
                // CAST: widening.
                (start, start.saturating_add(section.bytes.len() as u64))
            }),
            sites,
            sealed,
            adopted,
            varying,
            indirect: collected.indirect(),
            thunks,
            moved: relocations(bytes, elf.end(), text),
            templates: Template::both(text.bytes, &symbols),
            text: text.bytes.to_vec(),
            symbols,
            tracers,
        })
    }

    /// For the rules of sites.
    pub(super) fn map(&self) -> TextMap<'_> {
        TextMap {
            // CAST: some megabytes; `Collected` refuses more.
            len: self.text.len() as u32,
            symbols: &self.symbols,
            tracers: &self.tracers,
        }
    }
}

#[cfg(test)]
mod tests;
