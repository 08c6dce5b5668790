// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a guest finds at its paravisor: a small virtual CPUID, a few MSRs, a
//! console port, and service calls. Pure tables, carried out by `cmd::run`.

use raw_cpuid::cpuid;
use vtl::exit::{Direction, Port};
use vtl::field::L2Field;
use vtl::run_page::SwitchedState;

/// Signature of the hypervisor leaf, 12 bytes.
const HYPERVISOR: &[u8; 12] = b"vtlctl VTL0 ";
const LEAF_HYPERVISOR: u32 = 0x4000_0000;
const LEAF_EXTENDED: u32 = 0x8000_0000;

/// CPUID as the guest sees it, on the processor `cpu`. Vendor and signature
/// are this level's own; features are those the start state enables.
pub(crate) fn virtual_cpuid(leaf: u32, cpu: u32) -> [u32; 4] {
    /// FPU, TSC, MSR, PAE, CX8, PGE, CMOV, PAT, FXSR, SSE, SSE2.
    const FEATURES_EDX: u32 = bits(&[0, 4, 5, 6, 8, 13, 15, 16, 24, 25, 26]);
    /// Runs under a hypervisor.
    const FEATURES_ECX: u32 = bits(&[31]);
    /// SYSCALL, NX, long mode.
    const EXTENDED_EDX: u32 = bits(&[11, 20, 29]);
    match leaf {
        0 => {
            let own = cpuid!(0);
            [1, own.ebx, own.ecx, own.edx]
        }
        1 => {
            let own = cpuid!(1);
            [own.eax, cpu << 24, FEATURES_ECX, FEATURES_EDX & own.edx]
        }
        LEAF_HYPERVISOR => {
            let word = |at: usize| {
                u32::from_le_bytes([
                    HYPERVISOR[at],
                    HYPERVISOR[at + 1],
                    HYPERVISOR[at + 2],
                    HYPERVISOR[at + 3],
                ])
            };
            [LEAF_HYPERVISOR, word(0), word(4), word(8)]
        }
        LEAF_EXTENDED => [LEAF_EXTENDED + 1, 0, 0, 0],
        0x8000_0001 => [0, 0, 0, EXTENDED_EDX & cpuid!(0x8000_0001).edx],
        _ => [0; 4],
    }
}

/// A value with these bits set.
const fn bits(numbers: &[u32]) -> u32 {
    let mut word = 0;
    let mut at = 0;
    while at < numbers.len() {
        word |= 1 << numbers[at];
        at += 1;
    }
    word
}

/// Where the value of an MSR lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Msr {
    /// A field of the L2 VMCS.
    Field(L2Field),
    /// IA32_EFER, of which the guest may only change SCE.
    Efer,
    /// A register the kernel switches.
    Switched(SwitchedState),
    /// The time-stamp counter, read only.
    Tsc,
    /// A constant, read only.
    Constant(u64),
    /// The guest gets #GP.
    Unknown,
}

/// Looks an MSR up.
pub(crate) const fn msr(index: u32) -> Msr {
    /// xAPIC at its usual place, enabled.
    const APIC_BASE: u64 = 0xfee0_0900;
    match index {
        0x10 => Msr::Tsc,
        0x1b => Msr::Constant(APIC_BASE),
        0x8b => Msr::Constant(0),
        0x174 => Msr::Field(L2Field::GUEST_SYSENTER_CS),
        0x175 => Msr::Field(L2Field::GUEST_SYSENTER_ESP),
        0x176 => Msr::Field(L2Field::GUEST_SYSENTER_EIP),
        0x277 => Msr::Field(L2Field::GUEST_IA32_PAT),
        0xc000_0080 => Msr::Efer,
        0xc000_0081 => Msr::Switched(SwitchedState::Star),
        0xc000_0082 => Msr::Switched(SwitchedState::Lstar),
        0xc000_0084 => Msr::Switched(SwitchedState::Sfmask),
        0xc000_0100 => Msr::Field(L2Field::GUEST_FS_BASE),
        0xc000_0101 => Msr::Field(L2Field::GUEST_GS_BASE),
        0xc000_0102 => Msr::Switched(SwitchedState::KernelGsBase),
        0xc000_0103 => Msr::Switched(SwitchedState::TscAux),
        _ => Msr::Unknown,
    }
}

/// Returns true if the processor takes this value; the kernel refuses to enter the
/// guest with one that it does not.
pub(crate) const fn is_loadable(register: SwitchedState, value: u64) -> bool {
    /// With 48 bits, as the guest has no five-level paging.
    const fn is_canonical(address: u64) -> bool {
        // CAST: sign extension of bit 47 is what canonical means.
        ((address << 16) as i64 >> 16) as u64 == address
    }
    match register {
        SwitchedState::KernelGsBase | SwitchedState::Lstar => is_canonical(value),
        SwitchedState::Sfmask | SwitchedState::TscAux => value >> 32 == 0,
        SwitchedState::Star | SwitchedState::Cr2 => true,
        SwitchedState::Xss => value == 0,
    }
}

/// What a port access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortService {
    /// A character for the console.
    Console,
    /// Output that has no effect.
    Ignored,
    /// Input of this value.
    Answer(u32),
}

/// Looks a port access up. The console is a debug port and a serial port that
/// is always ready; all other ports float.
pub(crate) const fn port(port: Port) -> PortService {
    const DEBUG_CONSOLE: u16 = 0xe9;
    const COM1_DATA: u16 = 0x3f8;
    const COM1_LINE_STATUS: u16 = 0x3fd;
    const TRANSMITTER_EMPTY: u32 = 0x60;
    match (port.direction, port.number) {
        (Direction::Out, DEBUG_CONSOLE | COM1_DATA) => PortService::Console,
        (Direction::Out, _) => PortService::Ignored,
        (Direction::In, COM1_LINE_STATUS) => PortService::Answer(TRANSMITTER_EMPTY),
        (Direction::In, DEBUG_CONSOLE) => PortService::Answer(0xe9),
        (Direction::In, _) => PortService::Answer(u32::MAX),
    }
}

/// A service call: number in RAX, arguments in RBX and RCX, result in RAX.
pub(crate) const fn service(number: u64, rbx: u64, rcx: u64) -> u64 {
    const ECHO: u64 = 1;
    const ADD: u64 = 2;
    const UNKNOWN_SERVICE: u64 = u64::MAX;
    match number {
        ECHO => rbx,
        ADD => rbx.wrapping_add(rcx),
        _ => UNKNOWN_SERVICE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_is_this_machines() {
        let own = cpuid!(0);
        assert_eq!(virtual_cpuid(0, 0), [1, own.ebx, own.ecx, own.edx]);
    }

    #[test]
    fn the_hypervisor_leaf_spells_its_signature() {
        let [max, words @ ..] = virtual_cpuid(LEAF_HYPERVISOR, 0);
        let text: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(max, LEAF_HYPERVISOR);
        assert_eq!(text, HYPERVISOR);
    }

    #[test]
    fn unknown_leaves_are_zero_and_the_cpu_number_is_shown() {
        assert_eq!(virtual_cpuid(0x21, 0), [0; 4]);
        assert_eq!(virtual_cpuid(1, 3)[1], 3 << 24);
        assert_ne!(virtual_cpuid(1, 0)[2] & (1 << 31), 0);
    }

    #[test]
    fn only_known_msrs_have_a_home() {
        assert_eq!(msr(0xc000_0080), Msr::Efer);
        assert_eq!(msr(0xc000_0083), Msr::Unknown);
        assert_eq!(msr(0x4000_0000), Msr::Unknown);
    }

    #[test]
    fn values_that_would_fault_are_not_loadable() {
        assert!(is_loadable(SwitchedState::Lstar, 0xffff_8000_0000_0000));
        assert!(!is_loadable(SwitchedState::Lstar, 1 << 47));
        assert!(!is_loadable(SwitchedState::Sfmask, 1 << 32));
        assert!(is_loadable(SwitchedState::Star, u64::MAX));
    }

    #[test]
    fn services_answer_and_unknown_ones_say_so() {
        assert_eq!(service(1, 5, 6), 5);
        assert_eq!(service(2, u64::MAX, 2), 1);
        assert_eq!(service(99, 5, 6), u64::MAX);
    }

    #[test]
    fn ports_float_but_for_the_console() {
        let access = |direction, number| {
            port(Port {
                number,
                size_bytes: 1,
                direction,
                is_string: false,
            })
        };
        assert_eq!(access(Direction::Out, 0xe9), PortService::Console);
        assert_eq!(access(Direction::Out, 0x80), PortService::Ignored);
        assert_eq!(access(Direction::In, 0x3fd), PortService::Answer(0x60));
        assert_eq!(access(Direction::In, 0x60), PortService::Answer(u32::MAX));
    }
}
