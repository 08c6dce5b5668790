// SPDX-License-Identifier: GPL-2.0
//! The only way into the lower VTL: TDG.VP.ENTER. The parts outside Rust are `enter.c`, which informs
//! RCU and context tracking, and `vp_enter.S`, which executes it.

// UNSAFETY: calls the entry stub.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::mem::offset_of;

use crate::cpu::guards::IrqsOff;
use crate::glue::abi::{self, mshv_tdx_exit_info, vtl_enter_operands};
use crate::pure::exit::RawExit;
use crate::pure::mitigation::Scrub;
use crate::pure::vp_enter::EntryRcx;
use crate::vp::run_page::RunPage;

/// Operands and results of TDG.VP.ENTER, laid out as the stub expects.
#[repr(C)]
pub(crate) struct Operands<'a> {
    /// Result registers; only RAX changes if the entry did not happen.
    pub(crate) exit: RawExit,
    /// CR2 of the lower VTL, loaded and saved.
    pub(crate) cr2: u64,
    /// IA32_SPEC_CTRL of the lower VTL, loaded and saved if the processor has it.
    pub(crate) spec_ctrl: u64,
    /// The VM, and what to invalidate before the entry.
    pub(crate) rcx: EntryRcx,
    guest_state_gpa: u64,
    scrub: Scrub,
    run_page: PhantomData<&'a RunPage>,
}

impl<'a> Operands<'a> {
    /// Operands for an entry with the general registers of a run page.
    pub(crate) fn new(
        run_page: &'a RunPage,
        rcx: EntryRcx,
        cr2: u64,
        spec_ctrl: u64,
        scrub: Scrub,
    ) -> Self {
        Self {
            exit: RawExit::default(),
            cr2,
            spec_ctrl,
            rcx,
            guest_state_gpa: run_page.guest_state_gpa(),
            scrub,
            run_page: PhantomData,
        }
    }
}

/// Enters a lower VTL; `run/context.rs` has loaded its state.
#[inline]
pub(crate) fn tdg_vp_enter(operands: &mut Operands<'_>, _irqs: &IrqsOff) {
    let operands = core::ptr::from_mut(operands).cast();
    // SAFETY: The stub saves and restores every register that belongs to its caller. `_irqs` proves
    // that interrupts are disabled. `operands` is valid for the call and has the layout that the
    // stub expects, by the assertions below. The guest state is in a run page, which `RunPage`
    // allocated for the TDX module to write to, and which `Operands` borrows.
    unsafe { abi::vtl_guest_enter(operands) };
}

/// Reports a quiescent state of this CPU to RCU: nothing that RCU protects is held when entering a
/// guest.
///
/// Done at most once per jiffy; `noted` keeps the last one.
pub(crate) fn note_quiescent_state(noted: &mut usize, _irqs: &IrqsOff) {
    // SAFETY: `_irqs` proves that interrupts are disabled, and the run loop is in no RCU read-side
    // section.
    unsafe { abi::vtl_note_quiescent_state(noted) }
}

macro_rules! assert_same_place {
    ($($register:ident)*) => {
        $(const _: () = assert!(
            offset_of!(RawExit, $register) == offset_of!(mshv_tdx_exit_info, $register)
        );)*
    };
}

assert_same_place!(rax rcx rdx rsi rdi r8 r9 r10 r11 r12 r13);
const _: () = assert!(size_of::<RawExit>() == size_of::<mshv_tdx_exit_info>());
const _: () = assert!(
    offset_of!(Operands<'_>, exit) == offset_of!(vtl_enter_operands, exit)
        && offset_of!(Operands<'_>, cr2) == offset_of!(vtl_enter_operands, cr2)
        && offset_of!(Operands<'_>, spec_ctrl) == offset_of!(vtl_enter_operands, spec_ctrl)
        && offset_of!(Operands<'_>, rcx) == offset_of!(vtl_enter_operands, rcx)
        && offset_of!(Operands<'_>, guest_state_gpa)
            == offset_of!(vtl_enter_operands, guest_state_gpa)
        && offset_of!(Operands<'_>, scrub) == offset_of!(vtl_enter_operands, scrub)
        && size_of::<Operands<'_>>() == size_of::<vtl_enter_operands>()
);
