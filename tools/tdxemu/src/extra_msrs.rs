// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that a processor with TDX has and QEMU's lacks: `emu.extra_msrs=1`.
//!
//! They hold a value and do nothing else. L1 and the L2s of a virtual processor share them, as they
//! do on hardware, where the TDX module lets all of them through. [ABI TD MSR table]

use tdx_model::cpuid::CpuidResult;

/// A register and the bits it takes.
struct Row {
    index: u32,
    valid: u64,
}

const ROWS: [Row; 5] = [
    // IA32_SPEC_CTRL: IBRS, STIBP, SSBD.
    Row {
        index: 0x48,
        valid: 7,
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

/// The registers of one virtual processor.
pub struct ExtraMsrs {
    values: Option<[u64; ROWS.len()]>,
}

impl ExtraMsrs {
    /// As after a reset, where there are any.
    pub const fn new(are_there: bool) -> Self {
        Self {
            values: if are_there {
                Some([0; ROWS.len()])
            } else {
                None
            },
        }
    }

    /// Whether this is one of them.
    pub fn has(&self, index: u32) -> bool {
        self.values.is_some() && ROWS.iter().any(|row| row.index == index)
    }

    /// Reads one of them; `None` for any other register.
    pub fn read(&self, index: u32) -> Option<u64> {
        let values = self.values.as_ref()?;
        let (_, value) = ROWS
            .iter()
            .zip(values)
            .find(|(row, _)| row.index == index)?;
        Some(*value)
    }

    /// Writes one of them; `None`, and nothing is changed, for a value that it does not take and for
    /// any other register.
    pub fn write(&mut self, index: u32, new: u64) -> Option<()> {
        let values = self.values.as_mut()?;
        let (_, value) = ROWS
            .iter()
            .zip(values)
            .find(|(row, _)| row.index == index && new & !row.valid == 0)?;
        *value = new;
        Some(())
    }
}

/// Adds to what the processor answers that it has the registers. (IA32_TSX_CTRL is announced by
/// IA32_ARCH_CAPABILITIES, which is the TDX module's.)
pub const fn announce(leaf: u32, subleaf: u32, native: &mut CpuidResult) {
    const WAITPKG: u32 = 1 << 5;
    const IBRS: u32 = 1 << 26;
    const XFD: u32 = 1 << 4;
    match (leaf, subleaf) {
        (7, 0) => {
            native.ecx |= WAITPKG;
            native.edx |= IBRS;
        }
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
    fn there_are_none_unless_asked_for() {
        let mut msrs = ExtraMsrs::new(false);
        for Row { index, .. } in ROWS {
            assert!(!msrs.has(index));
            assert_eq!((msrs.read(index), msrs.write(index, 0)), (None, None));
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
        assert_eq!(
            (all.eax, all.ebx, all.ecx, all.edx),
            (0, 0, 1 << 5, 1 << 26)
        );
        announce(0xd, 1, &mut all);
        assert_eq!(all.eax, 1 << 4);
    }
}
