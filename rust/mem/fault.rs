// SPDX-License-Identifier: GPL-2.0
//! First access to a page of lower-VTL memory through `/dev/mshv_vtl_low`.
//!
//! What is not in the list of lower-VTL memory is never mapped, nor a private page that is still
//! pending, nor a shared one that the host does not give, because the access to one raises a #VE that
//! nobody can serve. Where address, area and kernel allow it, 2 MiB are mapped at once. Never 1 GiB:
//! mremap() takes such an entry for a broken page table, and whoever splits an area leaves it across
//! both halves.

// UNSAFETY: fault handler over raw kernel structures.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::fs::File;
use kernel::mm::virt::{VmaNew, VmaRef};
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;

use super::low;
use super::ranges::lower_memory;
use super::withdrawn::Stay;
use crate::cpu::tdcall;
use crate::glue::abi;
use crate::pure::accepted::{bytes, is_accepted, Piece};
use crate::pure::mapping::{frame, is_shared, whole_piece, Alias};

type Answer = bindings::vm_fault_t;

const SIGBUS: Answer = bindings::vm_fault_reason_VM_FAULT_SIGBUS;
const NOPAGE: Answer = bindings::vm_fault_reason_VM_FAULT_NOPAGE;
const OOM: Answer = bindings::vm_fault_reason_VM_FAULT_OOM;
const FALLBACK: Answer = bindings::vm_fault_reason_VM_FAULT_FALLBACK;

struct Operations(bindings::vm_operations_struct);

// SAFETY: Never written; the functions in it may be called from any thread.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::vm_operations_struct {
    fault: Some(fault),
    huge_fault: Some(fault_of_order),
    ..pin_init::zeroed()
});

/// What an area consists of, from its first day to its last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    /// Registered memory only: what is mapped are pages, which the kernel looks up, counts and pins.
    Pages,
    /// Anything: what is mapped are page frames, which the kernel never takes for pages.
    Frames,
}

/// Makes a new area one of lower-VTL memory.
pub(super) fn install(vma: &VmaNew, alias: Alias, backing: Backing) {
    let area = vma.as_ptr();
    let (is_shared, has_pages) = (alias == Alias::Shared, backing == Backing::Pages);
    // SAFETY: The area is being set up, so its flags and its operations are ours to set; it is shared,
    // and maps nothing yet. The operations are static, and the area's file keeps the module loaded.
    unsafe { abi::vtl_low_prepare(area, &OPERATIONS.0, is_shared, has_pages) };
}

/// Notes a file that is being opened, so that its mappings are found.
pub(crate) fn opened(file: &File) {
    // SAFETY: Nobody else has the file yet, and it has no mappings; it keeps the module, and so the
    // address space that it gets.
    unsafe { abi::vtl_low_opened(file.as_ptr()) }
}

/// Whether a page, or a larger piece, may be mapped, for as long as none changes hands.
fn look(page: u64, level: u8, stay: &Stay) -> Piece {
    let gpa = frame(page) << PAGE_SHIFT;
    let Some(piece) = lower_memory().range(gpa, bytes(level)) else {
        return Piece::NotAccepted;
    };
    if is_shared(page) {
        return low::look_at_shared(piece);
    }
    if stay.is_withdrawn(piece) {
        return Piece::NotAccepted;
    }
    is_accepted(&mut tdcall::Instruction, piece)
}

/// A fault in an area that [`install`] set up.
///
/// # Invariants
///
/// `vmf` is valid, its area has our operations and can't change before the fault is dealt with.
struct Fault {
    vmf: *mut bindings::vm_fault,
    about: bindings::vm_fault__bindgen_ty_1,
}

impl Fault {
    /// Offset of the address in pages.
    fn page(&self) -> u64 {
        self.about.pgoff as u64 // CAST: unsigned long has 64 bits
    }

    /// The aligned piece around the address, by the offset of its first page; `None` if the area does
    /// not hold all of it.
    fn piece(&self, order: c_uint) -> Option<u64> {
        // SAFETY: By the invariant the area is valid, and nobody changes it.
        let area = unsafe { VmaRef::from_raw(self.about.vma) };
        whole_piece(
            area.start()..area.end(),
            self.about.address,
            self.page(),
            order,
        )
    }

    /// Maps an accepted piece; a single page is the piece of order 0.
    fn map(&self, page: u64, order: c_uint) -> Answer {
        let frame = frame(page) as usize; // CAST: unsigned long has 64 bits
                                          // SAFETY: By the invariant of `self` `install` made the area; the frames are no memory of this
                                          // kernel, as `look` saw. In an area of pages all have a `struct page`: they were registered
                                          // when it was made, and stay so as long as its file is open.
        unsafe { abi::vtl_low_insert(self.vmf, frame, order) }
    }

    /// Maps the page at the address.
    fn of_page(&self) -> Answer {
        let page = self.page();
        let stay = Stay::new();
        match look(page, 0, &stay) {
            Piece::Accepted => self.map(page, 0),
            Piece::Busy => NOPAGE,
            Piece::NotAccepted => SIGBUS,
            Piece::Unknown => OOM,
        }
    }

    /// Maps the 2 MiB around the address.
    fn of_large_page(&self) -> Answer {
        let Some(page) = self.piece(abi::VTL_PMD_ORDER) else {
            return FALLBACK;
        };
        let stay = Stay::new();
        match look(page, 1, &stay) {
            Piece::Accepted => self.map(page, abi::VTL_PMD_ORDER),
            Piece::Busy => NOPAGE,
            Piece::NotAccepted | Piece::Unknown => FALLBACK,
        }
    }
}

/// # Safety
///
/// As [`fault_of_order`].
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> Answer {
    // SAFETY: By the same requirement.
    unsafe { fault_of_order(vmf, 0) }
}

/// # Safety
///
/// Called by the kernel with a fault in an area that `install` set up.
unsafe extern "C" fn fault_of_order(vmf: *mut bindings::vm_fault, order: c_uint) -> Answer {
    // SAFETY: The kernel gives a valid fault ("called by the kernel").
    let about = unsafe { (*vmf).__bindgen_anon_1 };
    // INVARIANT: the kernel holds the area as it is until we return ("an area that `install` set up").
    let fault = Fault { vmf, about };
    match order {
        0 => fault.of_page(),
        abi::VTL_PMD_ORDER => fault.of_large_page(),
        _ => FALLBACK,
    }
}
