// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A small instruction decoder: length, opcode and operands, because TCG's SVM reports neither the
//! next RIP nor the operands of an intercepted instruction.
//!
//! It decodes every legacy encoding and VEX (EVEX is refused: TCG has no AVX-512). [`length`] has
//! the tables; this file parses prefixes, ModRM and SIB and computes linear addresses.

mod length;

use crate::gprs::Gprs;
use crate::vmcb::Save;

/// The longest instruction.
pub const MAX_LEN_BYTES: usize = 15;

/// Default sizes of the code segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, virtual-8086 mode or a 16-bit segment.
    Code16,
    /// A 32-bit segment.
    Code32,
    /// 64-bit mode.
    Code64,
}

impl Mode {
    /// Mode of the code a guest executes.
    pub fn of(save: &Save) -> Self {
        const LMA: u64 = 1 << 10;
        let attributes = save.cs.attributes;
        if save.efer & LMA != 0 && attributes & crate::segment::LONG != 0 {
            Self::Code64
        } else if attributes & crate::segment::DEFAULT_BIG != 0 {
            Self::Code32
        } else {
            Self::Code16
        }
    }
}

/// Opcode map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// One-byte opcodes.
    Primary,
    /// 0F.
    Map0f,
    /// 0F 38.
    Map0f38,
    /// 0F 3A.
    Map0f3a,
}

/// ModRM byte with the extensions of REX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModRm {
    /// The byte itself.
    pub byte: u8,
    /// Register operand, extended.
    pub reg: u8,
    /// Register in the r/m field, extended; means a register only if [`ModRm::is_register`].
    pub rm: u8,
}

impl ModRm {
    /// Returns true if r/m names a register.
    pub const fn is_register(self) -> bool {
        self.byte >= 0xc0
    }

    /// The reg field as an opcode extension.
    pub const fn extension(self) -> u8 {
        (self.byte >> 3) & 7
    }
}

/// Segment register numbers as in instruction encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "register names")]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// Memory operand before its registers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOperand {
    base: Option<u8>,
    index: Option<u8>,
    scale: u8,
    displacement: i64,
    is_rip_relative: bool,
    segment: SegmentName,
    address_bits: u8,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Length including prefixes.
    pub len_bytes: u8,
    /// Opcode map.
    pub map: Map,
    /// Opcode byte.
    pub opcode: u8,
    /// ModRM byte, if the opcode has one.
    pub modrm: Option<ModRm>,
    /// Memory operand, explicit or (string instructions, moffs) implied.
    pub memory: Option<MemoryOperand>,
    /// 66h prefix.
    pub has_operand_size: bool,
    /// REX.W.
    pub has_rex_w: bool,
    /// F2h or F3h prefix.
    pub has_repeat: bool,
    /// Low byte of the immediate, for INT n.
    pub immediate: u8,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes
            .get(self.at)
            .copied()
            .filter(|_| self.at < MAX_LEN_BYTES)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Little-endian signed number of `count` bytes.
    fn signed(&mut self, count: usize) -> Option<i64> {
        let mut value = 0u64;
        for shift in 0..count {
            value |= u64::from(self.byte()?) << (8 * shift);
        }
        let unused = 64 - 8 * count.min(8);
        // CAST: sign extension of a two's-complement field.
        Some(if unused == 64 {
            0
        } else {
            ((value << unused) as i64) >> unused
        })
    }
}

#[derive(Default)]
struct Prefixes {
    operand_size: bool,
    address_size: bool,
    repeat: bool,
    segment: Option<SegmentName>,
    rex: u8,
}

fn prefixes(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Prefixes> {
    let mut found = Prefixes::default();
    loop {
        match cursor.peek()? {
            0x66 => found.operand_size = true,
            0x67 => found.address_size = true,
            0xf2 | 0xf3 => found.repeat = true,
            0xf0 => {}
            0x26 => found.segment = Some(SegmentName::Es),
            0x2e => found.segment = Some(SegmentName::Cs),
            0x36 => found.segment = Some(SegmentName::Ss),
            0x3e => found.segment = Some(SegmentName::Ds),
            0x64 => found.segment = Some(SegmentName::Fs),
            0x65 => found.segment = Some(SegmentName::Gs),
            rex @ 0x40..=0x4f if mode == Mode::Code64 => {
                cursor.at += 1;
                // Only a REX directly before the opcode counts.
                if !matches!(
                    cursor.peek()?,
                    0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x40..=0x4f
                ) {
                    found.rex = rex;
                    return Some(found);
                }
                continue;
            }
            _ => return Some(found),
        }
        cursor.at += 1;
    }
}

fn vex(cursor: &mut Cursor<'_>, first: u8, found: &mut Prefixes) -> Option<Map> {
    let payload = cursor.byte()?;
    found.rex = (!payload >> 5) & 4;
    if first == 0xc5 {
        return Some(Map::Map0f);
    }
    let second = cursor.byte()?;
    found.rex = ((!payload >> 5) & 7) | ((second >> 4) & 8);
    match payload & 31 {
        1 => Some(Map::Map0f),
        2 => Some(Map::Map0f38),
        3 => Some(Map::Map0f3a),
        _ => None,
    }
}

fn opcode(cursor: &mut Cursor<'_>, mode: Mode, found: &mut Prefixes) -> Option<(Map, u8, bool)> {
    let first = cursor.byte()?;
    // Outside 64-bit mode C4 and C5 are LES and LDS unless ModRM would name a register.
    let is_vex = matches!(first, 0xc4 | 0xc5)
        && (mode == Mode::Code64 || cursor.peek().is_some_and(|next| next >= 0xc0));
    if is_vex {
        let map = vex(cursor, first, found)?;
        return Some((map, cursor.byte()?, true));
    }
    if first == 0x62 && mode == Mode::Code64 {
        return None; // EVEX
    }
    if first != 0x0f {
        return Some((Map::Primary, first, false));
    }
    match cursor.byte()? {
        0x38 => Some((Map::Map0f38, cursor.byte()?, false)),
        0x3a => Some((Map::Map0f3a, cursor.byte()?, false)),
        second => Some((Map::Map0f, second, false)),
    }
}

/// Decodes the instruction at the start of `bytes`. `None` if it is cut short or unknown.
pub fn decode(bytes: &[u8], mode: Mode) -> Option<Insn> {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut found = prefixes(&mut cursor, mode)?;
    let (map, opcode, is_vex) = opcode(&mut cursor, mode, &mut found)?;
    let address_bits = match (mode, found.address_size) {
        (Mode::Code64, false) => 64,
        (Mode::Code64, true) | (Mode::Code32, false) | (Mode::Code16, true) => 32,
        (Mode::Code32, true) | (Mode::Code16, false) => 16,
    };
    let has_rex_w = found.rex & 8 != 0;
    let operand_bytes = match (mode, found.operand_size, has_rex_w) {
        (Mode::Code64, _, true) => 8,
        (Mode::Code16, false, _) | (Mode::Code64 | Mode::Code32, true, _) => 2,
        _ => 4,
    };

    let mut modrm = None;
    let mut memory = None;
    if length::has_modrm(map, opcode) {
        let byte = cursor.byte()?;
        let parsed = ModRm {
            byte,
            reg: ((byte >> 3) & 7) | ((found.rex & 4) << 1),
            rm: (byte & 7) | ((found.rex & 1) << 3),
        };
        modrm = Some(parsed);
        if !parsed.is_register() {
            memory = Some(memory_operand(
                &mut cursor,
                parsed,
                &found,
                mode,
                address_bits,
            )?);
        }
    }
    let extension = modrm.map_or(0, ModRm::extension);
    let immediate_bytes = length::immediate_bytes(
        map,
        opcode,
        extension,
        operand_bytes,
        address_bits,
        is_vex,
        mode,
    );
    let immediate_at = cursor.at;
    for _ in 0..immediate_bytes {
        cursor.byte()?;
    }
    if memory.is_none() {
        let raw = Cursor {
            bytes,
            at: immediate_at,
        };
        memory = implied_operand(raw, map, opcode, &found, address_bits);
    }
    Some(Insn {
        len_bytes: cursor.at as u8, // CAST: at most 15
        map,
        opcode,
        modrm,
        memory,
        has_operand_size: found.operand_size,
        has_rex_w,
        has_repeat: found.repeat,
        immediate: bytes.get(immediate_at).copied().unwrap_or(0),
    })
}

fn memory_operand(
    cursor: &mut Cursor<'_>,
    modrm: ModRm,
    found: &Prefixes,
    mode: Mode,
    address_bits: u8,
) -> Option<MemoryOperand> {
    let mode_field = modrm.byte >> 6;
    let rm = modrm.byte & 7;
    let mut operand = MemoryOperand {
        base: None,
        index: None,
        scale: 0,
        displacement: 0,
        is_rip_relative: false,
        segment: SegmentName::Ds,
        address_bits,
    };
    let mut displacement_bytes = match mode_field {
        1 => 1,
        2 if address_bits == 16 => 2,
        2 => 4,
        _ => 0,
    };
    if address_bits == 16 {
        const PAIRS: [(Option<u8>, Option<u8>); 8] = [
            (Some(3), Some(6)),
            (Some(3), Some(7)),
            (Some(5), Some(6)),
            (Some(5), Some(7)),
            (Some(6), None),
            (Some(7), None),
            (Some(5), None),
            (Some(3), None),
        ];
        (operand.base, operand.index) = PAIRS[usize::from(rm)];
        if mode_field == 0 && rm == 6 {
            operand.base = None;
            displacement_bytes = 2;
        }
    } else {
        let mut base = rm;
        if rm == 4 {
            let sib = cursor.byte()?;
            base = sib & 7;
            operand.scale = sib >> 6;
            let index = ((sib >> 3) & 7) | ((found.rex & 2) << 2);
            operand.index = Some(index).filter(|&number| number != 4);
        }
        operand.base = Some(base | ((found.rex & 1) << 3));
        if mode_field == 0 && base == 5 {
            operand.base = None;
            displacement_bytes = 4;
            operand.is_rip_relative = rm == 5 && mode == Mode::Code64;
        }
    }
    operand.displacement = cursor.signed(displacement_bytes)?;
    let is_stack = match address_bits {
        16 => matches!(operand.base, Some(5)),
        _ => matches!(operand.base, Some(4 | 5)),
    };
    let default = if is_stack {
        SegmentName::Ss
    } else {
        SegmentName::Ds
    };
    operand.segment = found.segment.unwrap_or(default);
    Some(operand)
}

/// Memory operand of instructions that have none in their encoding: moffs moves and strings.
fn implied_operand(
    mut immediate: Cursor<'_>,
    map: Map,
    opcode: u8,
    found: &Prefixes,
    address_bits: u8,
) -> Option<MemoryOperand> {
    let (base, displacement, segment) = match (map, opcode) {
        (Map::Primary, 0xa0..=0xa3) => {
            let offset = immediate.signed(usize::from(address_bits / 8))?;
            (None, offset, found.segment.unwrap_or(SegmentName::Ds))
        }
        // MOVS and CMPS have two operands; the destination is the one devices see written.
        (Map::Primary, 0xa4..=0xa7 | 0xaa | 0xab | 0xae | 0xaf | 0x6c | 0x6d) => {
            (Some(7), 0, SegmentName::Es)
        }
        (Map::Primary, 0xac | 0xad | 0x6e | 0x6f) => {
            (Some(6), 0, found.segment.unwrap_or(SegmentName::Ds))
        }
        _ => return None,
    };
    Some(MemoryOperand {
        base,
        index: None,
        scale: 0,
        displacement,
        is_rip_relative: false,
        segment,
        address_bits,
    })
}

impl MemoryOperand {
    /// Size of the address: 16, 32 or 64 bits.
    pub const fn address_bits(&self) -> u8 {
        self.address_bits
    }

    /// The operand as VMX describes it in the instruction information of descriptor-table exits,
    /// bits 27:0. [SDM3 table 27-9]
    pub fn vmx_instruction_info(&self) -> u32 {
        const NO_INDEX: u32 = 1 << 22;
        const NO_BASE: u32 = 1 << 27;
        let index = self
            .index
            .map_or(NO_INDEX, |number| u32::from(number) << 18);
        let base = self.base.map_or(NO_BASE, |number| u32::from(number) << 23);
        let size = u32::from(self.address_bits / 32) << 7;
        u32::from(self.scale) | size | ((self.segment as u32) << 15) | index | base
    }

    /// Displacement; with RIP-relative addressing the whole address.
    pub fn vmx_displacement(&self, len_bytes: u8, save: &Save) -> u64 {
        let next = save.rip.wrapping_add(u64::from(len_bytes));
        let base = if self.is_rip_relative { next } else { 0 };
        base.wrapping_add(self.displacement as u64) // CAST: two's complement
    }

    /// Segment, after prefixes.
    pub const fn segment(&self) -> SegmentName {
        self.segment
    }

    /// Linear address of the operand of an instruction that starts at `save.rip`.
    pub fn linear_address(&self, len_bytes: u8, gprs: &Gprs, save: &Save) -> u64 {
        let mut address = self.displacement as u64; // CAST: two's complement
        if self.is_rip_relative {
            address = address
                .wrapping_add(save.rip)
                .wrapping_add(u64::from(len_bytes));
        }
        if let Some(base) = self.base {
            address = address.wrapping_add(gprs.get(base));
        }
        if let Some(index) = self.index {
            address = address.wrapping_add(gprs.get(index) << self.scale);
        }
        address = match self.address_bits {
            16 => address & 0xffff,
            32 => address & 0xffff_ffff,
            _ => address,
        };
        let mode = Mode::of(save);
        let segment = match self.segment {
            SegmentName::Es => &save.es,
            SegmentName::Cs => &save.cs,
            SegmentName::Ss => &save.ss,
            SegmentName::Ds => &save.ds,
            SegmentName::Fs => &save.fs,
            SegmentName::Gs => &save.gs,
        };
        match (mode, self.segment) {
            (Mode::Code64, SegmentName::Fs | SegmentName::Gs) => address.wrapping_add(segment.base),
            (Mode::Code64, _) => address,
            _ => address.wrapping_add(segment.base) & 0xffff_ffff,
        }
    }
}

#[cfg(test)]
mod tests;
