// SPDX-License-Identifier: GPL-2.0
//! First access to a page of lower-VTL memory through `/dev/mshv_vtl_low`.
//!
//! Each page is looked at by itself: System RAM of this Linux is never mapped, nor is a page that is
//! still pending, because the access to one raises a #VE that nobody can serve.

// UNSAFETY: fault handler over raw kernel structures.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::mm::virt::VmaNew;
use kernel::page::{PAGE_SHIFT, PAGE_SIZE};

use crate::abi;
use crate::ffi;
use crate::pure::status::Status;
use crate::pure::tdcall::{tdg_mem_page_attr_rd, PageState};
use crate::tdcall;

const SIGBUS: bindings::vm_fault_t = bindings::vm_fault_reason_VM_FAULT_SIGBUS;
const NOPAGE: bindings::vm_fault_t = bindings::vm_fault_reason_VM_FAULT_NOPAGE;

struct Operations(bindings::vm_operations_struct);

// SAFETY: Never written; the functions in it may be called from any thread.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::vm_operations_struct {
    fault: Some(fault),
    ..pin_init::zeroed()
});

/// Makes a new area one of lower-VTL memory.
pub(super) fn install(vma: &VmaNew) {
    let area = vma.as_ptr();
    // SAFETY: The area is being set up, so its flags are ours to set; it is shared, and has no pages.
    unsafe { abi::vtl_vma_set_pfnmap(area) };
    // SAFETY: As above; the operations are static, and the area's file keeps the module loaded.
    unsafe { (*area).vm_ops = &OPERATIONS.0 };
}

/// # Safety
///
/// Called by the kernel with a fault in an area that `install` set up.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The kernel gives a valid fault.
    let about = unsafe { (*vmf).__bindgen_anon_1 };
    let frame = about.pgoff;
    let gpa = (frame as u64) << PAGE_SHIFT; // CAST: unsigned long has 64 bits
    if ffi::is_system_ram(gpa, PAGE_SIZE as u64) {
        return SIGBUS;
    }
    match tdg_mem_page_attr_rd(&mut tdcall::Instruction, gpa) {
        // SAFETY: The area is a PFN mapping, the frame is no memory of this kernel.
        Ok(PageState::Accepted) => unsafe {
            bindings::vmf_insert_pfn(about.vma, about.address, frame)
        },
        Ok(PageState::Pending) => SIGBUS,
        // Somebody changes the page at this moment: fault again.
        Err(status) if status.name() == Status::OPERAND_BUSY => NOPAGE,
        Err(_) => SIGBUS,
    }
}
