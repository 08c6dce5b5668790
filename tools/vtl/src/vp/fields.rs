// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of a VP by TDG.VP.RD and TDG.VP.WR, and its translations by TDG.VP.INVGLA.

use super::Vp;
use crate::abi::Tdcall;
use crate::field::L2Field;
use crate::tdcall::{check, leaf};
use crate::{Error, Result, Status, VapicPage};

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
    /// [`Error::Tdcall`] with the status, [`Error::PhysicalAddress`].
    pub fn write(&self, field: L2Field, value: u64) -> Result<()> {
        self.write_masked(field, value, field.full_mask())
    }

    /// Writes those bits of a field of the L2 VMCS that are set in `mask`.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status, [`Error::PhysicalAddress`].
    pub fn write_masked(&self, field: L2Field, value: u64, mask: u64) -> Result<()> {
        self.finish_step_before(field)?;
        self.write_id(field.id(self.vm), value, mask)
    }

    /// Writes the bits in `mask` of a per-VP field by its id.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status; [`Error::PhysicalAddress`] for the virtual-APIC address,
    /// which could be that of anything in this process: [`Self::new_apic_page`] sets it.
    pub fn write_id(&self, field_id: u64, value: u64, mask: u64) -> Result<()> {
        if is_virtual_apic_address(field_id) {
            return Err(Error::PhysicalAddress { field_id });
        }
        self.write_any_id(field_id, value, mask)
    }

    fn write_any_id(&self, field_id: u64, value: u64, mask: u64) -> Result<()> {
        self.vtl
            .write_field("TDG.VP.WR", leaf::TDG_VP_WR, field_id, value, mask)
    }

    /// Gives this VM a new virtual-APIC page, of zeros, in memory of this process. Not VTL0, whose
    /// page is the kernel's ([`crate::Vtl::map_vapic_page`]).
    ///
    /// The VM uses the page until it gets another, or the VTL file is closed; dropping the handle
    /// that this returns does not end that.
    ///
    /// # Errors
    /// [`Error::Map`], or [`Error::Tdcall`] with the status.
    pub fn new_apic_page(&self) -> Result<VapicPage> {
        let map_error = |errno: rustix::io::Errno| Error::Map {
            what: "a virtual-APIC page of this process",
            cpu: self.cpu(),
            errno: errno.into(),
        };
        let page = VapicPage::of_this_process().map_err(map_error)?;
        let address = page.physical_address().map_err(map_error)?;
        let field = L2Field::VIRTUAL_APIC_ADDRESS;
        self.write_any_id(field.id(self.vm), address, field.full_mask())?;
        Ok(page)
    }

    /// The state of interrupts is that after the last instruction which was stepped over.
    fn finish_step_before(&self, field: L2Field) -> Result<()> {
        match field {
            L2Field::GUEST_INTERRUPTIBILITY => self.finish_step_wholly(),
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
        self.vtl.call(&mut call)?;
        check("TDG.VP.INVGLA", operand, Status::from_raw(call.rax))
    }
}

/// Returns true for the virtual-APIC address of any VM, however its id is written.
const fn is_virtual_apic_address(field_id: u64) -> bool {
    const CODE: u64 = 0xff_fffe;
    let class = (field_id >> 56) & 0x3f;
    // CAST: widening.
    let encoding = L2Field::VIRTUAL_APIC_ADDRESS.encoding() as u64;
    matches!(class, 36 | 44 | 52) && field_id & CODE == encoding
}

/// RDX of TDG.VP.INVGLA: the first page, and the number of further ones.
fn invgla_operand(linear_address: u64, pages: u16) -> u64 {
    const PAGE_MASK: u64 = 0xfff;
    (linear_address & !PAGE_MASK) | (u64::from(pages.max(1) - 1) & PAGE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vm;

    #[test]
    fn no_safe_function_writes_a_physical_address() {
        for vm in Vm::ALL {
            let id = L2Field::VIRTUAL_APIC_ADDRESS.id(vm);
            for id in [id, id | 1, id | (1 << 63), id & !(7 << 32), id & !(1 << 50)] {
                assert!(is_virtual_apic_address(id), "{id:#x}");
            }
            assert!(!is_virtual_apic_address(L2Field::GUEST_CR3.id(vm)));
            assert!(!is_virtual_apic_address(L2Field::EOI_EXIT_BITMAP0.id(vm)));
            let word = crate::field::msr_bitmap(vm, 0x12);
            assert!(!is_virtual_apic_address(word));
        }
    }

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
