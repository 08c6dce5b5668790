// SPDX-License-Identifier: GPL-2.0
//! Mappings of a VTL file: the pages of a VP that userspace shares with the kernel.

use kernel::mm::virt::VmaNew;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::glue::ffi;
use crate::mem::prepare;
use crate::pure::mapping::VtlPage;
use crate::vp::machine::Machine;
use crate::vp::users::UsedPages;

/// Maps run page, switch page, virtual-APIC page or a ring, depending on the offset. `used` belongs
/// to the VTL file.
///
/// # Errors
///
/// EINVAL if the ABI doesn't allow the mapping, for CPUs without a VP, and without attestation for its
/// rings.
pub(crate) fn map(machine: &Machine, used: &UsedPages, vma: &VmaNew) -> Result {
    prepare(vma)?;
    vma.set_io();
    let vp = |cpu| machine.vp(cpu).ok_or(EINVAL);
    let page = match VtlPage::decode(ffi::page_offset(vma)).ok_or(EINVAL)? {
        VtlPage::Run { cpu } => {
            let page = vp(cpu)?.run_page.page();
            used.note(cpu);
            page
        }
        VtlPage::Vapic { cpu } => &vp(cpu)?.vapic,
        VtlPage::Switch { cpu } => vp(cpu)?.switch_page.page(),
        VtlPage::Audit { cpu } => return vp(cpu)?.ring.map(vma),
        VtlPage::Leaves { cpu } => return vp(cpu)?.sealer.as_ref().ok_or(EINVAL)?.map(vma),
        VtlPage::Control => return machine.control().ok_or(EINVAL)?.map(vma),
        VtlPage::ControlLeaves => return machine.control().ok_or(EINVAL)?.map_leaves(vma),
    };
    if vma.end() - vma.start() != PAGE_SIZE {
        return Err(EINVAL);
    }
    page.map(vma)
}
