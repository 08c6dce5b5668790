// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Kernels of a few bytes, good and bad.

use std::path::PathBuf;

use super::*;
use crate::memory::tests::ram;

const LOAD: u32 = 0x10_0000;
const HAS_ADDRESSES: u32 = 1 << 16;

/// Little-endian words.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn header(flags: u32) -> [u32; 3] {
    let sum = 0x1bad_b002_u32.wrapping_add(flags);
    [0x1bad_b002, flags, sum.wrapping_neg()]
}

/// A header that says where the file goes, 16 bytes into it, then `K`.
fn of_one_piece(change: impl Fn(&mut [u32; 5])) -> Vec<u8> {
    // Header, load, load end, BSS end, entry.
    let mut addresses = [LOAD + 16, LOAD, 0, LOAD + 0x3000, LOAD + 48];
    change(&mut addresses);
    let mut bytes = vec![0; 16];
    bytes.extend(words(&header(HAS_ADDRESSES | 3)));
    bytes.extend(words(&addresses));
    bytes.extend(b"K___");
    bytes
}

/// An ELF file of class 32 with a header, linked at 3 GiB and loaded at [`LOAD`].
fn elf_32() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Kind and machine, version, entry, program headers, then nothing of interest.
    bytes.extend(words(&[0x0003_0002, 1, 0xc000_0004, 52, 0, 0]));
    // Sizes: this header, a program header, one of them.
    bytes.extend(words(&[0x0020_0034, 1, 0]));
    // Load, offset, linear, physical, in the file, in memory.
    bytes.extend(words(&[1, 84, 0xc000_0000, LOAD, 16, 0x2000, 7, 4096]));
    bytes.extend(words(&header(0)));
    bytes.extend(b"K___");
    bytes
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vtlvmm-mb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn files(&self, kernel: &[u8], initrd: Option<&[u8]>) -> Linux {
        let put = |name: &str, bytes: &[u8]| {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).expect("a file");
            path
        };
        Linux {
            kernel: put("kernel", kernel),
            initrd: initrd.map(|bytes| put("initrd", bytes)),
            command_line: "quiet".to_owned(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pieces() -> [Range; 2] {
    [Range::new(0, 0x7_0000), Range::new(place::HIGH, 0x80_0000)]
}

fn opened(folder: &Folder, kernel: &[u8], initrd: Option<&[u8]>) -> Opened {
    let opened = open(&folder.files(kernel, initrd)).expect("good files");
    opened.expect("a header")
}

#[test]
fn both_kinds_are_loaded_with_zeros_behind_them_and_told_of_memory() {
    let folder = Folder::new("good");
    for (kernel, expected, at) in [
        (of_one_piece(|_| {}), u64::from(LOAD) + 48, 48),
        (elf_32(), u64::from(LOAD) + 4, 12),
    ] {
        let memory = ram(&[(0, 0x7_0000), (place::HIGH, 0x70_0000)]);
        // What an earlier guest has left.
        let dirty = vec![0xff; 0x4000];
        memory
            .write_slice(&dirty, GuestAddress(LOAD.into()))
            .expect("RAM");
        let opened = opened(&folder, &kernel, Some(b"module"));
        let entry = opened
            .load(&memory, &pieces(), b"RSD PTR ")
            .expect("enough room");
        assert_eq!(entry.rip, expected);
        let byte = |at: u64| -> u8 { memory.read_obj(GuestAddress(at)).expect("RAM") };
        let word = |at: u64| -> u32 { memory.read_obj(GuestAddress(at)).expect("RAM") };
        let load = u64::from(LOAD);
        assert_eq!(byte(load + at), b'K');
        assert_eq!((byte(load + 0x1000), byte(load + 0x1fff)), (0, 0));
        let table = |offset: u64| word(entry.information + offset);
        assert_eq!(table(0), 0x24d);
        assert_eq!((table(4), table(8)), (448, 0x70_0000 >> 10));
        assert_eq!(byte(u64::from(table(16))), b'k');
        let module = u64::from(table(24));
        assert_eq!((table(20), word(module + 4) - word(module)), (1, 6));
        assert_eq!(byte(u64::from(word(module))), b'm');
        assert_eq!((table(44), word(u64::from(table(48)))), (3 * 24, 20));
    }
}

#[test]
fn a_file_without_a_header_is_somebody_elses() {
    let folder = Folder::new("none");
    let mut bad_sum = of_one_piece(|_| {});
    bad_sum[24] ^= 1;
    for kernel in [vec![0; 100], bad_sum, Vec::new()] {
        let found = open(&folder.files(&kernel, None)).expect("no error");
        assert!(found.is_none());
    }
}

#[test]
fn a_header_that_cannot_be_served_is_refused_with_a_reason() {
    let folder = Folder::new("bad");
    let mut video = vec![0; 16];
    video.extend(words(&header(4)));
    let mut short = elf_32();
    short.truncate(90);
    short.extend(words(&header(0)));
    let cut = elf_32()[..96].to_vec();
    for (kernel, reason) in [
        (video, "wants what is not served"),
        (of_one_piece(|fields| fields[1] = LOAD + 20), "damaged"),
        (of_one_piece(|fields| fields[2] = LOAD + 0x1000), "damaged"),
        (of_one_piece(|fields| fields[3] = LOAD + 4), "damaged"),
        (cut, "damaged"),
        (words(&header(0)), "damaged"),
    ] {
        let error = open(&folder.files(&kernel, None)).expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.fault(), crate::error::Fault::File);
    }
}

#[test]
fn a_kernel_is_not_loaded_where_there_is_no_memory_or_something_else() {
    let folder = Folder::new("place");
    for load in [0, 0x7000, 0x9_0000, 0x7f_f000, 0xffff_0000] {
        let kernel = of_one_piece(|fields| {
            *fields = [load + 16, load, 0, load.saturating_add(0x3000), load + 48];
        });
        let memory = ram(&[(0, 0x7_0000), (place::HIGH, 0x70_0000)]);
        let opened = opened(&folder, &kernel, None);
        let error = opened.load(&memory, &pieces(), &[]).expect_err("no room");
        assert_eq!(error.fault(), crate::error::Fault::Usage, "{load:#x}");
    }
}

/// Whatever stands in a file, nothing panics.
#[test]
fn no_bytes_of_a_header_can_do_harm() {
    let folder = Folder::new("random");
    for good in [of_one_piece(|_| {}), elf_32()] {
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut kernel = good.clone();
                kernel[at] = value;
                if let Ok(Some(opened)) = open(&folder.files(&kernel, None)) {
                    let memory = ram(&[(0, 0x7_0000), (place::HIGH, 0x70_0000)]);
                    let _ = opened.load(&memory, &pieces(), &[]);
                }
            }
        }
    }
}
