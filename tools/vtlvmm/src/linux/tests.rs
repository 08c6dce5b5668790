// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A kernel that is one only to the boot protocol, good and bad.

use super::*;
use crate::memory::tests::ram;

const LOAD: u64 = 0x100_0000;
const INIT_SIZE: u32 = 0x20_0000;

/// Files of one test, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vtlvmm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Boot sector, setup, and 4 KiB that begin with `K`.
fn image(change: impl Fn(&mut setup_header)) -> Vec<u8> {
    let mut header = setup_header {
        setup_sects: 1,
        header: 0x5372_6448,
        version: 0x20f,
        loadflags: 1,
        xloadflags: 1,
        cmdline_size: 2047,
        initrd_addr_max: 0x7fff_ffff,
        pref_address: LOAD,
        init_size: INIT_SIZE,
        ..setup_header::default()
    };
    change(&mut header);
    let mut bytes = vec![0; 1024 + 4096];
    bytes[0x1f1..][..header.as_slice().len()].copy_from_slice(header.as_slice());
    bytes[1024] = b'K';
    bytes
}

fn linux(folder: &Folder, kernel: &[u8], initrd: Option<&[u8]>) -> Linux {
    Linux {
        kernel: folder.file("kernel", kernel),
        initrd: initrd.map(|bytes| folder.file("initrd", bytes)),
        command_line: "quiet".to_owned(),
    }
}

fn pieces() -> [Range; 2] {
    [Range::new(0, 0x7_0000), Range::new(place::HIGH, 0x200_0000)]
}

#[test]
fn everything_is_where_the_boot_protocol_says() {
    let folder = Folder::new("good");
    let memory = ram(&[(0, 0x7_0000), (place::HIGH, 0x1f0_0000)]);
    let opened = linux(&folder, &image(|_| {}), Some(b"ramdisk"))
        .open()
        .expect("good files");
    let entry = opened
        .load(&memory, &pieces(), b"RSD PTR ")
        .expect("enough room");
    assert_eq!(entry.rip, LOAD + 0x200);
    let zero_page: boot_params = memory.read_obj(GuestAddress(entry.rsi)).expect("zero page");
    assert_eq!({ zero_page.acpi_rsdp_addr }, place::ACPI.start);
    assert_eq!({ zero_page.hdr.ramdisk_size }, 7);
    let read = |at: u64| -> [u8; 8] { memory.read_obj(GuestAddress(at)).expect("RAM") };
    assert_eq!(
        &read(u64::from(zero_page.hdr.ramdisk_image))[..7],
        b"ramdisk"
    );
    assert_eq!(
        &read(u64::from(zero_page.hdr.cmd_line_ptr))[..6],
        b"quiet\0"
    );
    assert_eq!(read(LOAD)[0], b'K');
    assert_eq!(&read(place::ACPI.start), b"RSD PTR ");
    assert_eq!(read(smbios::STRUCTURES)[..2], [0, 24]);
    let map = zero_page.e820_table;
    let usable: u64 = map
        .iter()
        .filter(|entry| entry.type_ == 1)
        .map(|entry| entry.size)
        .sum();
    assert_eq!(usable, 0x6_0000 + 0x1f0_0000);
    assert_eq!(zero_page.e820_entries, 3);
}

#[test]
fn files_that_are_no_kernel_are_refused_with_a_reason() {
    let folder = Folder::new("bad");
    let short = image(|_| {})[..0x200].to_vec();
    for (kernel, reason) in [
        (vec![0; 4096], "no bzImage"),
        (short, "too short"),
        (Vec::new(), "is empty"),
        (image(|header| header.xloadflags = 0), "64-bit entry"),
        (image(|header| header.version = 0x20b), "64-bit entry"),
    ] {
        let error = linux(&folder, &kernel, None).open().expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.fault(), crate::error::Fault::File);
    }
    let mut missing = linux(&folder, &image(|_| {}), None);
    missing.initrd = Some(folder.0.clone());
    let error = missing.open().expect_err("a folder");
    assert!(error.to_string().contains("no regular file"), "{error}");
    missing.kernel = folder.0.join("absent");
    let error = missing.open().expect_err("no file");
    assert!(
        error.to_string().contains("cannot use the kernel"),
        "{error}"
    );
}

#[test]
fn a_long_command_line_is_refused() {
    let folder = Folder::new("line");
    let mut linux = linux(&folder, &image(|_| {}), None);
    linux.command_line = "x".repeat(2047);
    assert!(linux.open().is_ok());
    linux.command_line.push('x');
    assert!(matches!(
        linux.open(),
        Err(Error::CommandLine { most: 2047, .. })
    ));
}

#[test]
fn too_little_memory_is_said_before_anything_is_written() {
    let folder = Folder::new("small");
    let memory = ram(&[(0, 0x7_0000), (place::HIGH, 0x1f0_0000)]);
    let big = image(|header| header.init_size = 0x200_0000);
    let opened = linux(&folder, &big, None).open().expect("good files");
    let error = opened.load(&memory, &pieces(), &[]).expect_err("too small");
    assert!(error.to_string().contains("--memory"), "{error}");
    // The kernel is in the middle, and the RAM disk fits on neither side.
    let ramdisk = vec![1; 0xf0_0001];
    let opened = linux(&folder, &image(|_| {}), Some(&ramdisk))
        .open()
        .expect("good files");
    let error = opened.load(&memory, &pieces(), &[]).expect_err("too small");
    assert!(error.to_string().contains("initial RAM disk"), "{error}");
    let first: u8 = memory.read_obj(GuestAddress(LOAD)).expect("RAM");
    assert_eq!(first, 0);
}

#[test]
fn a_header_with_extreme_numbers_does_no_harm() {
    let folder = Folder::new("extreme");
    let memory = ram(&[(0, 0x7_0000), (place::HIGH, 0x1f0_0000)]);
    for (at, setup_sects) in [(u64::MAX, 1), (0, 1), (LOAD, 255), (0x8000, 0)] {
        let kernel = image(|header| {
            header.pref_address = at;
            header.setup_sects = setup_sects;
        });
        let opened = linux(&folder, &kernel, Some(b"x"))
            .open()
            .expect("good files");
        assert!(
            opened.load(&memory, &pieces(), &[]).is_err(),
            "{at:#x} {setup_sects}"
        );
    }
}
