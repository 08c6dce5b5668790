// SPDX-License-Identifier: GPL-2.0
//! Operands and results of TDG.VP.ENTER, laid out as the stub `run/vp_enter.S` expects.
//!
//! A VP keeps them from one run to the next: most stay the same, and zeroes would be written in vain.

use core::mem::offset_of;

use crate::glue::abi::{mshv_tdx_exit_info, vtl_enter_operands};
use crate::pure::exit::RawExit;
use crate::pure::field::VmIndex;
use crate::pure::mitigation::Scrub;
use crate::pure::vp_enter::EntryRcx;
use crate::vp::run_page::RunPage;

/// Operands of the next entry, and results of the last one. Used in place: copies would cost more than
/// the decisions that use them.
///
/// # Invariants
///
/// `guest_state_gpa` is in the run page of the VP to which they belong, and both exist until the module
/// is unloaded.
#[repr(C)]
pub(crate) struct Operands {
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
}

impl Operands {
    /// Those of the VP that owns the run page, for which it makes them.
    pub(super) fn new(run_page: &RunPage, scrub: Scrub) -> Self {
        // INVARIANT: as the caller promises.
        Self {
            exit: RawExit::default(),
            cr2: 0,
            spec_ctrl: 0,
            rcx: EntryRcx::of(VmIndex::VM1),
            guest_state_gpa: run_page.guest_state_gpa(),
            scrub,
        }
    }

    /// States if the lower VTL that will be entered can't change IA32_SPEC_CTRL without an exit.
    pub(super) fn set_spec_ctrl_steady(&mut self, is_steady: bool) {
        self.scrub = self.scrub.with_spec_ctrl_steady(is_steady);
    }
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
    offset_of!(Operands, exit) == offset_of!(vtl_enter_operands, exit)
        && offset_of!(Operands, cr2) == offset_of!(vtl_enter_operands, cr2)
        && offset_of!(Operands, spec_ctrl) == offset_of!(vtl_enter_operands, spec_ctrl)
        && offset_of!(Operands, rcx) == offset_of!(vtl_enter_operands, rcx)
        && offset_of!(Operands, guest_state_gpa) == offset_of!(vtl_enter_operands, guest_state_gpa)
        && offset_of!(Operands, scrub) == offset_of!(vtl_enter_operands, scrub)
        && size_of::<Operands>() == size_of::<vtl_enter_operands>()
);
