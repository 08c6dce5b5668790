// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The pieces of a file, for programs that write one.

use alloc::vec::Vec;

use super::frame::Frame;
use super::{IDENTITY_MAX, MAGIC, RECORD_LEN, VERSION};
use crate::hash::Hash;

/// The head. `None` if the text is longer than 4096 bytes.
#[must_use]
pub fn head(identity: &[u8]) -> Option<Vec<u8>> {
    if identity.len() > IDENTITY_MAX {
        return None;
    }
    let len = u32::try_from(identity.len()).ok()?;
    let mut head = MAGIC.to_vec();
    // CAST: 64.
    for word in [VERSION, RECORD_LEN as u32, len, 0] {
        head.extend(word.to_le_bytes());
    }
    head.extend(identity);
    pad(&mut head);
    Some(head)
}

/// A frame. `None` if the body has 4 GiB or more.
#[must_use]
pub fn frame(kind: Frame, body: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(body.len()).ok()?;
    // CAST: the discriminant is what stands in the file.
    let mut frame = (kind as u32).to_le_bytes().to_vec();
    frame.extend(len.to_le_bytes());
    frame.extend(body);
    pad(&mut frame);
    Some(frame)
}

/// A frame of records of one stream, numbered from `first` on.
#[must_use]
pub fn records(stream: u32, first: u64, records: &[[u8; RECORD_LEN]]) -> Option<Vec<u8>> {
    let count = u32::try_from(records.len()).ok()?;
    let body = [&place(stream, count, first), records.as_flattened()].concat();
    frame(Frame::Records, &body)
}

/// A frame of the leaf of a segment.
#[must_use]
pub fn leaf(stream: u32, first: u64, count: u32, leaf: &Hash) -> Option<Vec<u8>> {
    let body = [place(stream, count, first).as_slice(), leaf].concat();
    frame(Frame::Leaf, &body)
}

fn place(stream: u32, count: u32, first: u64) -> [u8; 16] {
    let place = u128::from(stream) | (u128::from(count) << 32) | (u128::from(first) << 64);
    place.to_le_bytes()
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
