// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The sections of an ELF file for x86-64, which has no symbol table.

/// Reads numbers of a file; nothing outside of it.
#[derive(Clone, Copy, Debug)]
pub struct File<'a>(pub &'a [u8]);

impl<'a> File<'a> {
    /// `len` bytes from `at` on.
    pub fn bytes(&self, at: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.0.get(start..end)
    }

    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        // CAST: a handful.
        self.bytes(at, N as u64)?.try_into().ok()
    }

    /// A number of 16 bits.
    pub fn u16(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// A number of 32 bits.
    pub fn u32(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// A signed number of 32 bits.
    pub fn i32(&self, at: u64) -> Option<i32> {
        self.array(at).map(i32::from_le_bytes)
    }

    /// A number of 64 bits.
    pub fn u64(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// A section that has an address and contents.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Its name.
    pub name: &'a str,
    /// Address for which it is linked.
    pub address: u64,
    /// Its contents.
    pub bytes: &'a [u8],
}

impl<'a> Section<'a> {
    /// The contents at an address for which it is linked.
    fn at(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        File(self.bytes).bytes(address.checked_sub(self.address)?, len)
    }
}

/// The sections.
#[derive(Debug)]
pub struct Elf<'a> {
    sections: Vec<Section<'a>>,
    end: u64,
}

impl<'a> Elf<'a> {
    /// Reads the table of sections. `None` if this is no such file.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        const MAGIC_64_LE: &[u8] = b"\x7fELF\x02\x01";
        const X86_64: u16 = 62;
        const HEADER_LEN: u64 = 64;
        let file = File(bytes);
        if !bytes.starts_with(MAGIC_64_LE) || file.u16(0x12)? != X86_64 {
            return None;
        }
        let (table, count) = (file.u64(0x28)?, u64::from(file.u16(0x3c)?));
        let header = |index: u64| table.checked_add(index.checked_mul(HEADER_LEN)?);
        let names_at = file.u64(header(u64::from(file.u16(0x3e)?))?.checked_add(0x18)?)?;
        let mut sections = Vec::new();
        let mut end = table.checked_add(count * HEADER_LEN)?;
        for index in 0..count {
            let at = header(index)?;
            let name_at = names_at.checked_add(u64::from(file.u32(at)?))?;
            let kind = file.u32(at + 4)?;
            let (address, offset, len) = (
                file.u64(at + 0x10)?,
                file.u64(at + 0x18)?,
                file.u64(at + 0x20)?,
            );
            const NOBITS: u32 = 8;
            if kind == NOBITS || kind == 0 {
                continue;
            }
            let bytes = file.bytes(offset, len)?;
            end = end.max(offset + len);
            if address != 0 {
                sections.push(Section {
                    name: name_of(file, name_at)?,
                    address,
                    bytes,
                });
            }
        }
        Some(Self { sections, end })
    }

    /// The sections, in their order.
    pub fn sections(&self) -> impl Iterator<Item = &Section<'a>> {
        self.sections.iter()
    }

    /// One of them.
    pub fn section(&self, name: &str) -> Option<Section<'a>> {
        self.sections.iter().find(|it| it.name == name).copied()
    }

    /// What is at an address for which the file is linked.
    pub fn at(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        self.sections.iter().find_map(|it| it.at(address, len))
    }

    /// Where the file ends. Linux has its relocations after that.
    pub const fn end(&self) -> u64 {
        self.end
    }
}

fn name_of(file: File<'_>, at: u64) -> Option<&str> {
    const LONGEST: usize = 256;
    let rest = file.0.get(usize::try_from(at).ok()?..)?;
    let len = rest.iter().take(LONGEST).position(|byte| *byte == 0)?;
    core::str::from_utf8(rest.get(..len)?).ok()
}
