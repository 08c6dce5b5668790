// SPDX-License-Identifier: MIT OR GPL-2.0-only

use super::unpack::with_window;
use super::*;
use crate::monitor::fake::{self, Random};

#[test]
fn a_kernel_says_where_its_text_changes() {
    let image = fake::image();
    // CAST: small.
    let offset = |at: u64| at as u32;
    let sites: Vec<(u32, SiteKind)> = image.sites.iter().map(|it| (it.at, it.kind)).collect();
    let expected = [
        (
            offset(fake::LABEL),
            SiteKind::LongJump(offset(fake::LABEL_TARGET)),
        ),
        (offset(fake::CALL), SiteKind::StaticCall),
        (offset(fake::TRACED), SiteKind::Traced),
        (0x820, SiteKind::Tracer),
    ];
    assert_eq!(sites, expected);
    assert_eq!(image.moved.0, [offset(fake::MOVED)]);
    assert!(image.adopted.contains(0x600) && image.adopted.contains(0x604));
    assert!(!image.adopted.contains(0x605) && !image.adopted.contains(0x5ff));
    assert_eq!(image.constants, (0x20_0000, 0x20_2000));
    let name = |at| image.symbols.name_at(at);
    assert_eq!(name(0x403).as_deref(), Some("called+0x3"));
    assert_eq!(image.symbols.offset_of("called"), Some(0x400));
    assert_eq!(image.symbols.offset_of("call"), None);
    assert_eq!(image.templates.len(), 1);
}

#[test]
fn a_damaged_file_is_refused_or_read_but_does_no_harm() {
    let whole = fake::vmlinux();
    for len in (0..whole.len()).step_by(37) {
        let _ = KernelImage::from_vmlinux(&whole[..len]);
    }
    let mut random = Random(3);
    for _ in 0..300 {
        let mut file = whole.clone();
        for _ in 0..8 {
            // In the headers, the tables, and elsewhere.
            let areas = [(0, 64), (0x3040, 0x2000), (whole.len() - 400, 400)];
            let (start, len) = areas[random.below(3) as usize];
            file[start + random.below(len as u64) as usize] = random.next() as u8;
        }
        let _ = KernelImage::from_vmlinux(&file);
    }
}

#[test]
fn what_is_no_bzimage_or_not_packed_with_zstd_is_named() {
    let problem = |bytes: &[u8]| KernelImage::from_bzimage(bytes).err().unwrap_or_default();
    assert!(problem(&[]).contains("expected a bzImage"));
    let mut file = vec![0; 0x400];
    file[0x248..0x24c].copy_from_slice(&0_u32.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&0x100_u32.to_le_bytes());
    assert!(problem(&file).contains("not packed with zstd"));
    file[0x2fc..0x300].copy_from_slice(&8_u32.to_le_bytes());
    file[0x200..0x204].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd]);
    assert!(problem(&file).contains("cannot be unpacked"));
    file[0x2fc..0x300].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(problem(&file).contains("at most"));
    assert!(
        KernelImage::from_vmlinux(b"\x7fELF")
            .err()
            .unwrap_or_default()
            .contains("no ELF file")
    );
}

#[test]
fn an_unpacked_payload_is_taken_as_it_is() {
    let inner = fake::vmlinux();
    let mut file = vec![0; 0x400];
    // CAST: small.
    let len = inner.len() as u32;
    file[0x24c..0x250].copy_from_slice(&(len + 4).to_le_bytes());
    file.truncate(0x200);
    // The header is in the first sectors: one more.
    file.resize(0x400, 0);
    file[0x1f1] = 1;
    file[0x24c..0x250].copy_from_slice(&(len + 4).to_le_bytes());
    file.extend_from_slice(&inner);
    file.extend_from_slice(&len.to_le_bytes());
    assert!(KernelImage::from_bzimage(&file).is_ok());
}

#[test]
fn the_window_is_that_of_the_contents() {
    let window = |len| with_window(&[0, 0, 0, 0, 4, 0x88], len)[5];
    assert_eq!(window(62_096_432), 16 << 3);
    assert_eq!(window(1 << 26), 16 << 3);
    assert_eq!(window((1 << 26) + 1), (16 << 3) | 4);
    assert_eq!(window(0), 0);
    assert_eq!(with_window(&[0, 0, 0, 0, 0x24, 0x88], 1)[5], 0x88);
    assert_eq!(with_window(&[1], 1), [1]);
}
