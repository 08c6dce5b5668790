// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Classifies an instruction by its kind of cost, from its bytes.
//!
//! Only kinds that the benchmark reports are distinguished; an instruction may have none.
//! Encodings: [SDM2 appendix A].

/// The costs of one instruction that are counted besides the instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// RDMSR or WRMSR.
    pub msr: bool,
    /// TDCALL.
    pub tdcall: bool,
    /// A save or restore of FPU state: FXSAVE, FXRSTOR, XSAVE and its kin.
    pub fpu: bool,
    /// A locked read-modify-write.
    pub locked: bool,
}

/// Classifies one instruction of 64-bit code.
pub fn classify(bytes: &[u8]) -> Kind {
    let mut lock_prefix = false;
    let mut operand_prefix = false;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        match byte {
            0xf0 => lock_prefix = true,
            0x66 => operand_prefix = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 | 0xf2 | 0xf3 | 0x40..=0x4f => {}
            _ => break,
        }
        rest = tail;
    }
    let mut kind = Kind {
        locked: lock_prefix,
        ..Kind::default()
    };
    match *rest {
        [0x0f, 0x30 | 0x32, ..] => kind.msr = true,
        [0x0f, 0x01, 0xcc, ..] => kind.tdcall = operand_prefix,
        // Groups 15 and 9, memory forms: /0 FXSAVE /1 FXRSTOR /4 XSAVE
        // /5 XRSTOR /6 XSAVEOPT, and /3 XRSTORS /4 XSAVEC /5 XSAVES.
        [0x0f, 0xae, modrm, ..] if is_memory(modrm) => {
            kind.fpu = matches!(reg(modrm), 0 | 1 | 4 | 5) || (reg(modrm) == 6 && !operand_prefix);
        }
        [0x0f, 0xc7, modrm, ..] if is_memory(modrm) => {
            kind.fpu = matches!(reg(modrm), 3..=5);
        }
        // XCHG with a memory operand is always locked.
        [0x86 | 0x87, modrm, ..] if is_memory(modrm) => kind.locked = true,
        _ => {}
    }
    kind
}

const fn is_memory(modrm: u8) -> bool {
    modrm >> 6 != 3
}

const fn reg(modrm: u8) -> u8 {
    (modrm >> 3) & 7
}

#[cfg(test)]
mod tests {
    use super::{Kind, classify};

    const NONE: Kind = Kind {
        msr: false,
        tdcall: false,
        fpu: false,
        locked: false,
    };

    #[test]
    fn msr_accesses_are_seen() {
        assert!(classify(&[0x0f, 0x30]).msr);
        assert!(classify(&[0x0f, 0x32]).msr);
    }

    #[test]
    fn tdcall_needs_its_prefix() {
        assert!(classify(&[0x66, 0x0f, 0x01, 0xcc]).tdcall);
        assert_eq!(classify(&[0x0f, 0x01, 0xcc]), NONE);
    }

    #[test]
    fn fpu_transfers_are_seen_and_fences_are_not() {
        assert!(classify(&[0x48, 0x0f, 0xae, 0x07]).fpu); // fxsave64 (%rdi)
        assert!(classify(&[0x48, 0x0f, 0xae, 0x2f]).fpu); // xrstor64 (%rdi)
        assert!(classify(&[0x48, 0x0f, 0xc7, 0x2f]).fpu); // xsaves64 (%rdi)
        assert_eq!(classify(&[0x0f, 0xae, 0xe8]), NONE); // lfence
        assert_eq!(classify(&[0x66, 0x0f, 0xae, 0x37]), NONE); // clwb (%rdi)
    }

    #[test]
    fn locks_are_seen_with_and_without_prefix() {
        assert!(classify(&[0xf0, 0x48, 0x0f, 0xb1, 0x17]).locked); // lock cmpxchg
        assert!(classify(&[0x65, 0x87, 0x07]).locked); // xchg %eax,%gs:(%rdi)
        assert_eq!(classify(&[0x87, 0xc3]), NONE); // xchg %eax,%ebx
    }

    #[test]
    fn truncated_instructions_are_of_no_kind() {
        assert_eq!(classify(&[]), NONE);
        assert_eq!(classify(&[0x0f]), NONE);
        assert_eq!(classify(&[0x48, 0x0f, 0xae]), NONE);
    }
}
