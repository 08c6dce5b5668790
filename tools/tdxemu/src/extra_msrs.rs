// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that a processor with TDX has and QEMU's lacks.
//!
//! They hold a value and do nothing else. L1 and the L2s of a virtual processor share them, as they
//! do on hardware, where the TDX module lets all of them through. [ABI TD MSR table] IA32_SPEC_CTRL
//! is in every TD; the others come with `emu.extra_msrs=1`.

use tdx_model::cpuid::CpuidResult;

/// A register and the bits it takes.
struct Row {
    index: u32,
    valid: u64,
}

/// Those that every TD has come first.
const ROWS: [Row; 5] = [
    // IA32_SPEC_CTRL: IBRS, STIBP, SSBD, IPRED_DIS_U and S, RRSBA_DIS_U and S, PSFD, BHI_DIS_S.
    Row {
        index: 0x48,
        valid: 0x4ff,
    },
    // IA32_UMWAIT_CONTROL: all but the reserved bit 1.
    Row {
        index: 0xe1,
        valid: 0xffff_fffd,
    },
    // IA32_TSX_CTRL: RTM_DISABLE, TSX_CPUID_CLEAR.
    Row {
        index: 0x122,
        valid: 3,
    },
    // IA32_XFD: AMX tile data.
    Row {
        index: 0x1c4,
        valid: 1 << 18,
    },
    // IA32_XFD_ERR: the same.
    Row {
        index: 0x1c5,
        valid: 1 << 18,
    },
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

    /// Whether this is one of them.
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

    fn place(&self, index: u32) -> Option<usize> {
        self.rows.iter().position(|row| row.index == index)
    }
}

/// Adds to what the processor answers that it has all of the registers. (IA32_SPEC_CTRL and
/// IA32_TSX_CTRL are announced by the TDX module, the latter in IA32_ARCH_CAPABILITIES.)
pub const fn announce(leaf: u32, subleaf: u32, native: &mut CpuidResult) {
    const WAITPKG: u32 = 1 << 5;
    const XFD: u32 = 1 << 4;
    match (leaf, subleaf) {
        (7, 0) => native.ecx |= WAITPKG,
        (0xd, 1) => native.eax |= XFD,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holds_what_it_takes() {
        let mut msrs = ExtraMsrs::new(true);
        for Row { index, valid } in ROWS {
            assert!(msrs.has(index));
            assert_eq!(msrs.read(index), Some(0));
            assert_eq!(msrs.write(index, valid), Some(()));
            assert_eq!(msrs.write(index, !valid), None);
        }
        for Row { index, valid } in ROWS {
            assert_eq!(msrs.read(index), Some(valid), "{index:#x}");
        }
    }

    #[test]
    fn no_other_register_is_theirs() {
        let mut msrs = ExtraMsrs::new(true);
        for index in [0, 0x49, 0x10a, 0x123, 0x1c6, 0xc000_0080, u32::MAX] {
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
    fn cpuid_names_them_and_changes_in_nothing_else() {
        let mut all = CpuidResult::default();
        for (leaf, subleaf) in [(0, 0), (1, 0), (7, 1), (0xd, 0), (0x8000_0001, 0)] {
            announce(leaf, subleaf, &mut all);
            assert_eq!(all, CpuidResult::default());
        }
        announce(7, 0, &mut all);
        assert_eq!((all.eax, all.ebx, all.ecx, all.edx), (0, 0, 1 << 5, 0));
        announce(0xd, 1, &mut all);
        assert_eq!(all.eax, 1 << 4);
    }
}
