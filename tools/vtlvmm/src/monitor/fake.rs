// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A small kernel and a guest that runs it, for tests.

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::image::KernelImage;
use super::roots::Tops;
use super::view::{Registers, Root, Table};

pub(crate) const BASE: u64 = 0xffff_ffff_8100_0000;
pub(crate) const CONSTANTS: u64 = BASE + 0x20_0000;
pub(crate) const TEXT_LEN: u64 = 0x3000;
/// Places in the text.
pub(crate) const ENTRY: u64 = 0x80;
pub(crate) const LABEL: u64 = 0x200;
pub(crate) const LABEL_TARGET: u64 = 0x280;
/// One whose key is in the constants.
pub(crate) const SEALED: u64 = 0x2c0;
pub(crate) const CALL: u64 = 0x300;
pub(crate) const CALLED: u64 = 0x400;
pub(crate) const TRACED: u64 = 0x500;
pub(crate) const PATCHED: u64 = 0x600;
pub(crate) const MOVED: u64 = 0x700;

/// Random numbers, the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const SYMBOLS: [(u64, &str); 15] = [
    (BASE, "_stext"),
    (BASE + ENTRY, "entry_SYSCALL_64"),
    (BASE + CALLED, "called"),
    (BASE + TRACED, "traced"),
    (BASE + 0x800, "ftrace_caller"),
    (BASE + 0x810, "ftrace_caller_op_ptr"),
    (BASE + 0x820, "ftrace_call"),
    (BASE + 0x830, "ftrace_caller_end"),
    (CONSTANTS + 0x1000, "__start___jump_table"),
    (CONSTANTS + 0x1020, "__stop___jump_table"),
    (CONSTANTS + 0x1020, "__start_static_call_sites"),
    (CONSTANTS + 0x1028, "__stop_static_call_sites"),
    (CONSTANTS + 0x1028, "__start_mcount_loc"),
    (CONSTANTS + 0x1038, "__stop_mcount_loc"),
    (CONSTANTS + 0x2000, "__end_rodata"),
];

fn put(bytes: &mut [u8], at: u64, what: &[u8]) {
    let at = usize::try_from(at).expect("small");
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn relative(from: u64, to: u64) -> [u8; 4] {
    // CAST: near.
    (to.wrapping_sub(from) as u32).to_le_bytes()
}

/// A call from one place of the text to another.
pub(crate) fn call(from: u64, to: u64) -> [u8; 5] {
    let distance = relative(from + 5, to);
    [0xe8, distance[0], distance[1], distance[2], distance[3]]
}

fn text() -> Vec<u8> {
    let mut text = vec![0x90; usize::try_from(TEXT_LEN).expect("small")];
    for label in [LABEL, SEALED] {
        put(&mut text, label, &[0x0f, 0x1f, 0x44, 0, 0]);
    }
    put(&mut text, CALL, &call(CALL, CALLED));
    put(&mut text, TRACED, &call(TRACED, 0x900));
    put(&mut text, MOVED, &relative(0, BASE + CALLED));
    put(&mut text, 0x810, &[0x48, 0x8b, 0x15, 1, 2, 3, 4]);
    put(&mut text, 0x820, &call(0x820, CALLED));
    text
}

/// Symbols as the kernel has them, at an address that is a multiple of four.
fn symbols(address: u64) -> Vec<u8> {
    let mut bytes = u32::try_from(SYMBOLS.len())
        .expect("few")
        .to_le_bytes()
        .to_vec();
    for (_, name) in SYMBOLS {
        bytes.push(u8::try_from(name.len() + 1).expect("short"));
        bytes.push(b'T');
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(&[0; 4]);
    // Each letter is a token; the others are empty.
    let mut index = Vec::new();
    let begin = bytes.len();
    for token in 0..=255_u8 {
        index.extend_from_slice(
            &u16::try_from(bytes.len() - begin)
                .expect("few")
                .to_le_bytes(),
        );
        if token.is_ascii_graphic() {
            bytes.push(token);
        }
        bytes.push(0);
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(&index);
    for (symbol, _) in SYMBOLS {
        // CAST: widening.
        let here = address + bytes.len() as u64;
        bytes.extend_from_slice(&relative(here, symbol));
    }
    bytes
}

fn constants() -> Vec<u8> {
    let mut bytes = vec![0; 0x2000];
    put(&mut bytes, 0, &symbols(CONSTANTS));
    for (at, label, key) in [(0x1000, LABEL, 0x10_0000_u64), (0x1010, SEALED, 0x102)] {
        put(&mut bytes, at, &relative(CONSTANTS + at, BASE + label));
        put(
            &mut bytes,
            at + 4,
            &relative(CONSTANTS + at + 4, BASE + LABEL_TARGET),
        );
        put(&mut bytes, at + 8, &key.to_le_bytes());
    }
    put(
        &mut bytes,
        0x1020,
        &relative(CONSTANTS + 0x1020, BASE + CALL),
    );
    put(&mut bytes, 0x1030, &(BASE + TRACED).to_le_bytes());
    bytes
}

/// The file.
pub(crate) fn vmlinux() -> Vec<u8> {
    let returns = relative(CONSTANTS + 0x4000, BASE + PATCHED).to_vec();
    let sections = [
        (".text", BASE, text()),
        (".rodata", CONSTANTS, constants()),
        (".return_sites", CONSTANTS + 0x4000, returns),
    ];
    let (mut file, mut headers, mut names) = (vec![0; 64], vec![0; 64], vec![0]);
    let header = |name: usize, address: u64, at: usize, len: usize| {
        let mut header = vec![0; 64];
        // CAST: widening.
        put(&mut header, 0, &(name as u32).to_le_bytes());
        put(&mut header, 4, &1_u32.to_le_bytes());
        for (field, value) in [(0x10, address), (0x18, at as u64), (0x20, len as u64)] {
            put(&mut header, field, &value.to_le_bytes());
        }
        header
    };
    for (name, address, bytes) in &sections {
        headers.extend(header(names.len(), *address, file.len(), bytes.len()));
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        file.extend_from_slice(bytes);
    }
    headers.extend(header(0, 0, file.len(), names.len()));
    file.extend_from_slice(&names);
    put(&mut file, 0, b"\x7fELF\x02\x01");
    put(&mut file, 0x12, &62_u16.to_le_bytes());
    // CAST: widening.
    let table = (file.len() as u64).to_le_bytes();
    put(&mut file, 0x28, &table);
    put(&mut file, 0x3c, &5_u16.to_le_bytes());
    put(&mut file, 0x3e, &4_u16.to_le_bytes());
    file.extend_from_slice(&headers);
    for moved in [0, 0, BASE + MOVED] {
        file.extend_from_slice(&relative(0, moved));
    }
    file
}

pub(crate) fn image() -> KernelImage {
    KernelImage::from_vmlinux(&vmlinux()).expect("a kernel")
}

pub(crate) use crate::walk::{LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE};
const TABLE: u64 = PRESENT | WRITABLE | USER;

/// A guest that has booted the kernel, moved by a large page.
pub(crate) struct Guest {
    pub(crate) memory: GuestMemoryMmap<()>,
    pub(crate) registers: Registers,
    next_table: u64,
}

pub(crate) const DELTA: u64 = 0x20_0000;
pub(crate) const MEMORY_LEN: usize = 16 << 20;
/// Where things are in its memory.
pub(crate) const ROOT: u64 = 0x1000;
pub(crate) const TEXT_GPA: u64 = 0x40_0000;
pub(crate) const IDT_GPA: u64 = 0x30_0000;
pub(crate) const DIRECT: u64 = 0xffff_8880_0000_0000;
pub(crate) const IDT: u64 = 0xffff_fe00_0000_0000;

impl Guest {
    pub(crate) fn new() -> Self {
        let memory = crate::memory::tests::ram(&[(0, MEMORY_LEN)]);
        let text_at = BASE + DELTA;
        let mut guest = Self {
            memory,
            next_table: ROOT + 0x1000,
            registers: Registers {
                cpl: 3,
                cr0: (1 << 31) | (1 << 16) | 1,
                cr3: ROOT,
                cr4: (1 << 20) | (1 << 21),
                efer: 0xd01,
                idtr: Table {
                    base: IDT,
                    limit: 0xfff,
                },
                gdtr: Table {
                    base: IDT + 0x1000,
                    limit: 0x7f,
                },
                lstar: text_at + ENTRY,
                star: 0x23 << 48,
                sfmask: 0x257fd5,
                sysenter_eip: 0,
                tops: Tops::default(),
            },
        };
        let mut text = text();
        put(&mut text, MOVED, &relative(0, BASE + CALLED + DELTA));
        put(&mut text, TRACED, &[0x0f, 0x1f, 0x44, 0, 0]);
        put(&mut text, PATCHED, &[0xc3, 0xcc]);
        guest.write(TEXT_GPA, &text);
        guest.write(TEXT_GPA + CONSTANTS - BASE, &constants());
        let mut gate = [0; 16];
        let target = text_at + CALLED;
        put(&mut gate, 0, &target.to_le_bytes()[..2]);
        put(&mut gate, 2, &[0x10, 0, 0, 0x8e]);
        put(&mut gate, 6, &target.to_le_bytes()[2..]);
        guest.write(IDT_GPA, &gate);
        guest.map_text(TEXT_GPA | PRESENT);
        guest.map(
            CONSTANTS + DELTA,
            (TEXT_GPA + 0x20_0000) | PRESENT | LARGE | NO_EXECUTE,
            21,
        );
        guest.map(IDT, IDT_GPA | PRESENT | NO_EXECUTE, 12);
        guest.map(DIRECT, PRESENT | WRITABLE | LARGE | NO_EXECUTE, 21);
        guest
    }

    pub(crate) const fn root(&self) -> Root {
        Root {
            cr3: self.registers.cr3,
            levels: 4,
        }
    }

    /// Its registers, when the processor is stopped now.
    pub(crate) fn stopped(&self) -> Registers {
        self.registers.with_tops(&self.memory)
    }

    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) {
        let written = self.memory.write_slice(bytes, GuestAddress(gpa));
        written.expect("in its memory");
    }

    pub(crate) fn read_word(&self, gpa: u64) -> u64 {
        self.memory
            .read_obj(GuestAddress(gpa))
            .expect("in its memory")
    }

    /// Maps the text to memory that begins in the first entry.
    pub(crate) fn map_text(&mut self, first: u64) {
        for page in (0..TEXT_LEN).step_by(0x1000) {
            self.map(BASE + DELTA + page, first + page, 12);
        }
    }

    /// Sets the entry of an address in the table whose entries stand for `1 << shift` bytes. Returns
    /// where it is.
    pub(crate) fn map(&mut self, linear: u64, entry: u64, shift: u32) -> u64 {
        let mut table = ROOT;
        let mut level = 39;
        while level > shift {
            let at = table + 8 * ((linear >> level) & 0x1ff);
            if self.read_word(at) & PRESENT == 0 {
                self.write(at, &(self.next_table | TABLE).to_le_bytes());
                self.next_table += 0x1000;
            }
            table = self.read_word(at) & 0x000f_ffff_ffff_f000;
            level -= 9;
        }
        let at = table + 8 * ((linear >> shift) & 0x1ff);
        self.write(at, &entry.to_le_bytes());
        at
    }
}
