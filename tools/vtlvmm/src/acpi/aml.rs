// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The few terms of AML that a list of devices takes [ACPI 20.2].
//!
//! Not the crate `acpi_tables`: no version of it builds with the oldest compiler that this
//! workspace supports.

/// `Scope(name) { terms }`.
pub(super) fn scope(name: &str, terms: &[Vec<u8>]) -> Vec<u8> {
    let mut body = path(name);
    body.extend(terms.concat());
    block(&[0x10], &body)
}

/// `Device(name) { terms }`.
pub(super) fn device(name: &str, terms: &[Vec<u8>]) -> Vec<u8> {
    let mut body = path(name);
    body.extend(terms.concat());
    block(&[0x5b, 0x82], &body)
}

/// `Name(name, value)`.
pub(super) fn name(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x08];
    bytes.extend(path(name));
    bytes.extend(value);
    bytes
}

/// `Package() { values }`.
pub(super) fn package(values: &[Vec<u8>]) -> Vec<u8> {
    // CAST: packages here have at most four elements.
    let mut body = vec![values.len() as u8];
    body.extend(values.concat());
    block(&[0x12], &body)
}

/// An integer, as short as it can be.
pub(super) fn integer(value: u32) -> Vec<u8> {
    match value {
        0 | 1 => vec![value as u8],          // CAST: 0 or 1
        2..=0xff => vec![0x0a, value as u8], // CAST: fits
        _ => [&[0x0c], &value.to_le_bytes()[..]].concat(),
    }
}

/// A string.
pub(super) fn string(text: &str) -> Vec<u8> {
    [&[0x0d], text.as_bytes(), &[0]].concat()
}

/// `EisaId(id)`: three letters and four hexadecimal digits.
pub(super) fn eisa_id(id: [u8; 3], product: u16) -> Vec<u8> {
    let [a, b, c] = id.map(|letter| u16::from(letter - b'@'));
    let vendor = (a << 10) | (b << 5) | c;
    [
        &[0x0c],
        &vendor.to_be_bytes()[..],
        &product.to_be_bytes()[..],
    ]
    .concat()
}

/// `ResourceTemplate() { resources }`.
pub(super) fn resources(resources: &[Vec<u8>]) -> Vec<u8> {
    const END_TAG: [u8; 2] = [0x79, 0];
    let mut list = resources.concat();
    list.extend(END_TAG);
    // CAST: a list here has a few dozen bytes.
    let mut body = integer(list.len() as u32);
    body.extend(list);
    block(&[0x11], &body)
}

/// Ports `base` to `base + len`.
pub(super) fn ports(base: u16, len: u8) -> Vec<u8> {
    const DECODES_16_BITS: u8 = 1;
    let [low, high] = base.to_le_bytes();
    vec![0x47, DECODES_16_BITS, low, high, low, high, 1, len]
}

/// Device memory.
pub(super) fn memory(base: u32, len: u32) -> Vec<u8> {
    const WRITABLE: u8 = 1;
    let mut bytes = vec![0x86, 9, 0, WRITABLE];
    bytes.extend(base.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes
}

/// An edge-triggered interrupt, active high, not shared.
pub(super) fn interrupt(gsi: u32) -> Vec<u8> {
    const CONSUMER_EDGE: u8 = 0b11;
    let mut bytes = vec![0x89, 6, 0, CONSUMER_EDGE, 1];
    bytes.extend(gsi.to_le_bytes());
    bytes
}

/// An operator with its length and contents.
fn block(operator: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = operator.to_vec();
    bytes.extend(package_length(body.len()));
    bytes.extend(body);
    bytes
}

/// PkgLength of a package with `len` bytes after it: it also counts its own bytes.
fn package_length(len: usize) -> Vec<u8> {
    let encode = |total: usize, more: usize| {
        // CAST: four bits, then eight for each byte.
        let mut bytes = vec![((more << 6) | (total & 0xf)) as u8];
        bytes.extend((0..more).map(|byte| (total >> (4 + 8 * byte)) as u8));
        bytes
    };
    match len {
        0..=0x3e => vec![(len + 1) as u8], // CAST: below 64
        0x3f..=0xffd => encode(len + 2, 1),
        _ => encode(len + 3, 2),
    }
}

/// A name of one segment, with a root prefix if it has one.
fn path(name: &str) -> Vec<u8> {
    let (root, segment) = match name.strip_prefix('\\') {
        Some(segment) => (&b"\\"[..], segment),
        None => (&b""[..], name),
    };
    let mut bytes = root.to_vec();
    bytes.extend(segment.bytes().chain(std::iter::repeat(b'_')).take(4));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_ids_are_packed() {
        assert_eq!(path("\\_SB"), b"\\_SB_");
        assert_eq!(path("COM1"), b"COM1");
        // EisaId("PNP0501") as the compiler of ACPICA writes it.
        assert_eq!(eisa_id(*b"PNP", 0x0501), [0x0c, 0x41, 0xd0, 0x05, 0x01]);
    }

    #[test]
    fn lengths_count_themselves() {
        assert_eq!(package_length(0x3e), [0x3f]);
        assert_eq!(package_length(0x3f), [0x41, 0x04]);
        assert_eq!(package_length(0xffd), [0x4f, 0xff]);
        assert_eq!(package_length(0xffe), [0x81, 0x00, 0x01]);
    }

    #[test]
    fn integers_are_short() {
        assert_eq!(integer(1), [1]);
        assert_eq!(integer(0x7f), [0x0a, 0x7f]);
        assert_eq!(integer(0x1234), [0x0c, 0x34, 0x12, 0, 0]);
    }
}
