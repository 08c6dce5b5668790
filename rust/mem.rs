// SPDX-License-Identifier: GPL-2.0
//! Memory of the lower VTLs: which memory that is, how it is mapped, and who uses it.
//!
//! Every mapping is MAP_SHARED, not executable, not inherited on fork(), and not part of a core
//! dump.

mod fault;
mod low;
pub(crate) mod own_page;
pub(crate) mod ranges;
pub(crate) mod registered;
pub(crate) mod withdrawn;

pub(crate) use fault::opened;

use fault::Backing;
use kernel::mm::virt::{flags, VmaNew};
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::glue::ffi;
use crate::pure::hv_policy;
use crate::pure::lower::LowerRange;
use crate::pure::mapping::Alias;

/// What this kernel knows about guest-physical memory.
pub(crate) struct KernelMemory;

impl hv_policy::MemoryFacts for KernelMemory {
    fn lower(&self, start_gpa: u64, len_bytes: u64) -> Option<LowerRange> {
        ranges::lower_memory().range(start_gpa, len_bytes)
    }

    fn has_system_ram(&self, start_gpa: u64, len_bytes: u64) -> bool {
        ffi::is_system_ram(start_gpa, len_bytes)
    }

    fn without_shared(&self, gpa: u64) -> u64 {
        ffi::without_shared(gpa)
    }
}

/// Maps memory of the lower VTLs by its guest-physical address. Page faults fill in the pages.
///
/// # Errors
///
/// EINVAL if the ABI doesn't allow the mapping.
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

/// Sets up what all mappings of this module have in common.
///
/// # Errors
///
/// EINVAL for a private or an executable mapping.
pub(crate) fn prepare(vma: &VmaNew) -> Result {
    if vma.flags() & flags::MAYSHARE == 0 {
        return Err(EINVAL);
    }
    vma.try_clear_mayexec()?;
    vma.set_dontexpand();
    vma.set_dontcopy();
    vma.set_dontdump();
    Ok(())
}
