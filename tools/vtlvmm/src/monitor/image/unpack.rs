// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Takes the kernel out of a bzImage.

use std::io::Read as _;

use super::Problem;
use crate::monitor::elf::File;

/// Unpacks the payload of a bzImage.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    const SETUP_SECTS: u64 = 0x1f1;
    const PAYLOAD_OFFSET: u64 = 0x248;
    const PAYLOAD_LEN: u64 = 0x24c;
    const MOST: u32 = 512 << 20;
    const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let file = File(bytes);
    let find = || {
        let sectors = u64::from(*file.bytes(SETUP_SECTS, 1)?.first()?);
        let start = (sectors + 1) * 512 + u64::from(file.u32(PAYLOAD_OFFSET)?);
        // The length of what it contains follows.
        let len = u64::from(file.u32(PAYLOAD_LEN)?).checked_sub(4)?;
        Some((file.bytes(start, len)?, file.u32(start + len)?))
    };
    let (payload, len) = find().ok_or("has no payload (expected a bzImage)")?;
    if payload.starts_with(b"\x7fELF") {
        return Ok(payload.to_vec());
    }
    if !payload.starts_with(&ZSTD) {
        return Err("is not packed with zstd (expected CONFIG_KERNEL_ZSTD=y or \
                    CONFIG_KERNEL_UNCOMPRESSED=y)"
            .to_owned());
    }
    if len > MOST {
        return Err(format!("contains {len} bytes (expected at most {MOST})"));
    }
    let packed = with_window(payload, len);
    let decoder = ruzstd::decoding::StreamingDecoder::new(packed.as_slice());
    let mut unpacked = Vec::new();
    decoder
        .map_err(|error| error.to_string())
        .and_then(|it| {
            let mut limited = it.take(u64::from(len));
            let read = limited.read_to_end(&mut unpacked);
            read.map_err(|error| error.to_string())
        })
        .map_err(|error| format!("cannot be unpacked: {error}"))?;
    Ok(unpacked)
}

/// The frame says how far back it refers: at most 128 MiB for a kernel, which the decoder refuses. Nothing
/// refers further back than to the first byte, so a window of the contents' length is enough.
/// Of 100 MiB, the decoder's limit, 96 can be expressed.
pub(super) fn with_window(frame: &[u8], len: u32) -> Vec<u8> {
    const DESCRIPTOR: usize = 4;
    const WINDOW: usize = 5;
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let mut frame = frame.to_vec();
    let has_window = frame
        .get(DESCRIPTOR)
        .is_some_and(|it| it & SINGLE_SEGMENT == 0);
    if let (true, Some(window)) = (has_window, frame.get_mut(WINDOW)) {
        // 2^(10 + exponent), the exponent in bits 7:3, and eighths of that in bits 2:0.
        const LARGEST: u8 = (16 << 3) | 4;
        let exponent = u32::BITS - len.saturating_sub(1).leading_zeros();
        let needed = match exponent.max(10) {
            // CAST: at most 16.
            exponent @ ..=26 => ((exponent - 10) << 3) as u8,
            _ => LARGEST,
        };
        *window = (*window).min(needed);
    }
    frame
}
