// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Start states of a virtual processor: which L2 VMCS fields make it begin in
//! real mode, in flat 32-bit protected mode, or in 64-bit mode.
//!
//! Every field a mode depends on is written, whatever an earlier guest left:
//! the L2 VMCS outlives its user. Extends [`crate::vp::Vp`].

use crate::Result;
use crate::field::{self, L2Field};
use crate::vp::Vp;

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
const CR4_MCE: u64 = 1 << 6;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_VMXE: u64 = 1 << 13;
const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const ENTRY_IA32E_MODE_GUEST: u64 = 1 << 9;

/// CR0 bits the guest may change without asking. The mode bits PE and PG are
/// not among them: a change of mode also changes EFER.LMA and the entry
/// controls, which this side would have to follow.
const CR0_GUEST_OWNED: u64 = CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_WP | CR0_AM;

/// The values of one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModeValues {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    entry_controls: u64,
    code: Segment,
    data: Segment,
}

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    selector: u64,
    base: u64,
    limit: u64,
    access_rights: u64,
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
const AR_BUSY_TSS: u64 = 0x8b;
/// Granularity 4 KiB.
const AR_G: u64 = 1 << 15;
/// Default operand size 32 bits.
const AR_DB: u64 = 1 << 14;
/// 64-bit code.
const AR_L: u64 = 1 << 13;
const AR_UNUSABLE: u64 = 1 << 16;
const FLAT_LIMIT: u64 = 0xffff_ffff;

impl Mode {
    fn values(self) -> ModeValues {
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

impl Vp {
    /// Puts the processor into its start state: registers zero, RFLAGS 2,
    /// `rip`, interrupts off, and the L2 VMCS as `mode` needs it.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] for the first field the TDX module refused.
    pub fn reset(&self, mode: Mode, rip: u64) -> Result<()> {
        self.reset_page();
        self.reset_extended_state()?;
        self.page().set_rip(rip);
        let values = mode.values();
        self.reset_controls(&values)?;
        self.reset_segments(&values)
    }

    fn reset_controls(&self, values: &ModeValues) -> Result<()> {
        const WINDOW_EXITING: u64 = (1 << 2) | (1 << 22);
        const EXCEPTIONS_L1_MAY_CHOOSE: u64 = 0xfffb_ffff;
        const DR7_FIXED: u64 = 0x400;
        const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;
        const NO_DEADLINE: u64 = u64::MAX;

        // Read shadow and mask go together: with the first write of a mask the
        // shadow counts. The guest sees neither VMXE nor MCE, which TDX forces.
        self.write(L2Field::CR0_READ_SHADOW, values.cr0)?;
        self.write(L2Field::CR0_GUEST_HOST_MASK, !CR0_GUEST_OWNED)?;
        self.write(L2Field::CR4_READ_SHADOW, values.cr4 & !(CR4_MCE | CR4_VMXE))?;
        self.write(L2Field::CR4_GUEST_HOST_MASK, u64::MAX)?;
        self.write(L2Field::GUEST_CR0, values.cr0)?;
        self.write(L2Field::GUEST_CR3, values.cr3)?;
        self.write(L2Field::GUEST_CR4, values.cr4)?;
        self.write(L2Field::GUEST_IA32_EFER, values.efer)?;
        self.write_masked(
            L2Field::ENTRY_CONTROLS,
            values.entry_controls,
            ENTRY_IA32E_MODE_GUEST,
        )?;
        self.write_masked(L2Field::PRIMARY_CONTROLS, 0, WINDOW_EXITING)?;
        self.write_masked(L2Field::EXCEPTION_BITMAP, 0, EXCEPTIONS_L1_MAY_CHOOSE)?;
        self.write(L2Field::ENTRY_INTERRUPTION_INFO, 0)?;
        self.write(L2Field::TPR_THRESHOLD, 0)?;
        self.write(L2Field::GUEST_INTERRUPTIBILITY, 0)?;
        self.write(L2Field::GUEST_PENDING_DEBUG, 0)?;
        self.write(L2Field::GUEST_DR7, DR7_FIXED)?;
        self.write(L2Field::GUEST_IA32_PAT, PAT_AT_RESET)?;
        self.write(L2Field::GUEST_SYSENTER_CS, 0)?;
        self.write(L2Field::GUEST_SYSENTER_ESP, 0)?;
        self.write(L2Field::GUEST_SYSENTER_EIP, 0)?;
        self.write_id(field::l2_ctls(self.vm()), 0, L2_CTLS_MASK)?;
        self.write_id(field::tsc_deadline(self.vm()), NO_DEADLINE, u64::MAX)
    }

    fn reset_segments(&self, values: &ModeValues) -> Result<()> {
        let task = Segment {
            selector: TASK_SELECTOR,
            base: 0,
            limit: 0x67,
            access_rights: AR_BUSY_TSS,
        };
        let none = Segment {
            selector: 0,
            base: 0,
            limit: 0xffff,
            access_rights: AR_UNUSABLE,
        };
        self.write_segment(&CS, values.code)?;
        for fields in [&DS, &ES, &FS, &GS, &SS] {
            self.write_segment(fields, values.data)?;
        }
        self.write_segment(&LDTR, none)?;
        self.write_segment(&TR, task)?;
        self.write(L2Field::GUEST_GDTR_BASE, 0)?;
        self.write(L2Field::GUEST_GDTR_LIMIT, 0)?;
        self.write(L2Field::GUEST_IDTR_BASE, 0)?;
        self.write(L2Field::GUEST_IDTR_LIMIT, 0)
    }

    fn write_segment(&self, fields: &[L2Field; 4], segment: Segment) -> Result<()> {
        let Segment {
            selector,
            base,
            limit,
            access_rights,
        } = segment;
        for (field, value) in fields.iter().zip([selector, base, limit, access_rights]) {
            self.write(*field, value)?;
        }
        Ok(())
    }
}

/// The bits of L2_CTLS a paravisor may write.
const L2_CTLS_MASK: u64 = 7;

macro_rules! segment_fields {
    ($($name:ident: $selector:ident $base:ident $limit:ident $ar:ident,)+) => {
        $(const $name: [L2Field; 4] =
            [L2Field::$selector, L2Field::$base, L2Field::$limit, L2Field::$ar];)+
    };
}

segment_fields! {
    CS: GUEST_CS_SELECTOR GUEST_CS_BASE GUEST_CS_LIMIT GUEST_CS_AR,
    DS: GUEST_DS_SELECTOR GUEST_DS_BASE GUEST_DS_LIMIT GUEST_DS_AR,
    ES: GUEST_ES_SELECTOR GUEST_ES_BASE GUEST_ES_LIMIT GUEST_ES_AR,
    FS: GUEST_FS_SELECTOR GUEST_FS_BASE GUEST_FS_LIMIT GUEST_FS_AR,
    GS: GUEST_GS_SELECTOR GUEST_GS_BASE GUEST_GS_LIMIT GUEST_GS_AR,
    SS: GUEST_SS_SELECTOR GUEST_SS_BASE GUEST_SS_LIMIT GUEST_SS_AR,
    LDTR: GUEST_LDTR_SELECTOR GUEST_LDTR_BASE GUEST_LDTR_LIMIT GUEST_LDTR_AR,
    TR: GUEST_TR_SELECTOR GUEST_TR_BASE GUEST_TR_LIMIT GUEST_TR_AR,
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
