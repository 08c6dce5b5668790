// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Which opcodes have a ModRM byte, and how long their immediates are. [SDM2 appendix A]

use super::{Map, Mode};

/// Returns true if a ModRM byte follows the opcode.
pub(super) fn has_modrm(map: Map, opcode: u8) -> bool {
    match map {
        Map::Primary => match opcode {
            0x00..=0x3f => opcode & 4 == 0,
            0x62 | 0x63 | 0x69 | 0x6b | 0x80..=0x8f | 0xc0 | 0xc1 | 0xc4..=0xc7 => true,
            0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => true,
            _ => false,
        },
        Map::Map0f => !matches!(
            opcode,
            0x04..=0x0c | 0x0e | 0x30..=0x37 | 0x77 | 0x80..=0x8f | 0xa0..=0xa2
                | 0xa8..=0xaa | 0xc8..=0xcf
        ),
        Map::Map0f38 | Map::Map0f3a => true,
    }
}

/// Bytes of immediate data after the opcode, ModRM and displacement.
pub(super) fn immediate_bytes(
    map: Map,
    opcode: u8,
    extension: u8,
    operand_bytes: u8,
    address_bits: u8,
    is_vex: bool,
    mode: Mode,
) -> u8 {
    let word_or_dword = if operand_bytes == 2 { 2 } else { 4 };
    match map {
        Map::Primary => match opcode {
            0x00..=0x3f if opcode & 7 == 4 => 1,
            0x00..=0x3f if opcode & 7 == 5 => word_or_dword,
            0x68 | 0x69 | 0x81 | 0xa9 | 0xc7 => word_or_dword,
            // Near branches ignore the operand-size prefix in 64-bit mode.
            0xe8 | 0xe9 if mode == Mode::Code64 => 4,
            0xe8 | 0xe9 => word_or_dword,
            0x6a | 0x6b | 0x70..=0x7f | 0x80 | 0x82 | 0x83 | 0xa8 | 0xb0..=0xb7 => 1,
            0xc0 | 0xc1 | 0xc6 | 0xcd | 0xd4 | 0xd5 | 0xe0..=0xe7 | 0xeb => 1,
            0xb8..=0xbf => operand_bytes,
            0xa0..=0xa3 => address_bits / 8,
            0xc2 | 0xca => 2,
            0xc8 => 3,
            0x9a | 0xea => word_or_dword + 2,
            0xf6 if extension < 2 => 1,
            0xf7 if extension < 2 => word_or_dword,
            _ => 0,
        },
        Map::Map0f => match opcode {
            0x80..=0x8f if mode == Mode::Code64 => 4,
            0x80..=0x8f => word_or_dword,
            0x70..=0x73 | 0xc2 | 0xc4..=0xc6 => 1,
            0xa4 | 0xac | 0xba if !is_vex => 1,
            _ => 0,
        },
        Map::Map0f38 => 0,
        Map::Map0f3a => 1,
    }
}
