// SPDX-License-Identifier: MIT OR GPL-2.0-only

use super::*;

const START: usize = 0x100;
const OPERAND: usize = START + 17;
const CALL_AT: usize = START + 24;
const END: usize = START + 38;
const FUNCTION: u32 = 0x40;

/// A text whose entry of the tracer begins as Linux' does, and reads a variable beyond the text.
fn text() -> Vec<u8> {
    let mut text = vec![0x90; 0x200];
    let code: [&[u8]; 8] = [
        &[0x48, 0x81, 0xec, 0xa8, 0, 0, 0],
        // `sarq $5, %gs:...(%rip)`: ten bytes, four of them the distance.
        &[0x65, 0x48, 0xc1, 0x3d, 0x00, 0x01, 0x40, 0, 0x05, 0x90],
        &[0x48, 0x8b, 0x15, 0x10, 0x20, 0x30, 0],
        &[0xe8, 0, 0, 0, 0],
        // A jump within the entry, and one that copies do not have.
        &[0xeb, 0x00],
        &[0x75, 0x10],
        &[0x48, 0x83, 0xc4],
        &[0x08, 0x90],
    ];
    let code = code.concat();
    assert_eq!(code.len(), END - START);
    text[START..END].copy_from_slice(&code);
    text
}

fn template() -> Template {
    Template {
        start: START,
        end: END,
        operand: OPERAND,
        call: CALL_AT,
        jump: Some(START + 31),
    }
}

fn symbols() -> Symbols {
    let mut symbols = Symbols::default();
    symbols.add(FUNCTION, "function");
    symbols.sort();
    symbols
}

/// What Linux makes of it at `distance`.
fn copy(text: &[u8], distance: i64) -> Vec<u8> {
    let moved = distance - START as i64;
    let mut copy = text[START..END].to_vec();
    let put = |copy: &mut [u8], at: usize, value: i64| {
        copy[at..at + 4].copy_from_slice(&(value as i32).to_le_bytes());
    };
    put(&mut copy, 11, 0x40_0100 - moved);
    put(&mut copy, 20, 0x1234_5678);
    put(&mut copy, 25, i64::from(FUNCTION) - (distance + 29));
    copy[31..33].copy_from_slice(&NOP_2);
    copy.extend_from_slice(&[RET, 0xcc, 0, 0, 0]);
    copy
}

fn is_copy(copy: &[u8], distance: i64) -> bool {
    let (text, symbols) = (text(), symbols());
    let map = TextMap {
        len: 0x200,
        symbols: &symbols,
        tracers: &[],
    };
    template().is_copy(copy, distance, &text, &map)
}

#[test]
fn a_copy_as_linux_makes_it_is_one_and_with_any_other_byte_it_is_not() {
    for distance in [0x2000_0000, -0x1000_0000, 0x2000_6b96] {
        let right = copy(&text(), distance);
        assert!(is_copy(&right, distance));
        for at in (0..END - START + 1).filter(|at| !(20..24).contains(at)) {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            assert!(!is_copy(&wrong, distance), "byte {at}");
        }
    }
}

/// Where a copy is, the guest decides; so it decides by how much distances change.
#[test]
fn bytes_that_are_no_distance_do_not_change_with_the_place() {
    let at = 1;
    for first in [0xeb_u8, 0xe9, 0xcc, 0x0f] {
        let text = text();
        let old = i32::from_le_bytes(text[START + at..][..4].try_into().expect("four"));
        let wanted = i32::from_le_bytes([first, 0x80, 0x10, 0x20]);
        let moved = i64::from(old.wrapping_sub(wanted));
        let distance = START as i64 + moved;
        let mut forged = copy(&text, distance);
        forged[at..at + 4].copy_from_slice(&wanted.to_le_bytes());
        assert!(!is_copy(&forged, distance), "{first:#x}");
    }
}

#[test]
fn a_distance_that_was_not_adjusted_or_can_not_be_is_refused() {
    let distance = 0x2000_0000;
    let mut same = copy(&text(), distance);
    same[11..15].copy_from_slice(&0x40_0100_i32.to_le_bytes());
    assert!(!is_copy(&same, distance));
    let far = i64::from(i32::MAX) * 3;
    assert!(!is_copy(&copy(&text(), far), far));
    assert!(!is_copy(&[], distance));
    let no_code = vec![0x06; 0x200];
    assert_eq!(template().moved(&no_code, 0), None);
}
