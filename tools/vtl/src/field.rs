// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Metadata field ids [ABI 4.1]: the L2 VMCS fields by encoding, and the TD-wide and module-wide
//! fields that a paravisor reads.
//!
//! Used by [`crate::tdcall`] (TDG.VM.RD, TDG.SYS.RD) and [`crate::vp`]
//! (TDG.VP.RD, TDG.VP.WR).

mod l2;

use crate::vp::Vm;

pub use l2::L2Field;

/// Number of L2 VMs of this TD.
pub const NUM_L2_VMS: u64 = 0x9010_0001_0000_0005;
/// Number of virtual CPUs of this TD.
pub const NUM_VCPUS: u64 = 0x9010_0002_0000_0001;
/// Most virtual CPUs this TD may have.
pub const MAX_VCPUS: u64 = 0x1110_0002_0000_0002;
/// TD attributes.
pub const ATTRIBUTES: u64 = 0x1110_0003_0000_0000;
/// Extended features of the TD.
pub const XFAM: u64 = 0x1110_0003_0000_0001;
/// 0: 48 bits of guest-physical address, 1: 52 bits.
pub const GPAW: u64 = 0x1110_0000_0000_0003;
/// TSC frequency in units of 25 MHz.
pub const TSC_FREQUENCY: u64 = 0x1110_0001_0000_000c;
/// Controls of the TD.
pub const TD_CTLS: u64 = 0x1110_0003_0000_0017;
/// Bit of [`TD_CTLS`]: keys for sealing may be had.
pub const TD_CTLS_ENABLE_HW_SEAL_KEYS: u64 = 1 << 4;
/// Configuration flags of the TD.
pub const CONFIG_FLAGS: u64 = 0x9110_0003_0000_0016;
/// TDX_FEATURES0 of the TDX module: the first word of its features.
pub const TDX_FEATURES0: u64 = 0x0a00_0003_0000_0008;
/// Bit of [`TDX_FEATURES0`]: TD partitioning.
pub const TDX_FEATURES0_TD_PARTITIONING: u64 = 1 << 7;

/// A word, 0 to 5, of a run-time measurement register, 0 to 3.
pub const fn rtmr(index: u64, word: u64) -> u64 {
    0x1310_0003_0000_0040 + 6 * index + word
}

/// Per-VP controls of the L2 VM `vm`.
pub const fn l2_ctls(vm: Vm) -> u64 {
    0xa020_0003_0000_0050 + vm.index()
}

/// Bits of [`l2_ctls`]: shared EPT, TDVMCALL, extended #VE.
pub const L2_CTLS_MASK: u64 = 7;

/// Words of the MSR bitmap of an L2 VM.
pub const MSR_BITMAP_WORDS: u64 = 512;

/// A word of the MSR bitmap of the L2 VM `vm`: class 37, 45 or 53. A set bit makes the access exit.
pub const fn msr_bitmap(vm: Vm, word: u64) -> u64 {
    0x2520_0003_0000_0000 + ((vm.index() - 1) << 59) + word
}

/// Per-VP TSC deadline of the L2 VM `vm`; all ones means none.
pub const fn tsc_deadline(vm: Vm) -> u64 {
    0xa020_0003_0000_0058 + vm.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msr_bitmaps_have_a_class_for_each_vm() {
        assert_eq!(msr_bitmap(Vm::VTL0, 5), 0x2520_0003_0000_0005);
        assert_eq!(msr_bitmap(Vm::VTL1, 511), 0x2d20_0003_0000_01ff);
        assert_eq!(msr_bitmap(Vm::THIRD, 0), 0x3520_0003_0000_0000);
    }

    #[test]
    fn ids_match_the_table_of_the_specification() {
        assert_eq!(L2Field::GUEST_CR0.id(Vm::VTL0), 0x2424_0003_0000_6800);
        assert_eq!(
            L2Field::GUEST_CS_SELECTOR.id(Vm::VTL0),
            0x2424_0001_0000_0802
        );
        assert_eq!(L2Field::ENTRY_CONTROLS.id(Vm::VTL1), 0x2c24_0002_0000_4012);
        assert_eq!(l2_ctls(Vm::VTL0), 0xa020_0003_0000_0051);
        assert_eq!(tsc_deadline(Vm::VTL1), 0xa020_0003_0000_005a);
    }
}
