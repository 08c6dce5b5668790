// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! L1's kernel: a bzImage that QEMU's loader device left in memory, started at its 64-bit entry
//! [Linux Documentation/arch/x86/boot.rst]; or an ELF file, see `loader/elf.rs`, started the same way.

mod elf;

use crate::mem::layout::L1_WINDOW;
use crate::mem::map::MemoryMap;

/// Where QEMU's command line puts the file.
pub const FILE_PA: u64 = 0x3000_0000;
/// Zero page, in memory that is L1's wherever VTL0's is.
pub const BOOT_PARAMS_PA: u64 = L1_WINDOW.start;
/// Command line.
pub const CMDLINE_PA: u64 = BOOT_PARAMS_PA + 4096;
/// Room for the command line.
pub const CMDLINE_BYTES: usize = 4096;

const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const BOOT_FLAG: usize = 0x1fe;
const JUMP_OFFSET: usize = 0x201;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE_KERNEL: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

const ACPI_RSDP: usize = 0x70;
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY_BYTES: usize = 20;

const XLF_KERNEL_64: u16 = 1;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;
const LOADER_UNDEFINED: u8 = 0xff;
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;

/// The zero page.
pub type BootParams = [u8; 4096];

/// Most pieces of a kernel.
pub const MAX_PIECES: usize = 8;
const PAGE_BYTES: u64 = 4096;

/// A piece of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the file.
    pub offset: u64,
    /// Its length there.
    pub file_bytes: u64,
    /// Where it goes, from the kernel's address.
    pub at: u64,
    /// Its length there, with zeros at its end.
    pub memory_bytes: u64,
}

impl Piece {
    /// An empty one.
    pub const NONE: Self = Self {
        offset: 0,
        file_bytes: 0,
        at: 0,
        memory_bytes: 0,
    };
}

/// What the headers of the file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What has to be in memory. Of a bzImage it is the protected-mode code.
    pub pieces: [Piece; MAX_PIECES],
    /// Where a processor starts, from the kernel's address.
    pub entry: u64,
    /// Its preferred address.
    pub preferred_pa: u64,
    /// True if it may be elsewhere.
    pub is_relocatable: bool,
    /// True if it may even be above 4 GiB.
    pub can_be_above_4g: bool,
    /// What its address has to be a multiple of, a power of two.
    pub alignment: u64,
    /// Memory it needs.
    pub init_bytes: u64,
    /// Longest command line.
    pub cmdline_bytes: u64,
}

impl Kernel {
    /// Length of the file, as far as its headers tell. What a signature appends is not in it.
    pub fn image_bytes(&self) -> u64 {
        let ends = self.pieces.iter().map(|p| p.offset + p.file_bytes);
        ends.max().unwrap_or(0)
    }
}

fn get<const N: usize>(page: &BootParams, offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&page[offset..offset + N]);
    bytes
}

fn put(page: &mut BootParams, offset: usize, bytes: &[u8]) {
    page[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Reads the headers out of the first page of the file.
///
/// # Errors
///
/// When it is neither a bzImage nor an ELF file with a 64-bit entry point.
pub fn inspect(first_page: &BootParams) -> Result<Kernel, &'static str> {
    if elf::is_elf(first_page) {
        return elf::inspect(first_page);
    }
    if &get::<4>(first_page, MAGIC) != b"HdrS" {
        return Err("no bzImage at 0x30000000, and no ELF file: QEMU needs \
             -device loader,file=bzImage,addr=0x30000000,force-raw=on and -m 1G or more");
    }
    let version = u16::from_le_bytes(get(first_page, VERSION));
    let flags = u16::from_le_bytes(get(first_page, XLOADFLAGS));
    if version < 0x20c || flags & XLF_KERNEL_64 == 0 {
        return Err("the bzImage has no 64-bit entry point");
    }
    let sectors = match first_page[SETUP_SECTS] {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let alignment = u64::from(u32::from_le_bytes(get(first_page, KERNEL_ALIGNMENT)));
    let code_bytes = u64::from(u32::from_le_bytes(get(first_page, SYSSIZE))) * 16;
    let mut pieces = [Piece::NONE; MAX_PIECES];
    pieces[0] = Piece {
        offset: (sectors + 1) * SECTOR,
        file_bytes: code_bytes,
        at: 0,
        memory_bytes: code_bytes,
    };
    Ok(Kernel {
        pieces,
        entry: ENTRY_64,
        preferred_pa: u64::from_le_bytes(get(first_page, PREF_ADDRESS)),
        is_relocatable: first_page[RELOCATABLE_KERNEL] != 0,
        can_be_above_4g: flags & XLF_CAN_BE_LOADED_ABOVE_4G != 0,
        alignment: alignment.max(4096).next_power_of_two(),
        init_bytes: u64::from(u32::from_le_bytes(get(first_page, INIT_SIZE))),
        cmdline_bytes: u64::from(u32::from_le_bytes(get(first_page, CMDLINE_SIZE))),
    })
}

/// Input for the zero page besides the setup header.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Initial RAM disk.
    pub initrd_pa: u64,
    /// Its length.
    pub initrd_bytes: u64,
    /// ACPI root pointer.
    pub rsdp_pa: u64,
    /// L1's view of memory.
    pub map: &'a MemoryMap,
}

/// Makes the zero page. `first_page` is the first page of the file.
pub fn boot_params(first_page: &BootParams, facts: &Facts<'_>) -> BootParams {
    let mut page = [0; 4096];
    if elf::is_elf(first_page) {
        // A kernel looks here for a zero page.
        put(&mut page, BOOT_FLAG, &0xaa55u16.to_le_bytes());
        put(&mut page, MAGIC, b"HdrS");
    } else {
        let header_end = (MAGIC + usize::from(first_page[JUMP_OFFSET])).min(E820_TABLE);
        put(&mut page, SETUP_SECTS, &first_page[SETUP_SECTS..header_end]);
    }
    page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
    // CAST: RAM disk and command line are below 4 GiB, see mem/layout.rs.
    put(
        &mut page,
        RAMDISK_IMAGE,
        &(facts.initrd_pa as u32).to_le_bytes(),
    );
    put(
        &mut page,
        RAMDISK_SIZE,
        &(facts.initrd_bytes as u32).to_le_bytes(),
    );
    put(&mut page, CMD_LINE_PTR, &(CMDLINE_PA as u32).to_le_bytes());
    put(&mut page, ACPI_RSDP, &facts.rsdp_pa.to_le_bytes());
    let mut entries = 0;
    for (range, kind) in facts.map.iter() {
        let at = E820_TABLE + E820_ENTRY_BYTES * entries;
        put(&mut page, at, &range.start.to_le_bytes());
        put(&mut page, at + 8, &range.len_bytes().to_le_bytes());
        put(&mut page, at + 16, &(kind as u32).to_le_bytes());
        entries += 1;
    }
    page[E820_ENTRIES] = entries as u8; // CAST: at most map::CAPACITY
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::map::{Kind, Range};

    fn image() -> BootParams {
        let mut page = [0; 4096];
        page[SETUP_SECTS] = 39;
        put(&mut page, SYSSIZE, &0x1000u32.to_le_bytes());
        page[JUMP_OFFSET] = 0x6a;
        put(&mut page, MAGIC, b"HdrS");
        put(&mut page, VERSION, &0x20fu16.to_le_bytes());
        put(&mut page, XLOADFLAGS, &1u16.to_le_bytes());
        put(&mut page, PREF_ADDRESS, &0x100_0000u64.to_le_bytes());
        put(&mut page, KERNEL_ALIGNMENT, &0x20_0000u32.to_le_bytes());
        page
    }

    #[test]
    fn the_header_tells_where_the_code_is() {
        let kernel = inspect(&image()).unwrap();
        let [code, rest @ ..] = kernel.pieces;
        assert_eq!((code.offset, code.at), (40 * 512, 0));
        assert_eq!((code.file_bytes, code.memory_bytes), (0x1_0000, 0x1_0000));
        assert_eq!(rest, [Piece::NONE; MAX_PIECES - 1]);
        assert_eq!(kernel.image_bytes(), 40 * 512 + 0x1_0000);
        assert_eq!((kernel.preferred_pa, kernel.entry), (0x100_0000, 0x200));
    }

    #[test]
    fn the_header_tells_where_else_the_code_may_be() {
        let where_else = |page: &BootParams| {
            let kernel = inspect(page).unwrap();
            (
                kernel.is_relocatable,
                kernel.can_be_above_4g,
                kernel.alignment,
            )
        };
        let mut page = image();
        assert_eq!(where_else(&page), (false, false, 2 << 20));
        page[RELOCATABLE_KERNEL] = 1;
        page[XLOADFLAGS] = 3;
        put(&mut page, KERNEL_ALIGNMENT, &[0; 4]);
        assert_eq!(where_else(&page), (true, true, 4096));
    }

    #[test]
    fn an_image_without_64_bit_entry_is_refused() {
        let mut page = image();
        page[XLOADFLAGS] = 0;
        assert!(inspect(&page).is_err());
        assert!(inspect(&[0; 4096]).is_err());
    }

    #[test]
    fn the_zero_page_carries_map_and_ramdisk() {
        let mut map = MemoryMap::new();
        map.add(Range::new(0x1000, 0x3000), Kind::Ram);
        map.add(Range::new(0x3000, 0x4000), Kind::Nvs);
        let facts = Facts {
            initrd_pa: 0x3000_0000,
            initrd_bytes: 77,
            rsdp_pa: 0x55,
            map: &map,
        };
        let page = boot_params(&image(), &facts);
        assert_eq!(page[E820_ENTRIES], 2);
        assert_eq!(get(&page, E820_TABLE + 8), 0x2000u64.to_le_bytes());
        assert_eq!(get(&page, E820_TABLE + 36), 4u32.to_le_bytes());
        assert_eq!(get(&page, RAMDISK_SIZE), 77u32.to_le_bytes());
        assert_eq!(&get::<4>(&page, MAGIC), b"HdrS");
        assert_eq!(page[TYPE_OF_LOADER], 0xff);
        let mut file = [0x77; 4096];
        put(&mut file, 0, b"\x7fELF");
        let page = boot_params(&file, &facts);
        assert_eq!(&get::<4>(&page, MAGIC), b"HdrS");
        assert_eq!(get(&page, BOOT_FLAG), [0x55, 0xaa]);
        assert_eq!(get(&page, RAMDISK_SIZE), 77u32.to_le_bytes());
        assert_eq!((page[SETUP_SECTS], page[RELOCATABLE_KERNEL]), (0, 0));
    }
}
