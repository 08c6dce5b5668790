// SPDX-License-Identifier: GPL-2.0
//! Page faults in mappings of lower-VTL memory, by `/dev/mshv_vtl_low`.
//!
//! Addresses outside the list of lower-VTL memory are never mapped. Nor are private pages that are
//! pending, or shared pages that the host does not provide: accessing one raises a #VE that nothing
//! can handle. If address, VMA and kernel allow it, one entry maps 2 MiB. It never maps 1 GiB:
//! mremap() treats such an entry as a broken page table, and splitting a VMA leaves it across both
//! halves.

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
use crate::glue::abi::{self, safe_in_c, PassedAs, Valid};
use crate::pure::accepted::{acceptance, bytes, Piece};
use crate::pure::mapping::{frame, is_shared, whole_piece, Alias};

type FaultAnswer = bindings::vm_fault_t;

const SIGBUS: FaultAnswer = bindings::vm_fault_reason_VM_FAULT_SIGBUS;
const NOPAGE: FaultAnswer = bindings::vm_fault_reason_VM_FAULT_NOPAGE;
const OOM: FaultAnswer = bindings::vm_fault_reason_VM_FAULT_OOM;
const FALLBACK: FaultAnswer = bindings::vm_fault_reason_VM_FAULT_FALLBACK;

#[repr(transparent)]
struct VmOperations(bindings::vm_operations_struct);

// SAFETY: `VmOperations` is a transparent structure around the kernel's type.
unsafe impl PassedAs<*const bindings::vm_operations_struct> for &'static VmOperations {}

// SAFETY: Never written after build; its functions may be called from any thread.
unsafe impl Sync for VmOperations {}

static OPERATIONS: VmOperations = VmOperations(bindings::vm_operations_struct {
    fault: Some(fault),
    huge_fault: Some(fault_of_order),
    ..pin_init::zeroed()
});

// `Valid` is only made of a VMA that is being set up (`VmaNew`), so its flags and operations may be set,
// and it maps nothing yet. Its file keeps the module loaded, and so the operations.
safe_in_c! {
    fn vtl_low_prepare(
        vma: Valid<'_, bindings::vm_area_struct> as *mut bindings::vm_area_struct,
        operations: &'static VmOperations as *const bindings::vm_operations_struct,
        is_shared: bool,
        has_pages: bool
    );
}

/// What a VMA maps, for all of its life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    /// Registered memory only, mapped as pages: the kernel looks them up, counts and pins them.
    Pages,
    /// Any lower-VTL memory, mapped as page frames (PFNs), which the kernel never treats as pages.
    Frames,
}

/// Makes a new VMA one of lower-VTL memory.
pub(super) fn install(vma: &VmaNew, alias: Alias, backing: Backing) {
    let (is_shared, has_pages) = (alias == Alias::Shared, backing == Backing::Pages);
    vtl_low_prepare(vma.into(), &OPERATIONS, is_shared, has_pages);
}

/// Prepares a file that is being opened, so that its mappings can be found for unmapping.
pub(crate) fn opened(file: &File) {
    // SAFETY: The file is being opened: nothing else uses it yet, and it has no mappings. It keeps
    // the module loaded, and so the address space that it is given.
    unsafe { abi::vtl_low_opened(file.as_ptr()) }
}

/// Decides if a page, or a larger piece, may be mapped; valid as long as `stay` is held.
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
    acceptance(&mut tdcall::Instruction, piece)
}

/// A fault in a VMA that [`install`] set up.
///
/// # Invariants
///
/// `vmf` is valid; its VMA has our operations and does not change until the fault is handled.
struct Fault {
    vmf: *mut bindings::vm_fault,
    about: bindings::vm_fault__bindgen_ty_1,
}

impl Fault {
    /// Offset of the address in pages.
    fn page(&self) -> u64 {
        self.about.pgoff as u64 // CAST: unsigned long has 64 bits
    }

    /// The aligned piece that contains the address, by the offset of its first page; `None` if the
    /// VMA does not contain all of it.
    fn piece(&self, order: c_uint) -> Option<u64> {
        // SAFETY: By the invariant the VMA is valid and does not change.
        let area = unsafe { VmaRef::from_raw(self.about.vma) };
        whole_piece(
            area.start()..area.end(),
            self.about.address,
            self.page(),
            order,
        )
    }

    /// Maps an accepted piece; a single page is the piece of order 0.
    fn map(&self, page: u64, order: c_uint) -> FaultAnswer {
        let frame = frame(page) as usize; // CAST: unsigned long has 64 bits
                                          // SAFETY: By the invariant `install` set up the VMA. The
                                          // frames are not memory of this kernel, as `look` found.
                                          // In a VMA of pages all have a `struct page`: they were
                                          // registered when it was made, and stay registered while
                                          // its file is open.
        unsafe { abi::vtl_low_insert(self.vmf, frame, order) }
    }

    /// Maps the page at the address.
    fn of_page(&self) -> FaultAnswer {
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
    fn of_large_page(&self) -> FaultAnswer {
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
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> FaultAnswer {
    // SAFETY: By the same requirement.
    unsafe { fault_of_order(vmf, 0) }
}

/// # Safety
///
/// Called by the kernel for a fault in a VMA that `install` set up.
unsafe extern "C" fn fault_of_order(vmf: *mut bindings::vm_fault, order: c_uint) -> FaultAnswer {
    // SAFETY: The kernel passes a valid fault ("called by the kernel").
    let about = unsafe { (*vmf).__bindgen_anon_1 };
    // INVARIANT: the kernel keeps the VMA unchanged until we return ("a VMA that `install` set
    // up").
    let fault = Fault { vmf, about };
    match order {
        0 => fault.of_page(),
        abi::VTL_PMD_ORDER => fault.of_large_page(),
        _ => FALLBACK,
    }
}
