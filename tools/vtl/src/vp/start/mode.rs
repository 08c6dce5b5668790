// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Modes that a guest can start in, and the values that make one.

/// The processor mode a guest starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 16-bit real mode; all segments have their base at `segment_base`.
    Real16 {
        /// Guest-physical address of offset 0.
        segment_base: u64,
    },
    /// 32-bit protected mode, flat segments, no paging.
    Protected32,
    /// 64-bit mode with the page table at `cr3`.
    Long64 {
        /// Guest-physical address of the top-level page table.
        cr3: u64,
    },
}

const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
pub(super) const CR4_MCE: u64 = 1 << 6;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
pub(super) const CR4_VMXE: u64 = 1 << 13;
const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
pub(super) const ENTRY_IA32E_MODE_GUEST: u64 = 1 << 9;

/// CR0 bits the guest may change without asking. The mode bits PE and PG are
/// not among them: a change of mode also changes EFER.LMA and the entry
/// controls, which this side would have to follow.
pub(super) const CR0_GUEST_OWNED: u64 = CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_WP | CR0_AM;

/// The values of one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModeValues {
    pub(super) cr0: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    pub(super) efer: u64,
    pub(super) entry_controls: u64,
    pub(super) code: Segment,
    pub(super) data: Segment,
}

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) selector: u64,
    pub(super) base: u64,
    pub(super) limit: u64,
    pub(super) access_rights: u64,
}

/// Selector of the code segment in a table the caller may provide.
pub const CODE_SELECTOR: u64 = 0x08;
/// Selector of the data segments.
pub const DATA_SELECTOR: u64 = 0x10;
/// Selector of the task-state segment.
pub const TASK_SELECTOR: u64 = 0x18;

/// Present, ring 0, code, readable, accessed.
const AR_CODE: u64 = 0x9b;
/// Present, ring 0, data, writable, accessed.
const AR_DATA: u64 = 0x93;
/// Present, busy task-state segment (32-bit, or 64-bit in long mode).
pub(super) const AR_BUSY_TSS: u64 = 0x8b;
/// Granularity 4 KiB.
const AR_G: u64 = 1 << 15;
/// Default operand size 32 bits.
const AR_DB: u64 = 1 << 14;
/// 64-bit code.
const AR_L: u64 = 1 << 13;
pub(super) const AR_UNUSABLE: u64 = 1 << 16;
const FLAT_LIMIT: u64 = 0xffff_ffff;

impl Mode {
    pub(super) fn values(self) -> ModeValues {
        let flat = |selector, access_rights| Segment {
            selector,
            base: 0,
            limit: FLAT_LIMIT,
            access_rights: access_rights | AR_G,
        };
        let protected = ModeValues {
            cr0: CR0_NE | CR0_ET | CR0_PE,
            cr3: 0,
            cr4: CR4_MCE | CR4_VMXE,
            efer: EFER_NXE,
            entry_controls: 0,
            code: flat(CODE_SELECTOR, AR_CODE | AR_DB),
            data: flat(DATA_SELECTOR, AR_DATA | AR_DB),
        };
        match self {
            Self::Real16 { segment_base: base } => ModeValues {
                cr0: protected.cr0 & !CR0_PE,
                code: Segment {
                    selector: 0,
                    base,
                    limit: 0xffff,
                    access_rights: AR_CODE,
                },
                data: Segment {
                    selector: 0,
                    base,
                    limit: 0xffff,
                    access_rights: AR_DATA,
                },
                ..protected
            },
            Self::Protected32 => protected,
            Self::Long64 { cr3 } => ModeValues {
                cr0: protected.cr0 | CR0_PG,
                cr3,
                cr4: protected.cr4 | CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
                efer: EFER_NXE | EFER_SCE | EFER_LME | EFER_LMA,
                entry_controls: ENTRY_IA32E_MODE_GUEST,
                code: flat(CODE_SELECTOR, AR_CODE | AR_L),
                ..protected
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 3] = [
        Mode::Real16 {
            segment_base: 0x8000_0000,
        },
        Mode::Protected32,
        Mode::Long64 { cr3: 0x8000_1000 },
    ];

    #[test]
    fn fixed_bits_of_tdx_are_set_in_every_mode() {
        for mode in MODES {
            let values = mode.values();
            assert_eq!(values.cr0 & CR0_NE, CR0_NE, "{mode:?}");
            assert_eq!(
                values.cr4 & (CR4_MCE | CR4_VMXE),
                CR4_MCE | CR4_VMXE,
                "{mode:?}"
            );
            assert_eq!(values.efer & EFER_NXE, EFER_NXE, "{mode:?}");
        }
    }

    #[test]
    fn long_mode_bits_agree_with_each_other() {
        for mode in MODES {
            let values = mode.values();
            let is_paging = values.cr0 & CR0_PG != 0;
            let is_long = values.efer & EFER_LME != 0 && is_paging;
            assert_eq!(values.efer & EFER_LMA != 0, is_long, "{mode:?}");
            assert_eq!(
                values.entry_controls == ENTRY_IA32E_MODE_GUEST,
                is_long,
                "{mode:?}"
            );
            assert_eq!(values.code.access_rights & AR_L != 0, is_long, "{mode:?}");
            // L and D of a code segment exclude each other.
            assert_ne!(
                values.code.access_rights & (AR_L | AR_DB),
                AR_L | AR_DB,
                "{mode:?}"
            );
        }
    }

    #[test]
    fn granularity_agrees_with_the_limit() {
        for mode in MODES {
            let values = mode.values();
            for segment in [values.code, values.data] {
                let is_large = segment.limit > 0xf_ffff;
                assert_eq!(segment.access_rights & AR_G != 0, is_large, "{mode:?}");
            }
        }
    }
}
