// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Kernels with a Multiboot header [Multiboot 0.6.96]: small systems, and test kernels that need no more than
//! a loader. They begin in 32-bit protected mode, with a table that says where memory and modules are.

mod format;
mod information;

use std::fs::File;
use std::io::Read as _;

use vm_memory::{Bytes as _, GuestAddress, GuestMemory};

use crate::error::{Error, Result};
use crate::linux::{self, INITRD, KERNEL, Linux};
use crate::memory::{Range, place};
use crate::smbios;
use format::{Program, Segment};
use information::Module;

/// The files, opened and looked at.
#[derive(Debug)]
pub struct Opened {
    program: Program,
    bytes: Vec<u8>,
    module: Option<Vec<u8>>,
    /// Name of the kernel, then its arguments.
    command_line: String,
}

/// Where the kernel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First instruction.
    pub rip: u64,
    /// Address of the table, for EBX.
    pub information: u64,
}

/// EAX at the first instruction.
pub const LOADER_MAGIC: u64 = 0x2bad_b002;

/// Files of this kind are read as a whole.
const MOST_BYTES: u64 = 64 << 20;

/// Opens the kernel if it has a Multiboot header.
///
/// # Errors
/// [`Error::File`] or [`Error::Content`] for one that has, and is of no use all the same.
pub fn open(what: &Linux) -> Result<Option<Opened>> {
    // Whatever is wrong with a file without the header is said by others.
    let Ok(mut file) = File::open(&what.kernel) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let is_read = file.by_ref().take(format::SEARCHED).read_to_end(&mut bytes);
    let Some(header) = is_read.ok().and_then(|_| format::header(&bytes)) else {
        return Ok(None);
    };
    let wrong = |error| Error::File {
        what: KERNEL,
        path: what.kernel.clone(),
        error,
    };
    file.take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(wrong)?;
    let program = format::program(&header, &bytes).map_err(|problem| Error::Content {
        what: KERNEL,
        path: what.kernel.clone(),
        problem,
    })?;
    let module = what.initrd.as_deref().map(read_module).transpose()?;
    let name = what.kernel.file_name().unwrap_or_default();
    let command_line = format!("{} {}", name.to_string_lossy(), what.command_line);
    // CAST: widening.
    let most = place::COMMAND_LINE_LEN as usize - 1;
    if command_line.len() > most {
        return Err(Error::CommandLine {
            len: command_line.len(),
            most,
        });
    }
    Ok(Some(Opened {
        program,
        bytes,
        module,
        command_line,
    }))
}

fn read_module(path: &std::path::Path) -> Result<Vec<u8>> {
    let (mut file, _) = linux::open(INITRD, path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| Error::File {
        what: INITRD,
        path: path.to_path_buf(),
        error,
    })?;
    Ok(bytes)
}

impl Opened {
    /// Loads everything. `ram` are the pieces of `memory`, and cover [`place::LOW`].
    ///
    /// # Errors
    /// [`Error::Memory`] if there is none where the kernel has to be.
    pub fn load<M: GuestMemory>(
        self,
        memory: &M,
        ram: &[Range],
        acpi_tables: &[u8],
    ) -> Result<Entry> {
        for segment in &self.program.segments {
            check_place(segment, ram)?;
        }
        for segment in &self.program.segments {
            self.load_segment(memory, segment)?;
        }
        let module = self.load_module(memory, ram)?;
        let write = |at: u64, bytes: &[u8]| memory.write_slice(bytes, GuestAddress(at));
        write(place::COMMAND_LINE, self.command_line.as_bytes())?;
        // CAST: widening.
        write(place::COMMAND_LINE + self.command_line.len() as u64, &[0])?;
        write(place::ACPI.start, acpi_tables)?;
        write(smbios::STRUCTURES, &smbios::structures())?;
        write(place::BOOT_PARAMETERS, &information::table(ram, module))?;
        Ok(Entry {
            rip: self.program.entry,
            information: place::BOOT_PARAMETERS,
        })
    }

    /// Its contents, and zeros: an earlier guest may have used the memory.
    fn load_segment<M: GuestMemory>(&self, memory: &M, segment: &Segment) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let contents = &self.bytes[segment.contents.clone()];
        memory.write_slice(contents, GuestAddress(segment.memory.start))?;
        // CAST: widening.
        let mut at = segment.memory.start + contents.len() as u64;
        while at < segment.memory.end {
            // CAST: at most 4096.
            let len = (segment.memory.end - at).min(ZEROS.len() as u64) as usize;
            memory.write_slice(&ZEROS[..len], GuestAddress(at))?;
            at += len as u64;
        }
        Ok(())
    }

    /// The RAM disk is its only module; it goes as high as it may.
    fn load_module<M: GuestMemory>(&self, memory: &M, ram: &[Range]) -> Result<Option<Module>> {
        const PAGE: u64 = 4096;
        let Some(bytes) = &self.module else {
            return Ok(None);
        };
        // CAST: widening.
        let len = bytes.len() as u64;
        let is_free = |at: Range| {
            let mut segments = self.program.segments.iter();
            segments.all(|it| it.memory.end <= at.start || at.end <= it.memory.start)
        };
        let fitting = ram.iter().rev().find_map(|piece| {
            let start = piece.end.checked_sub(len)? & !(PAGE - 1);
            let at = Range::new(start, start + len);
            (start >= place::HIGH && piece.contains(at) && is_free(at)).then_some(at)
        });
        let Some(at) = fitting else {
            return Err(Error::Memory(format!(
                "the initial RAM disk has {len} bytes, there is no room for it beside the kernel; \
                 give VTL0 more with --memory, or the machine with emu.vtl0="
            )));
        };
        memory.write_slice(bytes, GuestAddress(at.start))?;
        Ok(Some(Module(at)))
    }
}

/// A kernel has to be in RAM, and not where the tables are.
fn check_place(segment: &Segment, ram: &[Range]) -> Result<()> {
    let Range { start, end } = segment.memory;
    if start >= place::HIGH && ram.iter().any(|piece| piece.contains(segment.memory)) {
        return Ok(());
    }
    let reach = ram.last().map_or(0, |piece| piece.end);
    Err(Error::Memory(format!(
        "the kernel takes {start:#x}..{end:#x}, VTL0's memory for it is {:#x}..{reach:#x}; give it more \
         with --memory, or the machine with emu.vtl0=",
        place::HIGH
    )))
}

#[cfg(test)]
mod tests;
