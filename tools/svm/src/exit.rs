// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Why a guest stopped: the exit codes as a total enum. [APM2 appendix C]

use crate::msrpm::Access;
use crate::vmcb::Control;
use bitfield_struct::bitfield;

/// EXITINFO1 of an I/O exit.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IoInfo {
    /// IN rather than OUT.
    pub is_in: bool,
    _r0: bool,
    /// INS or OUTS.
    pub is_string: bool,
    /// REP prefix.
    pub is_rep: bool,
    /// Operand size in bytes: 1, 2 or 4.
    #[bits(3)]
    pub size_bytes: u8,
    #[bits(3)]
    pub address_size: u8,
    #[bits(3)]
    pub segment: u8,
    #[bits(3)]
    _r1: u8,
    /// Port.
    pub port: u16,
}

/// EXITINFO1 of a nested page fault.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct NpfError {
    /// The nested entry was present.
    pub was_present: bool,
    /// A write.
    pub is_write: bool,
    /// A user access (always, seen from the nested tables).
    pub is_user: bool,
    /// A reserved bit was set in a nested entry.
    pub is_reserved_bit: bool,
    /// An instruction fetch.
    pub is_fetch: bool,
    #[bits(27)]
    _r0: u32,
    /// The fault was on the final address.
    pub is_final: bool,
    /// The fault was on a page of the guest's own tables.
    pub is_table_walk: bool,
    #[bits(30)]
    _r1: u32,
}

/// Descriptor-table register of a table exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "register names")]
pub enum Table {
    Idtr,
    Gdtr,
    Ldtr,
    Tr,
}

/// Reason why VMRUN returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the intercepts")]
pub enum SvmExit {
    /// Read of a control register. TCG does not say which: decode the instruction.
    CrRead,
    /// Write of this control register.
    CrWrite(u8),
    DrRead(u8),
    DrWrite(u8),
    Exception {
        vector: u8,
        error: u32,
    },
    Intr,
    Nmi,
    Smi,
    Init,
    Vintr,
    TableRead(Table),
    TableWrite(Table),
    Rdtsc,
    Rdpmc,
    Pushf,
    Popf,
    Cpuid,
    Rsm,
    Iret,
    IntN,
    Invd,
    Pause,
    Hlt,
    Invlpg,
    Invlpga,
    /// Port access; `next_rip` is the one next-instruction address TCG gives.
    Io {
        info: IoInfo,
        next_rip: u64,
    },
    Msr(Access),
    TaskSwitch,
    Shutdown,
    /// One of the instructions of SVM itself.
    SvmInstruction,
    Vmmcall,
    Rdtscp,
    Icebp,
    Wbinvd,
    Monitor,
    Mwait,
    Xsetbv,
    Npf {
        error: NpfError,
        gpa: u64,
    },
    /// VMRUN refused the VMCB.
    Invalid,
    /// A code that is not in this list.
    Unknown(u64),
}

impl SvmExit {
    /// Decodes the exit from the control area.
    pub fn decode(control: &Control) -> Self {
        // CAST: each takes the field of the word that the manual names for the exit code.
        let code = control.exit_code;
        match code {
            0x00..=0x0f => Self::CrRead,
            0x10..=0x1f => Self::CrWrite((code & 15) as u8),
            0x20..=0x2f => Self::DrRead((code & 15) as u8),
            0x30..=0x3f => Self::DrWrite((code & 15) as u8),
            0x40..=0x5f => Self::Exception {
                vector: (code & 31) as u8,
                error: control.exit_info_1 as u32,
            },
            0x60 => Self::Intr,
            0x61 => Self::Nmi,
            0x62 => Self::Smi,
            0x63 => Self::Init,
            0x64 => Self::Vintr,
            0x65 => Self::CrWrite(0),
            0x66 => Self::TableRead(Table::Idtr),
            0x67 => Self::TableRead(Table::Gdtr),
            0x68 => Self::TableRead(Table::Ldtr),
            0x69 => Self::TableRead(Table::Tr),
            0x6a => Self::TableWrite(Table::Idtr),
            0x6b => Self::TableWrite(Table::Gdtr),
            0x6c => Self::TableWrite(Table::Ldtr),
            0x6d => Self::TableWrite(Table::Tr),
            0x6e => Self::Rdtsc,
            0x6f => Self::Rdpmc,
            0x70 => Self::Pushf,
            0x71 => Self::Popf,
            0x72 => Self::Cpuid,
            0x73 => Self::Rsm,
            0x74 => Self::Iret,
            0x75 => Self::IntN,
            0x76 => Self::Invd,
            0x77 => Self::Pause,
            0x78 => Self::Hlt,
            0x79 => Self::Invlpg,
            0x7a => Self::Invlpga,
            0x7b => Self::Io {
                info: IoInfo::from_bits(control.exit_info_1 as u32),
                next_rip: control.exit_info_2,
            },
            0x7c if control.exit_info_1 & 1 == 0 => Self::Msr(Access::Read),
            0x7c => Self::Msr(Access::Write),
            0x7d => Self::TaskSwitch,
            0x7f => Self::Shutdown,
            0x81 => Self::Vmmcall,
            0x80 | 0x82..=0x86 => Self::SvmInstruction,
            0x87 => Self::Rdtscp,
            0x88 => Self::Icebp,
            0x89 => Self::Wbinvd,
            0x8a => Self::Monitor,
            0x8b | 0x8c => Self::Mwait,
            0x8d => Self::Xsetbv,
            0x400 => Self::Npf {
                error: NpfError::from_bits(control.exit_info_1),
                gpa: control.exit_info_2,
            },
            u64::MAX => Self::Invalid,
            // TCG writes the 32-bit form of VMEXIT_INVALID.
            0xffff_ffff => Self::Invalid,
            other => Self::Unknown(other),
        }
    }
}
