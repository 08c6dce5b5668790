// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that a processor with TDX has and QEMU's lacks.
//!
//! They hold a value and do nothing else, except IA32_XFD (`xfd.rs`). L1 and the L2s of a virtual
//! processor share them, as they do on hardware, where the TDX module lets all of them through; two
//! are in the VMCS of each L2 instead. [ABI TD MSR table] IA32_SPEC_CTRL is in every TD; the others
//! come with `emu.extra_msrs=1`.

use tdx_model::Field;
use tdx_model::cpuid::CpuidResult;

/// IA32_XFD.
pub const XFD: u32 = 0x1c4;
/// IA32_XSS.
pub const XSS: u32 = 0xda0;
/// AVX, which IA32_XFD can hide here: QEMU's processor has no AMX.
pub const XFD_AVX: u64 = 1 << 2;
/// IA32_XSS: CET_U and CET_S.
pub const XSS_CET: u64 = (1 << 11) | (1 << 12);

/// A register and the bits it takes.
struct Row {
    index: u32,
    valid: u64,
    /// The field of an L2's VMCS that holds its own value.
    field: Option<Field>,
}

const fn shared(index: u32, valid: u64) -> Row {
    Row {
        index,
        valid,
        field: None,
    }
}

const fn switched(index: u32, valid: u64, field: Field) -> Row {
    Row {
        index,
        valid,
        field: Some(field),
    }
}

/// U_CET and S_CET: all but the reserved bits 9 to 6.
const CET_VALID: u64 = !0x3c0;
/// Shadow-stack pointers: multiples of 4.
const SSP_VALID: u64 = !3;

/// Those that every TD has come first.
const ROWS: [Row; 13] = [
    // IA32_SPEC_CTRL: IBRS, STIBP, SSBD, IPRED_DIS_U and S, RRSBA_DIS_U and S, PSFD, BHI_DIS_S.
    shared(0x48, 0x4ff),
    // IA32_UMWAIT_CONTROL: all but the reserved bit 1.
    shared(0xe1, 0xffff_fffd),
    // IA32_TSX_CTRL: RTM_DISABLE, TSX_CPUID_CLEAR.
    shared(0x122, 3),
    // IA32_XFD and IA32_XFD_ERR: AMX tile data, and the component that replaces it here.
    shared(XFD, (1 << 18) | XFD_AVX),
    shared(0x1c5, (1 << 18) | XFD_AVX),
    // IA32_U_CET, S_CET, PL0_SSP to PL3_SSP, INTERRUPT_SSP_TABLE_ADDR.
    shared(0x6a0, CET_VALID),
    switched(0x6a2, CET_VALID, Field::GuestSCet),
    shared(0x6a4, SSP_VALID),
    shared(0x6a5, SSP_VALID),
    shared(0x6a6, SSP_VALID),
    shared(0x6a7, SSP_VALID),
    switched(0x6a8, u64::MAX, Field::GuestInterruptSspTable),
    shared(XSS, XSS_CET),
];

const NUM_IN_EVERY_TD: usize = 1;

/// The registers of one virtual processor.
pub struct ExtraMsrs {
    rows: &'static [Row],
    values: [u64; ROWS.len()],
}

impl ExtraMsrs {
    /// As after a reset: all of them, or those of every TD.
    pub const fn new(are_all_there: bool) -> Self {
        let (in_every_td, _) = ROWS.split_at(NUM_IN_EVERY_TD);
        Self {
            rows: if are_all_there { &ROWS } else { in_every_td },
            values: [0; ROWS.len()],
        }
    }

    /// Returns true if this is one of them.
    pub fn has(&self, index: u32) -> bool {
        self.place(index).is_some()
    }

    /// Reads one of them; `None` for any other register.
    pub fn read(&self, index: u32) -> Option<u64> {
        Some(self.values[self.place(index)?])
    }

    /// Writes one of them; `None`, and nothing is changed, for a value that it does not take and for
    /// any other register.
    pub fn write(&mut self, index: u32, value: u64) -> Option<()> {
        let place = self.place(index)?;
        if value & !self.rows[place].valid != 0 {
            return None;
        }
        self.values[place] = value;
        Some(())
    }

    /// The field that holds an L2's value of one of them, and true if the L2 may set it to `value`.
    pub fn field(&self, index: u32, value: u64) -> Option<(Field, bool)> {
        let row = &self.rows[self.place(index)?];
        Some((row.field?, value & !row.valid == 0))
    }

    fn place(&self, index: u32) -> Option<usize> {
        self.rows.iter().position(|row| row.index == index)
    }
}

/// Adds to what the processor answers that it has the registers. (IA32_SPEC_CTRL and IA32_TSX_CTRL
/// are announced by the TDX module, the latter in IA32_ARCH_CAPABILITIES.) Shadow stacks and
/// indirect-branch tracking are not: Linux would set CR4.CET.
pub const fn announce(leaf: u32, subleaf: u32, native: &mut CpuidResult) {
    const WAITPKG: u32 = 1 << 5;
    const XSAVES: u32 = 1 << 3;
    const XFD: u32 = 1 << 4;
    // Of a component: it is one of IA32_XSS; IA32_XFD can hide it.
    const SUPERVISOR: u32 = 1;
    const HIDES: u32 = 1 << 2;
    match (leaf, subleaf) {
        (7, 0) => native.ecx |= WAITPKG,
        (0xd, 1) => {
            native.eax |= XFD | XSAVES;
            native.ecx |= XSS_CET as u32; // CAST: below bit 32
        }
        (0xd, 2) => native.ecx |= HIDES,
        (0xd, 11) => (native.eax, native.ecx) = (16, SUPERVISOR),
        (0xd, 12) => (native.eax, native.ecx) = (24, SUPERVISOR),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holds_what_it_takes() {
        let mut msrs = ExtraMsrs::new(true);
        for Row { index, valid, .. } in ROWS {
            assert!(msrs.has(index));
            assert_eq!(msrs.read(index), Some(0));
            assert_eq!(msrs.write(index, valid), Some(()));
            if valid != u64::MAX {
                assert_eq!(msrs.write(index, !valid), None);
            }
        }
        for Row { index, valid, .. } in ROWS {
            assert_eq!(msrs.read(index), Some(valid), "{index:#x}");
        }
    }

    #[test]
    fn no_other_register_is_theirs() {
        let mut msrs = ExtraMsrs::new(true);
        for index in [
            0,
            0x49,
            0x10a,
            0x123,
            0x1c6,
            0x6a1,
            0x6a3,
            0x6a9,
            0xc000_0080,
            u32::MAX,
        ] {
            assert!(!msrs.has(index));
            assert_eq!((msrs.read(index), msrs.write(index, 0)), (None, None));
        }
    }

    #[test]
    fn every_td_has_spec_ctrl_and_the_others_are_for_asking() {
        let mut msrs = ExtraMsrs::new(false);
        assert_eq!(msrs.write(0x48, 1 << 10), Some(()));
        assert_eq!(msrs.read(0x48), Some(1 << 10));
        for Row { index, .. } in &ROWS[1..] {
            assert!(!msrs.has(*index));
            assert_eq!((msrs.read(*index), msrs.write(*index, 0)), (None, None));
        }
    }

    #[test]
    fn two_of_them_are_fields_of_an_l2() {
        let msrs = ExtraMsrs::new(true);
        assert_eq!(msrs.field(0x6a2, 3), Some((Field::GuestSCet, true)));
        assert_eq!(msrs.field(0x6a2, 0x40), Some((Field::GuestSCet, false)));
        let table = Field::GuestInterruptSspTable;
        assert_eq!(msrs.field(0x6a8, u64::MAX), Some((table, true)));
        let fields = ROWS.iter().filter(|row| msrs.field(row.index, 0).is_some());
        assert_eq!(fields.count(), 2);
        assert_eq!(ExtraMsrs::new(false).field(0x6a2, 3), None);
    }

    #[test]
    fn cpuid_names_them_and_changes_in_nothing_else() {
        let mut all = CpuidResult::default();
        for (leaf, subleaf) in [(0, 0), (1, 0), (7, 1), (0xd, 0), (0x8000_0001, 0)] {
            announce(leaf, subleaf, &mut all);
            assert_eq!(all, CpuidResult::default());
        }
        announce(7, 0, &mut all);
        assert_eq!((all.eax, all.ebx, all.ecx, all.edx), (0, 0, 1 << 5, 0));
        announce(0xd, 1, &mut all);
        assert_eq!((all.eax, all.ecx), ((1 << 4) | (1 << 3), 0x1820));
    }
}
