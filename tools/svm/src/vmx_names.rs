// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! SVM exits in the words of VMX: basic exit reasons, qualifications, event words. [SDM 3C
//! appendix C, 27.2]

use crate::exit::{IoInfo, NpfError, SvmExit, Table};
use crate::insn::{Insn, Map};
use crate::msrpm::Access;
use crate::npt::Rights;
use crate::vmcb::Event;

/// VMX basic exit reasons.
#[expect(missing_docs, reason = "names as in the manual")]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const NMI_WINDOW: u32 = 8;
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const INVLPG: u32 = 14;
    pub const RDPMC: u32 = 15;
    pub const RDTSC: u32 = 16;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMLAUNCH: u32 = 20;
    pub const VMPTRLD: u32 = 21;
    pub const VMPTRST: u32 = 22;
    pub const VMREAD: u32 = 23;
    pub const VMRESUME: u32 = 24;
    pub const VMWRITE: u32 = 25;
    pub const VMXOFF: u32 = 26;
    pub const VMXON: u32 = 27;
    pub const CR_ACCESS: u32 = 28;
    pub const DR_ACCESS: u32 = 29;
    pub const IO_INSTRUCTION: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const INVALID_GUEST_STATE: u32 = 33;
    pub const MWAIT: u32 = 36;
    pub const MONITOR_TRAP_FLAG: u32 = 37;
    pub const MONITOR: u32 = 39;
    pub const PAUSE: u32 = 40;
    pub const TPR_BELOW_THRESHOLD: u32 = 43;
    pub const VIRTUALIZED_EOI: u32 = 45;
    pub const GDTR_OR_IDTR: u32 = 46;
    pub const LDTR_OR_TR: u32 = 47;
    pub const EPT_VIOLATION: u32 = 48;
    pub const INVEPT: u32 = 50;
    pub const RDTSCP: u32 = 51;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const INVVPID: u32 = 53;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const APIC_WRITE: u32 = 56;
    pub const TDCALL: u32 = 77;
    pub const VMFUNC: u32 = 59;
    pub const SEAMCALL: u32 = 76;
    /// Bit 31 of the raw reason: the entry itself failed.
    pub const ENTRY_FAILURE: u32 = 1 << 31;
}

/// Basic reason of an exit whose translation does not depend on the instruction or on state. `None`
/// if it does, or if VMX has no such exit.
pub const fn basic_reason(exit: &SvmExit) -> Option<u32> {
    Some(match exit {
        SvmExit::DrRead(_) | SvmExit::DrWrite(_) => reason::DR_ACCESS,
        SvmExit::Intr => reason::EXTERNAL_INTERRUPT,
        SvmExit::TableRead(Table::Idtr | Table::Gdtr)
        | SvmExit::TableWrite(Table::Idtr | Table::Gdtr) => reason::GDTR_OR_IDTR,
        SvmExit::TableRead(Table::Ldtr | Table::Tr)
        | SvmExit::TableWrite(Table::Ldtr | Table::Tr) => reason::LDTR_OR_TR,
        SvmExit::Rdtsc => reason::RDTSC,
        SvmExit::Rdtscp => reason::RDTSCP,
        SvmExit::Rdpmc => reason::RDPMC,
        SvmExit::Cpuid => reason::CPUID,
        SvmExit::Invd => reason::INVD,
        SvmExit::Pause => reason::PAUSE,
        SvmExit::Hlt => reason::HLT,
        SvmExit::Invlpg => reason::INVLPG,
        SvmExit::Io { .. } => reason::IO_INSTRUCTION,
        SvmExit::Msr(Access::Read) => reason::RDMSR,
        SvmExit::Msr(Access::Write) => reason::WRMSR,
        SvmExit::TaskSwitch => reason::TASK_SWITCH,
        SvmExit::Shutdown => reason::TRIPLE_FAULT,
        SvmExit::Wbinvd => reason::WBINVD,
        SvmExit::Monitor => reason::MONITOR,
        SvmExit::Mwait => reason::MWAIT,
        SvmExit::Xsetbv => reason::XSETBV,
        SvmExit::Npf { .. } => reason::EPT_VIOLATION,
        _ => return None,
    })
}

/// Reason of an instruction that this processor does not have and that exits from a VMX guest.
/// TDCALL is identified by its bytes, and so is VMCALL as it is usually encoded.
pub const fn undefined_opcode_reason(insn: &Insn) -> Option<u32> {
    let Some(modrm) = insn.modrm else { return None };
    let (is_plain, is_66) = (
        !insn.has_operand_size && !insn.has_repeat,
        insn.has_operand_size && !insn.has_repeat,
    );
    let is_memory = !modrm.is_register();
    Some(match (insn.map, insn.opcode, modrm.extension()) {
        (Map::Map0f, 0x01, _) => match modrm.byte {
            0xc1 if is_plain => reason::VMCALL,
            0xc2 if is_plain => reason::VMLAUNCH,
            0xc3 if is_plain => reason::VMRESUME,
            0xc4 if is_plain => reason::VMXOFF,
            0xd4 if is_plain => reason::VMFUNC,
            0xcf if is_66 => reason::SEAMCALL,
            _ => return None,
        },
        (Map::Map0f, 0x78, _) if is_plain => reason::VMREAD,
        (Map::Map0f, 0x79, _) if is_plain => reason::VMWRITE,
        (Map::Map0f, 0xc7, 6) if is_memory && is_plain => reason::VMPTRLD,
        (Map::Map0f, 0xc7, 6) if is_memory && is_66 => reason::VMCLEAR,
        (Map::Map0f, 0xc7, 6) if is_memory => reason::VMXON,
        (Map::Map0f, 0xc7, 7) if is_memory && is_plain => reason::VMPTRST,
        (Map::Map0f38, 0x80, _) if is_memory && is_66 => reason::INVEPT,
        (Map::Map0f38, 0x81, _) if is_memory && is_66 => reason::INVVPID,
        _ => return None,
    })
}

/// Qualification of an I/O exit. `opcode` is the instruction's, to recognize an immediate port.
pub const fn io_qualification(info: IoInfo, opcode: Option<u8>) -> u64 {
    let mut word = match info.size_bytes() {
        4 => 3,
        2 => 1,
        _ => 0,
    };
    word |= (info.is_in() as u64) << 3;
    word |= (info.is_string() as u64) << 4;
    word |= (info.is_rep() as u64) << 5;
    word |= (matches!(opcode, Some(0xe4..=0xe7)) as u64) << 6;
    word | ((info.port() as u64) << 16)
}

/// Qualification of an EPT violation. `entry` holds the current rights of the page, `has_gla` is
/// true if the caller has found a linear address.
pub const fn ept_qualification(error: NpfError, entry: Option<Rights>, has_gla: bool) -> u64 {
    let mut word = match (error.is_fetch(), error.is_write() && !error.is_table_walk()) {
        (true, _) => 1 << 2,
        (_, true) => 1 << 1,
        // The nested walk reports accesses to the guest's tables as writes; VMX as reads
        // (accessed and dirty flags for EPT are off).
        _ => 1,
    };
    if let Some(rights) = entry {
        word |= 1 << 3;
        word |= (rights.is_writable as u64) << 4;
        word |= (rights.is_executable as u64) << 5;
    }
    word |= (has_gla as u64) << 7;
    word | (((has_gla && !error.is_table_walk()) as u64) << 8)
}

/// VMX event word and error code of an interrupted SVM event. `is_software` is true for exceptions
/// from INT3 and INTO.
pub const fn event_info(event: Event, is_software: bool) -> (u32, u32) {
    let kind = match event.kind() {
        Event::EXCEPTION if is_software => 6,
        kind => kind as u32,
    };
    let mut word = event.vector() as u32 | (kind << 8) | (1 << 31);
    if event.has_error() {
        word |= 1 << 11;
    }
    (word, event.error())
}

/// SVM event of a VMX entry-interruption word. `None` for types that SVM can't inject.
pub const fn event_of(info: u32, error: u32) -> Option<Event> {
    // CAST: the vector is the low byte.
    let base = Event::new().with_vector(info as u8).with_is_valid(true);
    let event = match (info >> 8) & 7 {
        0 => base.with_kind(Event::INTERRUPT),
        2 => base.with_kind(Event::NMI),
        3 | 5 | 6 => base.with_kind(Event::EXCEPTION),
        4 => base.with_kind(Event::SOFTWARE),
        _ => return None,
    };
    if info & (1 << 11) != 0 {
        return Some(event.with_has_error(true).with_error(error));
    }
    Some(event)
}

/// Returns true if a vector pushes an error code.
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::{Mode, decode};

    #[test]
    fn vmx_instructions_are_told_from_undefined_opcodes() {
        let reason = |bytes: &[u8]| {
            let insn = decode(bytes, Mode::Code64).expect("an instruction");
            assert_eq!(usize::from(insn.len_bytes), bytes.len());
            undefined_opcode_reason(&insn)
        };
        let known: [(&[u8], u32); 15] = [
            (&[0x0f, 0x01, 0xc1], reason::VMCALL),
            (&[0x40, 0x0f, 0x01, 0xc1], reason::VMCALL),
            (&[0x66, 0x0f, 0xc7, 0x36], reason::VMCLEAR),
            (&[0x0f, 0x01, 0xc2], reason::VMLAUNCH),
            (&[0x0f, 0xc7, 0x36], reason::VMPTRLD),
            (&[0x0f, 0xc7, 0x3e], reason::VMPTRST),
            (&[0x0f, 0x78, 0xc1], reason::VMREAD),
            (&[0x0f, 0x01, 0xc3], reason::VMRESUME),
            (&[0x0f, 0x79, 0xc1], reason::VMWRITE),
            (&[0x0f, 0x01, 0xc4], reason::VMXOFF),
            (&[0xf3, 0x0f, 0xc7, 0x36], reason::VMXON),
            (&[0x66, 0x0f, 0x38, 0x80, 0x06], reason::INVEPT),
            (&[0x66, 0x0f, 0x38, 0x81, 0x06], reason::INVVPID),
            (&[0x0f, 0x01, 0xd4], reason::VMFUNC),
            (&[0x66, 0x0f, 0x01, 0xcf], reason::SEAMCALL),
        ];
        for (bytes, want) in known {
            assert_eq!(reason(bytes), Some(want), "{bytes:x?}");
        }
        // UD2, ENCLS, RDRAND, INVEPT of a register.
        let others: [&[u8]; 4] = [
            &[0x0f, 0x0b],
            &[0x0f, 0x01, 0xcf],
            &[0x0f, 0xc7, 0xf0],
            &[0x66, 0x0f, 0x38, 0x80, 0xc0],
        ];
        for bytes in others {
            let insn = decode(bytes, Mode::Code64);
            assert_eq!(insn.and_then(|i| undefined_opcode_reason(&i)), None);
        }
    }

    #[test]
    fn io_qualification_has_the_vmx_layout() {
        let info = IoInfo::new()
            .with_is_in(true)
            .with_size_bytes(1)
            .with_port(0x3f8);
        assert_eq!(io_qualification(info, Some(0xec)), 0x03f8_0008);
        let rep = IoInfo::new()
            .with_is_string(true)
            .with_is_rep(true)
            .with_size_bytes(4);
        assert_eq!(
            io_qualification(rep.with_port(0xcf8), Some(0x6f)),
            0x0cf8_0033
        );
        assert_eq!(io_qualification(info, Some(0xe4)) & (1 << 6), 1 << 6);
    }

    #[test]
    fn events_survive_the_translation_both_ways() {
        for info in [0x8000_0020, 0x8000_0202, 0x8000_0b0e, 0x8000_0480] {
            let event = event_of(info, 5).unwrap();
            let error = if info & (1 << 11) != 0 { 5 } else { 0 };
            assert_eq!(event_info(event, false), (info, error));
        }
        assert_eq!(event_of(0x8000_0700, 0), None);
    }

    #[test]
    fn a_write_to_an_absent_page_is_qualified_as_such() {
        let error = NpfError::new().with_is_write(true).with_is_final(true);
        assert_eq!(ept_qualification(error, None, true), 0x182);
        let read_only = Rights {
            is_writable: false,
            is_executable: false,
        };
        assert_eq!(ept_qualification(error, Some(read_only), false), 0xa);
    }

    #[test]
    fn a_table_walk_is_a_read_and_not_final() {
        let error = NpfError::new().with_is_write(true).with_is_table_walk(true);
        assert_eq!(ept_qualification(error, None, true), 0x81);
    }
}
