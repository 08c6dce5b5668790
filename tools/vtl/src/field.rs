// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Metadata field ids [ABI 4.1]: the L2 VMCS fields by encoding, and the
//! TD-wide and module-wide fields a paravisor asks for.
//!
//! Used by [`crate::tdcall`] (TDG.VM.RD, TDG.SYS.RD) and [`crate::vp`]
//! (TDG.VP.RD, TDG.VP.WR).

use crate::vp::Vm;

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
/// Features of the TDX module, first word.
pub const TDX_FEATURES0: u64 = 0x0a00_0003_0000_0008;
/// Bit of [`TDX_FEATURES0`]: TD partitioning.
pub const TDX_FEATURES0_TD_PARTITIONING: u64 = 1 << 7;

/// Per-VP controls of the L2 VM `vm`.
pub const fn l2_ctls(vm: Vm) -> u64 {
    0xa020_0003_0000_0050 + vm.index()
}

/// Bits of [`l2_ctls`]: shared EPT, TDVMCALL, extended #VE.
pub const L2_CTLS_MASK: u64 = 7;

/// Words of the MSR bitmap of an L2 VM.
pub const MSR_BITMAP_WORDS: u64 = 512;

/// A word of the MSR bitmap of the L2 VM `vm`: class 37, 45 or 53. A set bit is
/// an exit.
pub const fn msr_bitmap(vm: Vm, word: u64) -> u64 {
    0x2520_0003_0000_0000 + ((vm.index() - 1) << 59) + word
}

/// Per-VP TSC deadline of the L2 VM `vm`; all ones means none.
pub const fn tsc_deadline(vm: Vm) -> u64 {
    0xa020_0003_0000_0058 + vm.index()
}

/// Width of a field, as the id encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Two bytes.
    U16 = 1,
    /// Four bytes.
    U32 = 2,
    /// Eight bytes.
    U64 = 3,
}

/// A field of the L2 VMCS, by its VMCS encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Field {
    encoding: u16,
    width: Width,
}

impl L2Field {
    const fn new(width: Width, encoding: u16) -> Self {
        Self { encoding, width }
    }

    /// The id of this field of `vm`: class 36, 44 or 52, context VCPU.
    pub const fn id(self, vm: Vm) -> u64 {
        const CONTEXT_VCPU: u64 = 2 << 52;
        const INCREMENT_BY_TWO: u64 = 1 << 50;
        let class = 36 + 8 * (vm.index() - 1);
        // CAST: widening.
        (class << 56)
            | CONTEXT_VCPU
            | INCREMENT_BY_TWO
            | ((self.width as u64) << 32)
            | self.encoding as u64
    }

    /// A write mask that covers the whole field.
    pub const fn full_mask(self) -> u64 {
        match self.width {
            Width::U16 => 0xffff,
            Width::U32 => 0xffff_ffff,
            Width::U64 => u64::MAX,
        }
    }
}

macro_rules! l2_fields {
    ($($width:ident { $($name:ident = $encoding:literal,)+ })+) => {
        impl L2Field {
            $($(
                #[doc = concat!("VMCS field ", stringify!($encoding), ".")]
                pub const $name: Self = Self::new(Width::$width, $encoding);
            )+)+
        }

        #[cfg(test)]
        const ALL: &[L2Field] = &[$($(L2Field::$name,)+)+];
    };
}

l2_fields! {
    U16 {
        GUEST_ES_SELECTOR = 0x0800,
        GUEST_CS_SELECTOR = 0x0802,
        GUEST_SS_SELECTOR = 0x0804,
        GUEST_DS_SELECTOR = 0x0806,
        GUEST_FS_SELECTOR = 0x0808,
        GUEST_GS_SELECTOR = 0x080a,
        GUEST_LDTR_SELECTOR = 0x080c,
        GUEST_TR_SELECTOR = 0x080e,
    }
    U32 {
        PRIMARY_CONTROLS = 0x4002,
        EXCEPTION_BITMAP = 0x4004,
        ENTRY_CONTROLS = 0x4012,
        ENTRY_INTERRUPTION_INFO = 0x4016,
        ENTRY_EXCEPTION_ERROR_CODE = 0x4018,
        ENTRY_INSTRUCTION_LENGTH = 0x401a,
        TPR_THRESHOLD = 0x401c,
        GUEST_ES_LIMIT = 0x4800,
        GUEST_CS_LIMIT = 0x4802,
        GUEST_SS_LIMIT = 0x4804,
        GUEST_DS_LIMIT = 0x4806,
        GUEST_FS_LIMIT = 0x4808,
        GUEST_GS_LIMIT = 0x480a,
        GUEST_LDTR_LIMIT = 0x480c,
        GUEST_TR_LIMIT = 0x480e,
        GUEST_GDTR_LIMIT = 0x4810,
        GUEST_IDTR_LIMIT = 0x4812,
        GUEST_ES_AR = 0x4814,
        GUEST_CS_AR = 0x4816,
        GUEST_SS_AR = 0x4818,
        GUEST_DS_AR = 0x481a,
        GUEST_FS_AR = 0x481c,
        GUEST_GS_AR = 0x481e,
        GUEST_LDTR_AR = 0x4820,
        GUEST_TR_AR = 0x4822,
        GUEST_INTERRUPTIBILITY = 0x4824,
        GUEST_SYSENTER_CS = 0x482a,
    }
    U64 {
        GUEST_IA32_PAT = 0x2804,
        GUEST_IA32_EFER = 0x2806,
        CR0_GUEST_HOST_MASK = 0x6000,
        CR4_GUEST_HOST_MASK = 0x6002,
        CR0_READ_SHADOW = 0x6004,
        CR4_READ_SHADOW = 0x6006,
        GUEST_CR0 = 0x6800,
        GUEST_CR3 = 0x6802,
        GUEST_CR4 = 0x6804,
        GUEST_ES_BASE = 0x6806,
        GUEST_CS_BASE = 0x6808,
        GUEST_SS_BASE = 0x680a,
        GUEST_DS_BASE = 0x680c,
        GUEST_FS_BASE = 0x680e,
        GUEST_GS_BASE = 0x6810,
        GUEST_LDTR_BASE = 0x6812,
        GUEST_TR_BASE = 0x6814,
        GUEST_GDTR_BASE = 0x6816,
        GUEST_IDTR_BASE = 0x6818,
        GUEST_DR7 = 0x681a,
        GUEST_PENDING_DEBUG = 0x6822,
        GUEST_SYSENTER_ESP = 0x6824,
        GUEST_SYSENTER_EIP = 0x6826,
    }
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

    #[test]
    fn width_agrees_with_the_vmcs_encoding() {
        for field in ALL {
            let expected = match (field.encoding >> 13) & 3 {
                0 => Width::U16,
                2 => Width::U32,
                _ => Width::U64,
            };
            assert_eq!(field.width, expected, "{field:x?}");
            assert_eq!(
                field.encoding & 1,
                0,
                "high halves are no fields: {field:x?}"
            );
        }
    }
}
