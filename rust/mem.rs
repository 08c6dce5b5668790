// SPDX-License-Identifier: GPL-2.0
//! Mappings: pages of a VP, and memory of the lower VTLs.
//!
//! All are MAP_SHARED, never executable, not inherited by a child, not part of a core dump.

mod fault;
mod low;
pub(crate) mod own_page;
pub(crate) mod ranges;
pub(crate) mod registered;
pub(crate) mod withdrawn;

use fault::Backing;
use kernel::mm::virt::{flags, VmaNew};
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::glue::ffi;
use crate::pure::hv_policy;
use crate::pure::mapping::{Alias, VtlPage};
use crate::vp::machine::Machine;
use crate::vp::users::UsedPages;

/// Guest-physical memory as this kernel knows it.
pub(crate) struct KernelMemory;

impl hv_policy::Memory for KernelMemory {
    fn is_lower(&self, start_gpa: u64, len_bytes: u64) -> bool {
        ranges::lower_memory().range(start_gpa, len_bytes).is_some()
    }

    fn has_system_ram(&self, start_gpa: u64, len_bytes: u64) -> bool {
        ffi::is_system_ram(start_gpa, len_bytes)
    }

    fn without_shared(&self, gpa: u64) -> u64 {
        ffi::without_shared(gpa)
    }
}

/// Maps run page, virtual APIC page or audit ring, as the offset says. `used` belongs to the VTL file.
///
/// # Errors
///
/// EINVAL for all that the ABI doesn't allow, and for CPUs without a VP.
pub(crate) fn map_vtl_page(machine: &Machine, used: &UsedPages, vma: &VmaNew) -> Result {
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
        VtlPage::Audit { cpu } => return vp(cpu)?.ring.map(vma),
    };
    if vma.end() - vma.start() != PAGE_SIZE {
        return Err(EINVAL);
    }
    page.map(vma)
}

/// Maps memory of the lower VTLs by its guest-physical address. Pages come with the first access.
///
/// # Errors
///
/// EINVAL for all that the ABI doesn't allow.
pub(crate) fn map_lower_memory(vma: &VmaNew) -> Result {
    prepare(vma)?;
    let count = ((vma.end() - vma.start()) / PAGE_SIZE) as u64; // CAST: usize has 64 bits
    let first = ffi::page_offset(vma);
    let alias = Alias::decode(first, count).ok_or(EINVAL)?;
    let backing = match alias {
        Alias::Private if registered::contains(first, count) => Backing::Pages,
        Alias::Private | Alias::Shared => Backing::Frames,
    };
    fault::install(vma, alias, backing);
    Ok(())
}

fn prepare(vma: &VmaNew) -> Result {
    if vma.flags() & flags::MAYSHARE == 0 {
        return Err(EINVAL);
    }
    vma.try_clear_mayexec()?;
    vma.set_dontexpand();
    vma.set_dontcopy();
    vma.set_dontdump();
    Ok(())
}
