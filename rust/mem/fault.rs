// SPDX-License-Identifier: GPL-2.0
//! First access to a page of lower-VTL memory through `/dev/mshv_vtl_low`.
//!
//! System RAM of this Linux is never mapped, nor what is no memory at all, nor a private page that is
//! still pending, because the access to one raises a #VE that nobody can serve. Where address and
//! area allow it, 2 MiB or 1 GiB are mapped at once.

// UNSAFETY: fault handler over raw kernel structures.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::mm::virt::{VmaNew, VmaRef};
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;

use super::{registered, KernelMemory};
use crate::abi;
use crate::pure::accepted::{bytes, is_accepted, Piece};
use crate::pure::mapping::{frame, is_shared, whole_piece, Alias};
use crate::pure::policy::GuestMemory;
use crate::tdcall;

type Answer = bindings::vm_fault_t;

const SIGBUS: Answer = bindings::vm_fault_reason_VM_FAULT_SIGBUS;
const NOPAGE: Answer = bindings::vm_fault_reason_VM_FAULT_NOPAGE;
const FALLBACK: Answer = bindings::vm_fault_reason_VM_FAULT_FALLBACK;

struct Operations(bindings::vm_operations_struct);

// SAFETY: Never written; the functions in it may be called from any thread.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::vm_operations_struct {
    fault: Some(fault),
    huge_fault: Some(huge_fault),
    ..pin_init::zeroed()
});

/// Makes a new area one of lower-VTL memory.
pub(super) fn install(vma: &VmaNew, alias: Alias) {
    let area = vma.as_ptr();
    // SAFETY: The area is being set up, so its flags are ours to set; it is shared, and has no pages.
    unsafe { abi::vtl_low_prepare(area, alias == Alias::Shared) };
    // SAFETY: As above; the operations are static, and the area's file keeps the module loaded.
    unsafe { (*area).vm_ops = &OPERATIONS.0 };
}

/// Whether a page, or a larger piece, may be mapped.
fn look(page: u64, level: u8) -> Piece {
    let gpa = frame(page) << PAGE_SHIFT;
    if !KernelMemory.is_lower(gpa, bytes(level)) {
        return Piece::NotAccepted;
    }
    // A shared page is the host's, which gives it with the access; the TDX module knows nothing.
    if is_shared(page) {
        return Piece::Accepted;
    }
    is_accepted(&mut tdcall::Instruction, gpa, level)
}

/// # Safety
///
/// Called by the kernel with a fault in an area that `install` set up.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> Answer {
    // SAFETY: The kernel gives a valid fault.
    let about = unsafe { (*vmf).__bindgen_anon_1 };
    let page = about.pgoff as u64; // CAST: unsigned long has 64 bits
    match look(page, 0) {
        // SAFETY: The frame is registered and stays so, because the area's file is open.
        Piece::Accepted if registered::contains(page) => unsafe {
            abi::vtl_pages_insert(vmf, frame(page) as usize, 0) // CAST: as above
        },
        // SAFETY: The area takes pages without struct page; the frame is no memory of this kernel.
        Piece::Accepted => unsafe {
            bindings::vmf_insert_mixed(about.vma, about.address, frame(page) as usize)
            // CAST: as above
        },
        Piece::Busy => NOPAGE,
        Piece::NotAccepted => SIGBUS,
    }
}

/// # Safety
///
/// Called by the kernel with a fault in an area that `install` set up.
unsafe extern "C" fn huge_fault(vmf: *mut bindings::vm_fault, order: c_uint) -> Answer {
    let level = match order {
        abi::VTL_PMD_ORDER => 1,
        abi::VTL_PUD_ORDER => 2,
        _ => return FALLBACK,
    };
    // SAFETY: The kernel gives a valid fault.
    let about = unsafe { (*vmf).__bindgen_anon_1 };
    // SAFETY: The fault is in this area, which can't change before it is dealt with.
    let area = unsafe { VmaRef::from_raw(about.vma) };
    let page = about.pgoff as u64; // CAST: unsigned long has 64 bits
    let Some(page) = whole_piece(area.start()..area.end(), about.address, page, order) else {
        return FALLBACK;
    };
    match look(page, level) {
        Piece::Accepted => {}
        Piece::Busy => return NOPAGE,
        Piece::NotAccepted => return FALLBACK,
    }
    // SAFETY: The kernel gives a valid fault.
    let flags = unsafe { (*vmf).flags };
    let is_write = flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0;
    let frame = frame(page) as usize; // CAST: unsigned long has 64 bits
    if registered::contains(page) {
        // A structure covers 2 MiB, and registered are whole pieces of that size.
        return match level {
            // SAFETY: The frame is registered and stays so, because the area's file is open.
            1 => unsafe { abi::vtl_pages_insert(vmf, frame, order) },
            _ => FALLBACK,
        };
    }
    if level == 1 {
        // SAFETY: The area takes frames, the frame is aligned as the address is, and lies with all
        // that follow it outside the memory of this kernel.
        unsafe { bindings::vmf_insert_pfn_pmd(vmf, frame, is_write) }
    } else {
        // SAFETY: As above.
        unsafe { bindings::vmf_insert_pfn_pud(vmf, frame, is_write) }
    }
}
