// SPDX-License-Identifier: GPL-2.0
//! Metadata field ids (MD_FIELD_ID): how TDG.VP.RD, TDG.VP.WR and TDG.VM.RD name a field.
//!
//! An id has a class in bits 61:56 and a code in bits 23:0. The leaves used here ignore size,
//! increment, context and the non-architectural flag, so no decision may depend on them.
//! [ABI MD_FIELD_ID]

/// A metadata field id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldId(pub u64);

/// Number of an L2 VM, 1 to 3: 1 is VTL0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmIndex(u8);

impl VmIndex {
    /// VM 1, which is VTL0.
    pub const VM1: Self = Self(1);
    /// VM 2, which is VTL1.
    pub const VM2: Self = Self(2);
    /// VM 3.
    pub const VM3: Self = Self(3);

    /// Returns `None` for a number that no L2 VM has: only 1 to 3 are possible.
    pub const fn new(index: u64) -> Option<Self> {
        match index {
            1 => Some(Self::VM1),
            2 => Some(Self::VM2),
            3 => Some(Self::VM3),
            _ => None,
        }
    }

    /// The VM that the two bits of a checked RCX of TDG.VP.ENTER name.
    pub(super) const fn of_entry(bits: u8) -> Self {
        Self(bits & 3)
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Index into an array with a place for every number of two bits, so that the compiler need not
    /// check it.
    const fn slot(self) -> usize {
        (self.0 & 3) as usize // CAST: widening
    }
}

/// One value for each L2 VM, and an unused one for VM 0: then the number is the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerVm<T>([T; 4]);

impl<T> PerVm<T> {
    /// Takes the unused value, and those of VM 1, 2 and 3.
    pub const fn new(of_each: [T; 4]) -> Self {
        Self(of_each)
    }

    /// The value of a VM.
    pub const fn of(&self, vm: VmIndex) -> &T {
        &self.0[vm.slot()]
    }

    /// The value of a VM, for writing.
    pub const fn of_mut(&mut self, vm: VmIndex) -> &mut T {
        &mut self.0[vm.slot()]
    }
}

/// The class of a per-VP field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VpClass {
    /// Management: VCPU index, L2 controls, TSC deadlines.
    Management,
    /// VMCS of an L2 VM.
    L2Vmcs(VmIndex),
    /// MSR bitmaps of an L2 VM, including their shadows.
    L2MsrBitmaps(VmIndex),
    /// Everything else.
    Other,
}

/// Bits that are zero in the id of a single element: the reserved ones, "last element" and "last
/// field".
const NOT_SINGLE: u64 =
    (0xff << 24) | (0xf << 34) | (0x1ff << 38) | (0x7 << 47) | (1 << 55) | (1 << 62);
const SIZE_2: u64 = 1 << 32;
const SIZE_4: u64 = 2 << 32;
const SIZE_8: u64 = 3 << 32;
const CONTEXT_VP: u64 = 2 << 52;

impl FieldId {
    /// NUM_L2_VMS of the TD.
    pub const NUM_L2_VMS: Self = Self(0x9010_0001_0000_0005);

    /// ATTRIBUTES of the TD.
    pub const ATTRIBUTES: Self = Self(0x1110_0003_0000_0000);
    /// XFAM of the TD: the extended state that it may use. Bits as in XCR0 and IA32_XSS.
    pub const XFAM: Self = Self(0x1110_0003_0000_0001);
    /// TD_CTLS of the TD.
    pub const TD_CTLS: Self = Self(0x1110_0003_0000_0017);
    /// TSC_FREQUENCY of the TD, in units of 25 MHz.
    pub const TSC_FREQUENCY: Self = Self(0x1110_0001_0000_000c);
    /// TDX_FEATURES0 of the TDX module.
    pub const TDX_FEATURES0: Self = Self(0x0a00_0003_0000_0008);

    /// A field of the VMCS of an L2 VM, by its encoding.
    pub const fn l2_vmcs(vm: VmIndex, code: u64) -> Self {
        // Bits 14:13 of an encoding are the width: 16, 64, 32 bits, natural.
        let size = match (code >> 13) & 3 {
            0 => SIZE_2,
            2 => SIZE_4,
            _ => SIZE_8,
        };
        Self(((28 + 8 * vm.get() as u64) << 56) | CONTEXT_VP | size | code)
    }

    /// A word of the MSR bitmaps of an L2 VM.
    pub const fn l2_msr_bitmap(vm: VmIndex, word: u64) -> Self {
        Self(((29 + 8 * vm.get() as u64) << 56) | CONTEXT_VP | SIZE_8 | word)
    }

    /// Virtual-APIC address (VMCS encoding 2012) of an L2 VM.
    pub const fn virtual_apic_address(vm: VmIndex) -> Self {
        Self::l2_vmcs(vm, vmcs::VIRTUAL_APIC_ADDRESS)
    }

    /// Guest interruptibility state (VMCS encoding 4824) of an L2 VM.
    pub const fn interruptibility(vm: VmIndex) -> Self {
        Self::l2_vmcs(vm, vmcs::INTERRUPTIBILITY)
    }

    /// TSC_DEADLINE of an L2 VM.
    pub const fn tsc_deadline(vm: VmIndex) -> Self {
        const BASE: u64 = (0xa0 << 56) | CONTEXT_VP | SIZE_8 | management::TSC_DEADLINE;
        Self(BASE + vm.get() as u64)
    }

    /// Returns true if both ids name the same field of the TD; ignored bits are not compared.
    pub const fn is_same_of_td(self, other: Self) -> bool {
        const CLASS: u64 = 0x3f << 56;
        self.is_single() && self.0 & CLASS == other.0 & CLASS && self.code() == other.code()
    }

    /// Code of the field within its class.
    pub const fn code(self) -> u64 {
        self.0 & 0xff_ffff
    }

    /// Returns true if the id names a single element and no reserved bit is set.
    pub const fn is_single(self) -> bool {
        self.0 & NOT_SINGLE == 0
    }

    /// Class of a per-VP field.
    pub const fn vp_class(self) -> VpClass {
        match (self.0 >> 56) & 0x3f {
            32 => VpClass::Management,
            36 => VpClass::L2Vmcs(VmIndex::VM1),
            44 => VpClass::L2Vmcs(VmIndex::VM2),
            52 => VpClass::L2Vmcs(VmIndex::VM3),
            37 | 38 => VpClass::L2MsrBitmaps(VmIndex::VM1),
            45 | 46 => VpClass::L2MsrBitmaps(VmIndex::VM2),
            53 | 54 => VpClass::L2MsrBitmaps(VmIndex::VM3),
            _ => VpClass::Other,
        }
    }
}

/// Codes within class 32: an array with one element per VM, from VM 0.
pub mod management {
    /// L2_CTLS.
    pub const L2_CTLS: u64 = 0x50;
    /// TSC_DEADLINE.
    pub const TSC_DEADLINE: u64 = 0x58;
}

/// VMCS encodings that the code below decides on. [SDM3 B]
pub mod vmcs {
    /// Virtual-APIC address.
    pub const VIRTUAL_APIC_ADDRESS: u64 = 0x2012;
    /// Primary processor-based execution controls.
    pub const PRIMARY_CONTROLS: u64 = 0x4002;
    /// DR7.
    pub const GUEST_DR7: u64 = 0x681a;
    /// Guest interruptibility state.
    pub const INTERRUPTIBILITY: u64 = 0x4824;
    /// Of it: blocking by STI and by MOV SS.
    pub const SHADOW: u64 = 0x3;
    /// CR3-target count.
    pub const CR3_TARGET_COUNT: u64 = 0x400a;
    /// VM-entry interruption information.
    pub const ENTRY_EVENT: u64 = 0x4016;
    /// VM-entry exception error code.
    pub const ENTRY_ERROR_CODE: u64 = 0x4018;
    /// VM-entry instruction length.
    pub const ENTRY_INSTRUCTION_LENGTH: u64 = 0x401a;
    /// TPR threshold.
    pub const TPR_THRESHOLD: u64 = 0x401c;
    /// Secondary processor-based execution controls.
    pub const SECONDARY_CONTROLS: u64 = 0x401e;
    /// Of them: virtual-interrupt delivery.
    pub const INTERRUPT_DELIVERY: u64 = 1 << 9;
    /// CR0.
    pub const GUEST_CR0: u64 = 0x6800;
    /// Of it: protection enable.
    pub const CR0_PE: u64 = 1 << 0;
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_field),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_specification() {
        let id = |vm| FieldId::virtual_apic_address(VmIndex::new(vm).unwrap()).0;
        assert_eq!(id(1), 0x2420_0003_0000_2012);
        assert_eq!(id(2), 0x2c20_0003_0000_2012);
        assert_eq!(id(3), 0x3420_0003_0000_2012);
        let vm2 = VmIndex::new(2).unwrap();
        assert_eq!(FieldId::tsc_deadline(VmIndex::VM1).0, 0xa020_0003_0000_0059);
        assert_eq!(FieldId::tsc_deadline(vm2).0, 0xa020_0003_0000_005a);
        assert_eq!(FieldId::interruptibility(vm2).0, 0x2c20_0002_0000_4824);
        assert_eq!(FieldId::l2_vmcs(vm2, 0x6800).0, 0x2c20_0003_0000_6800);
        assert_eq!(FieldId::l2_vmcs(vm2, 0x0802).0, 0x2c20_0001_0000_0802);
        assert_eq!(FieldId::l2_msr_bitmap(vm2, 511).0, 0x2d20_0003_0000_01ff);
    }

    #[test]
    fn ignored_bits_do_not_change_what_is_named() {
        let plain = FieldId::virtual_apic_address(VmIndex::VM1);
        for ignored in [1 << 63, 1 << 52, 1 << 50, 1 << 51, 1 << 32] {
            let other = FieldId(plain.0 ^ ignored);
            assert!(other.is_single());
            assert_eq!(other.vp_class(), VpClass::L2Vmcs(VmIndex::VM1));
            assert_eq!(other.code(), vmcs::VIRTUAL_APIC_ADDRESS);
        }
    }

    #[test]
    fn a_field_of_the_td_is_named_by_class_and_code() {
        let field = FieldId::TD_CTLS;
        for ignored in [0, 1 << 63, 1 << 52, 1 << 50, 1 << 51, 1 << 32] {
            assert!(FieldId(field.0 ^ ignored).is_same_of_td(field));
        }
        for other in [1, 1 << 23, 1 << 38, 1 << 56, 1 << 61] {
            assert!(!FieldId(field.0 ^ other).is_same_of_td(field));
        }
    }

    #[test]
    fn sequences_and_reserved_bits_are_seen() {
        let plain = FieldId::virtual_apic_address(VmIndex::VM1);
        for bit in (24..32).chain(34..50).chain([55, 62]) {
            assert_eq!(
                (bit, FieldId(plain.0 | (1 << bit)).is_single()),
                (bit, false)
            );
        }
        assert!(plain.is_single());
    }

    #[test]
    fn there_are_three_l2_vms_at_most() {
        assert_eq!(VmIndex::new(0), None);
        assert_eq!(VmIndex::new(4), None);
        assert_eq!(VmIndex::new(0x101), None);
        assert_eq!(VmIndex::new(3).map(VmIndex::get), Some(3));
    }
}
