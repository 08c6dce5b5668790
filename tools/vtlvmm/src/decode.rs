// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Decodes an instruction that accessed device memory. `iced-x86` does the work; this extracts what
//! matters: direction, operands, and width.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use vtl::Gpr;

/// The other side of the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A general register, or a part of it.
    Register(Part),
    /// A constant.
    Immediate(u64),
}

/// Bytes of a general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The register.
    pub gpr: Gpr,
    /// 1, 2, 4 or 8.
    pub size: u8,
    /// AH, CH, DH, BH.
    pub is_high_byte: bool,
}

/// How a load fills its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// It has the size of the access.
    None,
    /// With zeros.
    Zero,
    /// With the sign.
    Sign,
}

/// What is computed from two values for the flags alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// CMP, the device's value first.
    DeviceFirst,
    /// CMP, the device's value second.
    DeviceSecond,
    /// TEST.
    Test,
}

/// An access to device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// MOV, MOVZX, MOVSX from memory.
    Load {
        /// Where to.
        to: Part,
        /// How.
        extend: Extend,
    },
    /// MOV to memory.
    Store(Operand),
    /// CMP or TEST with memory.
    Compare {
        /// Which.
        comparison: Comparison,
        /// The other value.
        with: Operand,
    },
    /// MOVS.
    Move {
        /// As often as the count register says.
        is_repeated: bool,
    },
    /// STOS.
    Fill {
        /// As often as the count register says.
        is_repeated: bool,
    },
}

impl Access {
    /// Returns true if the processor reports this access to the device as a write, or as none.
    /// A string move is either.
    pub const fn is_one_that(self, writes: bool) -> bool {
        match self {
            Self::Load { .. } | Self::Compare { .. } => !writes,
            Self::Store(_) | Self::Fill { .. } => writes,
            Self::Move { .. } => true,
        }
    }
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it does.
    pub access: Access,
    /// Bytes of device memory.
    pub size: u8,
    /// Bytes of the instruction.
    pub len: u8,
    /// Bits of addresses: 16, 32 or 64.
    pub address_bits: u8,
}

/// Decodes the instruction at the beginning of `bytes`, for code of `bits` (16, 32, 64). Returns
/// `None` if it is none of the kinds above.
pub fn decode(bytes: &[u8], bits: u32) -> Option<Decoded> {
    let mut decoder = Decoder::try_new(bits, bytes, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    if instruction.code() == Code::INVALID {
        return None;
    }
    // CAST: at most 64 bytes.
    let size = instruction.memory_size().size() as u8;
    if !matches!(size, 1 | 2 | 4 | 8) {
        return None;
    }
    Some(Decoded {
        access: access(&instruction, size)?,
        size,
        // CAST: at most 15.
        len: instruction.len() as u8,
        address_bits: address_bits(&instruction, bits),
    })
}

fn access(instruction: &Instruction, size: u8) -> Option<Access> {
    let is_repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let is_to_memory = instruction.op0_kind() == OpKind::Memory;
    match instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq
            if is_string_destination(instruction.op0_kind()) && !has_base(instruction) =>
        {
            Some(Access::Move { is_repeated })
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
            Some(Access::Fill { is_repeated })
        }
        Mnemonic::Mov if is_to_memory => operand(instruction, 1, size).map(Access::Store),
        Mnemonic::Mov => load(instruction, Extend::None),
        Mnemonic::Movzx => load(instruction, Extend::Zero),
        Mnemonic::Movsx | Mnemonic::Movsxd => load(instruction, Extend::Sign),
        Mnemonic::Cmp | Mnemonic::Test => {
            let comparison = match (instruction.mnemonic(), is_to_memory) {
                (Mnemonic::Test, _) => Comparison::Test,
                (_, true) => Comparison::DeviceFirst,
                (_, false) => Comparison::DeviceSecond,
            };
            let with = operand(instruction, u32::from(is_to_memory), size)?;
            Some(Access::Compare { comparison, with })
        }
        _ => None,
    }
}

/// ES:(E/R)DI. MOVSD is also a move of a vector register.
fn is_string_destination(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI
    )
}

/// Returns true if the source of a string move is in FS or GS, whose base is seldom 0.
fn has_base(instruction: &Instruction) -> bool {
    matches!(instruction.memory_segment(), Register::FS | Register::GS)
}

fn load(instruction: &Instruction, extend: Extend) -> Option<Access> {
    let to = part(instruction.op0_register())?;
    Some(Access::Load { to, extend })
}

fn operand(instruction: &Instruction, number: u32, size: u8) -> Option<Operand> {
    if instruction.op_kind(number) == OpKind::Register {
        return part(instruction.op_register(number)).map(Operand::Register);
    }
    let value = instruction.try_immediate(number).ok()?;
    Some(Operand::Immediate(value & mask(size)))
}

/// The low bytes.
pub const fn mask(size: u8) -> u64 {
    if size >= 8 {
        u64::MAX
    } else {
        (1 << (8 * size)) - 1
    }
}

/// A part of a general register; `None` for other registers.
fn part(register: Register) -> Option<Part> {
    if !register.is_gpr() {
        return None;
    }
    let is_high_byte = matches!(
        register,
        Register::AH | Register::CH | Register::DH | Register::BH
    );
    let full = register.full_register();
    Some(Part {
        gpr: Gpr::from_number(full.number())?,
        // CAST: at most 8.
        size: register.size() as u8,
        is_high_byte,
    })
}

fn address_bits(instruction: &Instruction, bits: u32) -> u8 {
    let index = match instruction.op0_kind() {
        OpKind::MemoryESDI | OpKind::MemorySegSI => 16,
        OpKind::MemoryESEDI | OpKind::MemorySegESI => 32,
        OpKind::MemoryESRDI | OpKind::MemorySegRSI => 64,
        // Only string instructions compute addresses here.
        _ => bits,
    };
    // CAST: at most 64.
    index as u8
}

/// RFLAGS after a comparison of two values of `size` bytes.
pub fn flags(rflags: u64, comparison: Comparison, device: u64, other: u64, size: u8) -> u64 {
    const CF: u64 = 1 << 0;
    const PF: u64 = 1 << 2;
    const AF: u64 = 1 << 4;
    const ZF: u64 = 1 << 6;
    const SF: u64 = 1 << 7;
    const OF: u64 = 1 << 11;
    let sign = 1 << (8 * u32::from(size) - 1);
    let (left, right) = match comparison {
        Comparison::DeviceSecond => (other, device),
        Comparison::DeviceFirst | Comparison::Test => (device, other),
    };
    let (left, right) = (left & mask(size), right & mask(size));
    let is_test = comparison == Comparison::Test;
    let result = if is_test {
        left & right
    } else {
        left.wrapping_sub(right) & mask(size)
    };
    let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
    // CAST: parity is of the low byte.
    let is_even = (result as u8).count_ones() % 2 == 0;
    (rflags & !(CF | PF | AF | ZF | SF | OF))
        | flag(is_even, PF)
        | flag(result == 0, ZF)
        | flag(result & sign != 0, SF)
        | flag(!is_test && left < right, CF)
        | flag(!is_test && (left ^ right ^ result) & 0x10 != 0, AF)
        | flag(!is_test && (left ^ right) & (left ^ result) & sign != 0, OF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part_of(gpr: Gpr, size: u8) -> Part {
        Part {
            gpr,
            size,
            is_high_byte: false,
        }
    }

    fn decoded(bytes: &[u8]) -> Option<(Access, u8, u8)> {
        decode(bytes, 64).map(|it| (it.access, it.size, it.len))
    }

    #[test]
    fn loads_and_stores_of_drivers_are_decoded() {
        // mov eax, [rdi]; mov [rsi], eax; mov qword ptr [rax], -1
        let load = |to, extend| Access::Load { to, extend };
        assert_eq!(
            decoded(&[0x8b, 0x07]),
            Some((load(part_of(Gpr::Rax, 4), Extend::None), 4, 2))
        );
        let eax = Operand::Register(part_of(Gpr::Rax, 4));
        assert_eq!(decoded(&[0x89, 0x06]), Some((Access::Store(eax), 4, 2)));
        let ones = Access::Store(Operand::Immediate(u64::MAX));
        assert_eq!(
            decoded(&[0x48, 0xc7, 0x00, 0xff, 0xff, 0xff, 0xff]),
            Some((ones, 8, 7))
        );
        // movzx ecx, byte ptr [r9]; movsx r10, word ptr [rax]
        let ecx = load(part_of(Gpr::Rcx, 4), Extend::Zero);
        assert_eq!(decoded(&[0x41, 0x0f, 0xb6, 0x09]), Some((ecx, 1, 4)));
        let r10 = load(part_of(Gpr::R10, 8), Extend::Sign);
        assert_eq!(decoded(&[0x4c, 0x0f, 0xbf, 0x10]), Some((r10, 2, 4)));
        // mov [rax], ah
        let ah = Part {
            is_high_byte: true,
            ..part_of(Gpr::Rax, 1)
        };
        assert_eq!(
            decoded(&[0x88, 0x20]),
            Some((Access::Store(Operand::Register(ah)), 1, 2))
        );
    }

    #[test]
    fn strings_and_comparisons_are_decoded() {
        let repeated = Access::Move { is_repeated: true };
        assert_eq!(decoded(&[0xf3, 0xa5]), Some((repeated, 4, 2)));
        assert_eq!(
            decoded(&[0xa4]),
            Some((Access::Move { is_repeated: false }, 1, 1))
        );
        assert_eq!(
            decoded(&[0xf3, 0x48, 0xab]),
            Some((Access::Fill { is_repeated: true }, 8, 3))
        );
        let compare = |comparison, with| Access::Compare { comparison, with };
        // cmp dword ptr [rax], 5; cmp eax, [rax]; test byte ptr [rax], 1
        let five = compare(Comparison::DeviceFirst, Operand::Immediate(5));
        assert_eq!(decoded(&[0x83, 0x38, 0x05]), Some((five, 4, 3)));
        let eax = Operand::Register(part_of(Gpr::Rax, 4));
        let second = compare(Comparison::DeviceSecond, eax);
        assert_eq!(decoded(&[0x3b, 0x00]), Some((second, 4, 2)));
        let test = compare(Comparison::Test, Operand::Immediate(1));
        assert_eq!(decoded(&[0xf6, 0x00, 0x01]), Some((test, 1, 3)));
    }

    #[test]
    fn what_is_no_plain_access_is_refused() {
        // rep movsb of FS and of GS, lock xadd, movaps, movsd of a vector register, push, fxsave,
        // nothing, 15 prefixes.
        for bytes in [
            &[0x64, 0xf3, 0xa4][..],
            &[0x65, 0xf3, 0xa4],
            &[0xf2, 0x0f, 0x11, 0x00],
            &[0xf0, 0x0f, 0xc1, 0x00],
            &[0x0f, 0x28, 0x00],
            &[0xff, 0x30],
            &[0x0f, 0xae, 0x00],
            &[],
            &[0x66; 15],
        ] {
            assert_eq!(decoded(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn flags_are_those_of_a_subtraction() {
        const CF: u64 = 1;
        const ZF: u64 = 0x40;
        const SF: u64 = 0x80;
        const OF: u64 = 0x800;
        let of = |device, other, size| {
            flags(0x202, Comparison::DeviceFirst, device, other, size) & (CF | ZF | SF | OF)
        };
        assert_eq!(of(5, 5, 4), ZF);
        assert_eq!(of(4, 5, 4), CF | SF);
        assert_eq!(of(0x80, 1, 1), OF);
        assert_eq!(of(0x1_0000_0005, 5, 4), ZF);
        assert_eq!(
            flags(0xfff, Comparison::Test, 2, 1, 8) & (CF | ZF | SF | OF),
            ZF
        );
    }
}
