// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Start states of a virtual processor: the L2 VMCS fields with which it begins in real mode, in
//! flat 32-bit protected mode, or in 64-bit mode.
//!
//! Every field on which a mode depends is written, since an earlier guest may have changed it: the
//! L2 VMCS outlives its user. The values are in `mode`.

mod mode;

use super::Vp;
use crate::Result;
use crate::field::{self, L2Field};
use crate::run_page::Registers;

use mode::{
    AR_BUSY_TSS, AR_UNUSABLE, CR0_GUEST_OWNED, CR4_MCE, CR4_VMXE, ENTRY_IA32E_MODE_GUEST,
    ModeValues, Segment,
};
pub use mode::{CODE_SELECTOR, DATA_SELECTOR, Mode, TASK_SELECTOR};

impl Vp {
    /// Puts the virtual processor into the start state of a guest: registers zero, RFLAGS 2, `rip`,
    /// interrupts disabled, and the L2 VMCS as `mode` requires. RDPMC exits. Also resets what all
    /// lower VTLs share: extended state, deadline, halt, offload. A cancellation stays, because
    /// whoever made it will not repeat it; [`crate::run_page::Canceller::clear`] ends one that
    /// concerned an earlier guest.
    ///
    /// If another VM runs on this virtual processor, use [`Self::start`], which does not change
    /// shared state.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] for the first field that the TDX module refused.
    pub fn reset(&self, mode: Mode, rip: u64) -> Result<()> {
        self.page.reset();
        self.reset_extended_state()?;
        self.start(mode, rip)
    }

    /// Puts this VM into its start state without changing what other VMs share: sets the registers
    /// in the run page, and the L2 VMCS.
    ///
    /// The registers of the VM that ran last are lost, unless they were saved
    /// ([`crate::RunPage::registers`]).
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] for the first field that the TDX module refused.
    pub fn start(&self, mode: Mode, rip: u64) -> Result<()> {
        self.is_stepped.set(false);
        // Paging changes, and by no instruction that would make the processor forget translations.
        self.has_run_in.set(None);
        self.page.set_registers(&Registers {
            rip,
            ..Registers::default()
        });
        let values = mode.values();
        self.reset_controls(&values)?;
        self.reset_segments(&values)
    }

    fn reset_controls(&self, values: &ModeValues) -> Result<()> {
        const WINDOW_EXITING: u64 = (1 << 2) | (1 << 22);
        /// The counters are VTL2's own.
        const RDPMC_EXITING: u64 = 1 << 11;
        const EXCEPTIONS_L1_MAY_CHOOSE: u64 = 0xfffb_ffff;
        const DR7_FIXED: u64 = 0x400;
        const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;
        const NO_DEADLINE: u64 = u64::MAX;

        // Read shadow and mask belong together: as soon as a mask is written, the shadow takes
        // effect. The guest sees neither VMXE nor MCE, which TDX forces.
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
        self.write_masked(
            L2Field::PRIMARY_CONTROLS,
            RDPMC_EXITING,
            WINDOW_EXITING | RDPMC_EXITING,
        )?;
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
        self.write_id(field::l2_ctls(self.vm()), 0, field::L2_CTLS_MASK)?;
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
