// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! MSRs as the guest sees them: which pass without an exit, and where the others have their value.

use vtl::field::L2Field;
use vtl::run_page::SwitchedState;

/// Where the value of an MSR that exits is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Msr {
    /// A field of the L2 VMCS.
    Field(L2Field),
    /// IA32_EFER, a field with bits that do not change.
    Efer,
    /// A register of the run page.
    Switched(SwitchedState),
    /// The time-stamp counter, read only.
    Tsc,
    /// IA32_APIC_BASE.
    ApicBase,
    /// IA32_TSC_DEADLINE.
    Deadline,
    /// A register of the x2APIC, by its offset from 0x800.
    X2Apic(u8),
    /// A constant; what is written is lost.
    Fixed(u64),
    /// The guest gets #GP.
    Unknown,
}

/// Looks up an MSR that exits.
pub const fn msr(index: u32) -> Msr {
    /// IA32_FEATURE_CONTROL: locked, without VMX.
    const LOCKED: u64 = 1;
    match index {
        0x10 => Msr::Tsc,
        0x1b => Msr::ApicBase,
        0x3a => Msr::Fixed(LOCKED),
        // Microcode: none that could be updated.
        0x79 | 0x8b => Msr::Fixed(0),
        0x174 => Msr::Field(L2Field::GUEST_SYSENTER_CS),
        0x175 => Msr::Field(L2Field::GUEST_SYSENTER_ESP),
        0x176 => Msr::Field(L2Field::GUEST_SYSENTER_EIP),
        0x1a0 => Msr::Fixed(MISC_ENABLE),
        0x1d9 => Msr::Fixed(0),
        0x277 => Msr::Field(L2Field::GUEST_IA32_PAT),
        0x6e0 => Msr::Deadline,
        // CAST: below 0x100.
        0x800..=0x8ff => Msr::X2Apic((index - 0x800) as u8),
        0xc000_0080 => Msr::Efer,
        0xc000_0081 => Msr::Switched(SwitchedState::Star),
        0xc000_0082 => Msr::Switched(SwitchedState::Lstar),
        // IA32_CSTAR: no Intel processor uses it.
        0xc000_0083 => Msr::Fixed(0),
        0xc000_0084 => Msr::Switched(SwitchedState::Sfmask),
        0xc000_0100 => Msr::Field(L2Field::GUEST_FS_BASE),
        0xc000_0101 => Msr::Field(L2Field::GUEST_GS_BASE),
        0xc000_0102 => Msr::Switched(SwitchedState::KernelGsBase),
        0xc000_0103 => Msr::Switched(SwitchedState::TscAux),
        _ => Msr::Unknown,
    }
}

/// IA32_MISC_ENABLE: fast strings; PEBS and BTS unavailable.
const MISC_ENABLE: u64 = (1 << 0) | (1 << 11) | (1 << 12);

/// What passes without an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Reads.
    Reads,
    /// Reads and writes.
    Both,
    /// Writes.
    Writes,
}

/// MSRs that pass: first, last, and how. The kernel module allows each (`abi.rst`, "MSR that is
/// switched").
pub const PASSED: [(u32, u32, Passes); 17] = [
    (0x10, 0x10, Passes::Reads),
    (0x48, 0x48, Passes::Both),
    (0x49, 0x49, Passes::Writes),
    (0x10a, 0x10a, Passes::Reads),
    (0x10b, 0x10b, Passes::Writes),
    (0x174, 0x176, Passes::Both),
    (0x277, 0x277, Passes::Both),
    (0x808, 0x808, Passes::Both),
    (0x80a, 0x80a, Passes::Reads),
    (0x80b, 0x80b, Passes::Both),
    // ISR, TMR, IRR.
    (0x810, 0x827, Passes::Reads),
    (0x83f, 0x83f, Passes::Both),
    (0xc000_0080, 0xc000_0080, Passes::Both),
    (0xc000_0081, 0xc000_0082, Passes::Both),
    (0xc000_0084, 0xc000_0084, Passes::Both),
    (0xc000_0100, 0xc000_0102, Passes::Both),
    (0xc000_0103, 0xc000_0103, Passes::Both),
];

/// The words of the MSR bitmap that are not all ones, with their contents. [SDM3 25.6.9]
pub fn bitmap() -> Vec<(u64, u64)> {
    let mut words = std::collections::BTreeMap::new();
    let mut clear = |bit: u64| *words.entry(bit / 64).or_insert(u64::MAX) &= !(1 << (bit % 64));
    for (first, last, passes) in PASSED {
        for index in first..=last {
            let (reads, writes) = bits_of(index);
            if passes != Passes::Writes {
                clear(reads);
            }
            if passes != Passes::Reads {
                clear(writes);
            }
        }
    }
    words.into_iter().collect()
}

/// Where the bits of an MSR for reads and for writes are.
fn bits_of(index: u32) -> (u64, u64) {
    const HIGH: u64 = 0x400 * 8;
    const WRITES: u64 = 0x800 * 8;
    let number = u64::from(index & 0x1fff);
    let reads = if index >= 0xc000_0000 {
        HIGH + number
    } else {
        number
    };
    (reads, WRITES + reads)
}

/// IA32_EFER after a write that exits, `None` for #GP. NXE stays set, as the TDX module wants it: a kernel
/// that clears it has turned paging off, where it means nothing.
pub const fn efer_after(old: u64, value: u64, is_paging: bool) -> Option<u64> {
    const SCE: u64 = 1 << 0;
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    const NXE: u64 = 1 << 11;
    let is_unknown = value & !(SCE | LME | LMA | NXE) != 0;
    if is_unknown || (is_paging && (old ^ value) & LME != 0) {
        return None;
    }
    Some((value & (SCE | LME)) | (old & LMA) | NXE)
}

/// Returns true if the processor takes this value; the kernel refuses to enter the guest with
/// another.
pub const fn is_loadable(register: SwitchedState, value: u64) -> bool {
    match register {
        SwitchedState::KernelGsBase | SwitchedState::Lstar => is_canonical(value),
        SwitchedState::Sfmask | SwitchedState::TscAux => value >> 32 == 0,
        SwitchedState::Xss => value == 0,
        _ => true,
    }
}

/// With 48 bits, as the guest has no five-level paging.
const fn is_canonical(address: u64) -> bool {
    // CAST: sign extension of bit 47 is what canonical means.
    ((address << 16) as i64 >> 16) as u64 == address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_clears_exactly_what_passes() {
        let words = bitmap();
        let is_clear = |bit: u64| {
            let word = words.iter().find(|(word, _)| *word == bit / 64);
            word.is_some_and(|(_, bits)| bits & (1 << (bit % 64)) == 0)
        };
        for index in (0..0x2000).chain(0xc000_0000..0xc000_2000) {
            let row = PASSED
                .iter()
                .find(|(first, last, _)| (*first..=*last).contains(&index));
            let (reads, writes) = bits_of(index);
            let passes = row.map(|(_, _, passes)| *passes);
            let expects = |with| passes == Some(with) || passes == Some(Passes::Both);
            assert_eq!(is_clear(reads), expects(Passes::Reads), "{index:#x}");
            assert_eq!(is_clear(writes), expects(Passes::Writes), "{index:#x}");
        }
    }

    #[test]
    fn the_x2apic_words_are_those_that_the_module_allows() {
        let words = bitmap();
        // TPR, PPR, EOI, ISR, TMR, IRR, SELF_IPI.
        assert!(words.contains(&(0x20, 0x7fff_ff00_0000_f2ff)));
        assert!(words.contains(&(0x120, 0x7fff_ffff_ffff_f6ff)));
    }

    #[test]
    fn only_known_msrs_have_a_home() {
        for index in [
            0x34,
            0x140,
            0x186,
            0x480,
            0x64e,
            0xda0,
            0x4b56_4d01,
            0xc001_1029,
        ] {
            assert_eq!(msr(index), Msr::Unknown, "{index:#x}");
        }
        assert_eq!(msr(0x830), Msr::X2Apic(0x30));
    }

    #[test]
    fn efer_keeps_nxe_and_lma_and_changes_lme_without_paging_only() {
        assert_eq!(efer_after(0x901, 0, false), Some(0x800));
        assert_eq!(efer_after(0xd01, 0x501, true), Some(0xd01));
        assert_eq!(efer_after(0x800, 0xd01, false), Some(0x901));
        assert_eq!(efer_after(0xd01, 0x900, true), Some(0xd00));
        assert_eq!(efer_after(0xd01, 0xc01, true), None);
        for unknown in [1 << 1, 1 << 12, 1 << 63] {
            assert_eq!(efer_after(0x901, 0x901 | unknown, false), None);
        }
    }

    #[test]
    fn values_that_would_fault_are_not_loadable() {
        assert!(is_loadable(SwitchedState::Lstar, 0xffff_8000_0000_0000));
        assert!(!is_loadable(SwitchedState::Lstar, 1 << 47));
        assert!(!is_loadable(SwitchedState::Sfmask, 1 << 32));
        assert!(is_loadable(SwitchedState::Star, u64::MAX));
    }
}
