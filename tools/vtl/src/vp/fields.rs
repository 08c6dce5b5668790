// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of a VP by TDG.VP.RD and TDG.VP.WR, and its translations by TDG.VP.INVGLA.

use super::Vp;
use crate::abi::Tdcall;
use crate::field::L2Field;
use crate::tdcall::{check, leaf};
use crate::{Result, Status};

impl Vp {
    /// Reads a field of the L2 VMCS [ABI TDG.VP.RD].
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn read(&self, field: L2Field) -> Result<u64> {
        self.finish_step_before(field)?;
        self.read_id(field.id(self.vm))
    }

    /// Reads a per-VP field by its id.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn read_id(&self, field_id: u64) -> Result<u64> {
        self.vtl.read_field("TDG.VP.RD", leaf::TDG_VP_RD, field_id)
    }

    /// Writes all bits of a field of the L2 VMCS [ABI TDG.VP.WR].
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn write(&self, field: L2Field, value: u64) -> Result<()> {
        self.write_masked(field, value, field.full_mask())
    }

    /// Writes those bits of a field of the L2 VMCS that are set in `mask`.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn write_masked(&self, field: L2Field, value: u64, mask: u64) -> Result<()> {
        self.finish_step_before(field)?;
        self.write_id(field.id(self.vm), value, mask)
    }

    /// Writes the bits in `mask` of a per-VP field by its id.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn write_id(&self, field_id: u64, value: u64, mask: u64) -> Result<()> {
        self.vtl
            .write_field("TDG.VP.WR", leaf::TDG_VP_WR, field_id, value, mask)
    }

    /// The state of interrupts is that after the last instruction which was stepped over.
    fn finish_step_before(&self, field: L2Field) -> Result<()> {
        match field {
            L2Field::GUEST_INTERRUPTIBILITY => self.finish_step(),
            _ => Ok(()),
        }
    }

    /// Invalidates the translations of `pages` linear pages (1 to 4096) from `linear_address`, of
    /// this VM and on this CPU only [ABI TDG.VP.INVGLA].
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn invalidate_linear(&self, linear_address: u64, pages: u16) -> Result<()> {
        const VM_SHIFT: u32 = 52;
        let operand = invgla_operand(linear_address, pages);
        let mut call = Tdcall {
            rax: leaf::TDG_VP_INVGLA,
            rcx: self.vm.index() << VM_SHIFT,
            rdx: operand,
            ..Tdcall::default()
        };
        self.vtl.tdcall(&mut call)?;
        check("TDG.VP.INVGLA", operand, Status::from_raw(call.rax))
    }
}

/// RDX of TDG.VP.INVGLA: the first page, and the number of further ones.
fn invgla_operand(linear_address: u64, pages: u16) -> u64 {
    const PAGE_MASK: u64 = 0xfff;
    (linear_address & !PAGE_MASK) | (u64::from(pages.max(1) - 1) & PAGE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_linear_addresses_is_a_page_and_how_many_more() {
        assert_eq!(invgla_operand(0x1234, 1), 0x1000);
        assert_eq!(
            invgla_operand(0xffff_8000_0000_0000, 4096),
            0xffff_8000_0000_0fff
        );
        assert_eq!(invgla_operand(0x1000, 0), 0x1000);
    }
}
