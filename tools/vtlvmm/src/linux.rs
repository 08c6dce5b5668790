// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Puts a Linux kernel into guest memory by the 64-bit boot protocol, which Linux has in
//! `Documentation/arch/x86/boot.rst`: kernel, initial RAM disk, command line, memory map, and the
//! tables that the first instruction needs.

mod tables;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{BzImage, KernelLoader as _};
use vm_memory::{ByteValued as _, Bytes as _, GuestAddress, GuestMemory};

use crate::error::{Error, Result};
use crate::memory::{Range, place};
use crate::smbios;

pub use tables::{CODE_SELECTOR, DATA_SELECTOR, DESCRIPTORS_LIMIT};

/// What is to be booted.
#[derive(Clone, Debug)]
pub struct Linux {
    /// A bzImage for x86-64.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
}

/// The files, opened and checked; nothing has been changed yet.
#[derive(Debug)]
pub struct Opened {
    kernel: File,
    kernel_path: PathBuf,
    header: setup_header,
    initrd: Option<(File, u64)>,
    command_line: String,
}

/// Where the kernel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First instruction.
    pub rip: u64,
    /// Zero page.
    pub rsi: u64,
}

pub(crate) const KERNEL: &str = "kernel";
pub(crate) const INITRD: &str = "initial RAM disk";
/// From the load address to the 64-bit entry.
const ENTRY_64: u64 = 0x200;
const HEADER_AT: u64 = 0x1f1;

impl Linux {
    /// Opens the files and checks what can be checked without memory.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Content`], [`Error::CommandLine`].
    pub fn open(&self) -> Result<Opened> {
        let (mut kernel, _) = open(KERNEL, &self.kernel)?;
        let header = read_header(&mut kernel).map_err(|problem| Error::Content {
            what: KERNEL,
            path: self.kernel.clone(),
            problem,
        })?;
        let initrd = self
            .initrd
            .as_deref()
            .map(|path| open(INITRD, path))
            .transpose()?;
        // CAST: widening; the memory for it has 64 KiB.
        let most = (header.cmdline_size as usize).min(place::COMMAND_LINE_LEN as usize - 1);
        if self.command_line.len() > most {
            return Err(Error::CommandLine {
                len: self.command_line.len(),
                most,
            });
        }
        Ok(Opened {
            kernel,
            kernel_path: self.kernel.clone(),
            header,
            initrd,
            command_line: self.command_line.clone(),
        })
    }
}

/// Opens a regular file that is not empty; its length, too.
pub(crate) fn open(what: &'static str, path: &Path) -> Result<(File, u64)> {
    let wrong = |error| Error::File {
        what,
        path: path.to_path_buf(),
        error,
    };
    let file = File::open(path).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    let problem = match (metadata.is_file(), metadata.len()) {
        (false, _) => "is no regular file",
        (true, 0) => "is empty",
        (true, len) => return Ok((file, len)),
    };
    Err(Error::Content {
        what,
        path: path.to_path_buf(),
        problem: problem.to_owned(),
    })
}

/// Reads the setup header; the error says why this is no kernel for a 64-bit guest.
fn read_header(file: &mut File) -> std::result::Result<setup_header, String> {
    const MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
    const WITH_64_BIT_ENTRY: u16 = 0x20c;
    const KERNEL_64: u16 = 1 << 0;
    const NO_KERNEL: &str = "is no bzImage (expected a Linux kernel for x86-64)";
    let mut header = setup_header::default();
    file.seek(SeekFrom::Start(HEADER_AT))
        .and_then(|_| file.read_exact(header.as_mut_slice()))
        .map_err(|_| format!("{NO_KERNEL}: it is too short"))?;
    if { header.header } != MAGIC {
        return Err(NO_KERNEL.to_owned());
    }
    if header.version < WITH_64_BIT_ENTRY || header.xloadflags & KERNEL_64 == 0 {
        return Err(
            "has no 64-bit entry (expected a Linux kernel for x86-64, 3.8 or newer)".to_owned(),
        );
    }
    Ok(header)
}

impl Opened {
    /// Loads everything. `ram` are the pieces of `memory`, and cover [`place::LOW`].
    ///
    /// # Errors
    /// [`Error::Memory`] if there is too little, [`Error::Content`] for a kernel that ends early.
    pub fn load<M: GuestMemory>(
        mut self,
        memory: &M,
        ram: &[Range],
        acpi_tables: &[u8],
    ) -> Result<Entry> {
        let kernel = self.place_kernel(ram)?;
        let initrd = self.place_initrd(ram, kernel)?;
        BzImage::load(
            memory,
            Some(GuestAddress(kernel.start)),
            &mut self.kernel,
            None,
        )
        .map_err(|error| Error::Content {
            what: KERNEL,
            path: self.kernel_path.clone(),
            problem: format!("cannot be loaded: {error}"),
        })?;
        if let (Some((file, len)), Some(at)) = (&mut self.initrd, initrd) {
            let len = usize::try_from(*len).unwrap_or(usize::MAX);
            memory.read_exact_volatile_from(GuestAddress(at.start), file, len)?;
        }
        memory.write_slice(
            self.command_line.as_bytes(),
            GuestAddress(place::COMMAND_LINE),
        )?;
        // CAST: widening.
        let end = place::COMMAND_LINE + self.command_line.len() as u64;
        memory.write_slice(&[0], GuestAddress(end))?;
        memory.write_slice(acpi_tables, GuestAddress(place::ACPI.start))?;
        let structures = smbios::structures();
        memory.write_slice(&structures, GuestAddress(smbios::STRUCTURES))?;
        let parameters = self.parameters(ram, kernel, initrd);
        memory.write_slice(parameters.as_slice(), GuestAddress(place::BOOT_PARAMETERS))?;
        tables::write(memory)?;
        Ok(Entry {
            rip: kernel.start + ENTRY_64,
            rsi: place::BOOT_PARAMETERS,
        })
    }

    /// Where the kernel unpacks itself, and what it takes.
    fn place_kernel(&self, ram: &[Range]) -> Result<Range> {
        let start = self.header.pref_address;
        let end = start.saturating_add(u64::from(self.header.init_size));
        let kernel = Range::new(start, end);
        if start >= place::HIGH && ram.iter().any(|piece| piece.contains(kernel)) {
            return Ok(kernel);
        }
        let reach = ram.last().map_or(0, |piece| piece.end);
        Err(Error::Memory(format!(
            "the kernel takes {start:#x}..{end:#x}, VTL0's memory reaches to {reach:#x}; give it \
             more with --memory, or the machine with emu.vtl0="
        )))
    }

    /// Places the initial RAM disk as high as possible.
    fn place_initrd(&self, ram: &[Range], kernel: Range) -> Result<Option<Range>> {
        const PAGE: u64 = 4096;
        let Some((_, len)) = self.initrd else {
            return Ok(None);
        };
        let limit = u64::from(self.header.initrd_addr_max) + 1;
        let fitting = ram.iter().rev().find_map(|piece| {
            let end = piece.end.min(limit);
            let start = end.checked_sub(len)? & !(PAGE - 1);
            let is_free = start >= kernel.end || start + len <= kernel.start;
            let at = Range::new(start, start + len);
            (start >= place::HIGH && piece.contains(at) && is_free).then_some(at)
        });
        match fitting {
            Some(at) => Ok(Some(at)),
            None => Err(Error::Memory(format!(
                "the initial RAM disk has {len} bytes, there is no room for it beside the kernel; \
                 give VTL0 more with --memory, or the machine with emu.vtl0="
            ))),
        }
    }

    fn parameters(&self, ram: &[Range], kernel: Range, initrd: Option<Range>) -> boot_params {
        const UNDEFINED_LOADER: u8 = 0xff;
        let mut parameters = boot_params {
            hdr: self.header,
            acpi_rsdp_addr: place::ACPI.start,
            ..boot_params::default()
        };
        // CAST: kernel, command line and RAM disk are below 4 GiB, the latter by the header's limit.
        parameters.hdr.type_of_loader = UNDEFINED_LOADER;
        parameters.hdr.code32_start = kernel.start as u32;
        parameters.hdr.cmd_line_ptr = place::COMMAND_LINE as u32;
        if let Some(initrd) = initrd {
            parameters.hdr.ramdisk_image = initrd.start as u32;
            parameters.hdr.ramdisk_size = initrd.len() as u32;
        }
        let map = memory_map(ram);
        // CAST: a handful of entries.
        parameters.e820_entries = map.len() as u8;
        parameters.e820_table[..map.len()].copy_from_slice(&map);
        parameters
    }
}

/// The memory map: all RAM, but for the ACPI tables.
fn memory_map(ram: &[Range]) -> Vec<boot_e820_entry> {
    const USABLE: u32 = 1;
    const ACPI: u32 = 3;
    const MOST: usize = 128;
    let entry = |range: Range, type_| boot_e820_entry {
        addr: range.start,
        size: range.len(),
        type_,
    };
    let mut map = Vec::new();
    for piece in ram {
        if !piece.contains(place::ACPI) {
            map.push(entry(*piece, USABLE));
            continue;
        }
        let around = [
            entry(Range::new(piece.start, place::ACPI.start), USABLE),
            entry(place::ACPI, ACPI),
            entry(Range::new(place::ACPI.end, piece.end), USABLE),
        ];
        map.extend(around.into_iter().filter(|entry| entry.size != 0));
    }
    map.truncate(MOST);
    map
}

#[cfg(test)]
mod tests;
