// SPDX-License-Identifier: GPL-2.0
//! Proves that the numbers in `pure`, which does not use C, are those of the header and of the C
//! files.
//!
//! Numbers shared only by C and the module's other folders are written once, in a C header, and
//! Rust uses what bindgen makes of them. `nodes/commands.rs` has the commands, `abi.rs` the
//! layouts, and `run/enter.rs` what the entry stub expects.

use super::abi;
use crate::pure::attest::{self, State};
use crate::pure::attest_event::Op;
use crate::pure::audit::{flag, ExitKind, RECORD_WORDS};
use crate::pure::mitigation::{Facts, Scrub};
use crate::pure::uapi::{self, check_extension};
use crate::pure::vtl_switch::{Enable, Left};
use crate::pure::{controls, hv_message, leaf, lower, mapping, mtrr, offload, ranges, registers};
use crate::pure::{storm, vp_enter};

macro_rules! assert_same {
    ($($pure:expr => $c:ident,)+) => {
        // CAST: widening, of constants that are never negative but for bit 63.
        $(const _: () = assert!($pure as u64 == abi::$c as u64);)+
    };
}

// Speculation defences of the entry stub, and the leaf that it executes.
assert_same! {
    Scrub::RETURNS.0 => VTL_SCRUB_RETURNS,
    Scrub::BRANCHES.0 => VTL_SCRUB_BRANCHES,
    Scrub::BUFFERS.0 => VTL_SCRUB_BUFFERS,
    Scrub::SPEC_CTRL.0 => VTL_SCRUB_SPEC_CTRL,
    Scrub::TARGETS.0 => VTL_SCRUB_TARGETS,
    Scrub::SPEC_CTRL_STEADY.0 => VTL_SCRUB_SPEC_CTRL_STEADY,
    leaf::TDG_VP_ENTER => VTL_TDG_VP_ENTER,
}

// What C knows about processor and kernel.
assert_same! {
    Facts::HAS_IBPB.0 => vtl_fact_VTL_HAS_IBPB,
    Facts::HAS_MD_CLEAR.0 => vtl_fact_VTL_HAS_MD_CLEAR,
    Facts::BUG_BRANCH_TARGETS.0 => vtl_fact_VTL_BUG_BRANCH_TARGETS,
    Facts::BUG_BRANCH_HISTORY.0 => vtl_fact_VTL_BUG_BRANCH_HISTORY,
    Facts::BUG_BUFFERS.0 => vtl_fact_VTL_BUG_BUFFERS,
    Facts::KERNEL_OFF.0 => vtl_fact_VTL_KERNEL_OFF,
}

// SINTs of the host; lengths of lists.
assert_same! {
    hv_message::SINT_INTERCEPTION => vtl_sint_VTL_SINT_INTERCEPTION,
    hv_message::SINT_VMBUS => vtl_sint_VTL_SINT_VMBUS,
    lower::MAX_RANGES => VTL_MAX_RANGES,
}

// Contents of statistics and audit ring.
assert_same! {
    ExitKind::HOST_ROUTED.number() => MSHV_VTL_EXIT_HOST_ROUTED,
    ExitKind::INTERRUPTED.number() => MSHV_VTL_EXIT_INTERRUPTED,
    ExitKind::NOT_ENTERED.number() => MSHV_VTL_EXIT_NOT_ENTERED,
    ExitKind::REFUSED.number() => MSHV_VTL_EXIT_REFUSED,
    ExitKind::OTHER.number() => MSHV_VTL_EXIT_OTHER,
    ExitKind::COUNT => MSHV_VTL_EXIT_KINDS,
    storm::EXITS => MSHV_VTL_STORM_EXITS,
    flag::HAS_RUN => MSHV_VTL_AUDIT_HAS_RUN,
    flag::EVENT_CUT_OFF => MSHV_VTL_AUDIT_EVENT_CUT_OFF,
    flag::INVALIDATED => MSHV_VTL_AUDIT_INVALIDATED,
    uapi::policy::HVCALLS => MSHV_VTL_POLICY_HVCALLS,
}
const _: () = assert!(size_of::<abi::mshv_vtl_audit_record>() == RECORD_WORDS * 8);

// The attested log.
assert_same! {
    attest::CONTROL_ID => MSHV_VTL_CONTROL_STREAM,
    State::Open.number() => MSHV_VTL_ATTEST_OPEN,
    State::Broken.number() => MSHV_VTL_ATTEST_BROKEN,
    State::Closed.number() => MSHV_VTL_ATTEST_CLOSED,
    Op::Load.number() => MSHV_VTL_CONTROL_LOAD,
    Op::CreateVtl.number() => MSHV_VTL_CONTROL_CREATE_VTL,
    Op::PageAttributes.number() => MSHV_VTL_CONTROL_PAGE_ATTR_WR,
    Op::TdcallRefused.number() => MSHV_VTL_CONTROL_TDCALL_REFUSED,
    Op::HypercallRefused.number() => MSHV_VTL_CONTROL_HVCALL_REFUSED,
    Op::Note.number() => MSHV_VTL_CONTROL_NOTE,
    uapi::checkpoint::KICK => MSHV_VTL_CHECKPOINT_KICK,
}

// The run page.
assert_same! {
    uapi::RUN_HALTED => MSHV_VTL_RUN_HALTED,
    offload::INTR_INJECT => MSHV_VTL_OFFLOAD_INTR_INJECT,
    offload::X2APIC => MSHV_VTL_OFFLOAD_X2APIC,
    offload::HALT_OTHER => MSHV_VTL_HALT_OTHER,
    offload::HALT_HLT => MSHV_VTL_HALT_HLT,
    offload::HALT_IDLE => MSHV_VTL_HALT_IDLE,
    controls::WBINVD => MSHV_TDX_VP_WBINVD,
    controls::WBNOINVD => MSHV_TDX_VP_WBNOINVD,
    vp_enter::INVD_TRANSLATIONS => MSHV_TDX_ENTRY_INVD_MASK,
    vp_enter::VM_SHIFT => MSHV_TDX_ENTRY_VM_SHIFT,
    vp_enter::VM_MASK => MSHV_TDX_ENTRY_VM_MASK,
}

// Mappings and ranges of memory.
assert_same! {
    uapi::MMAP_RUN_PAGE => MSHV_VTL_MMAP_RUN_PAGE,
    uapi::MMAP_VAPIC_PAGE => MSHV_VTL_MMAP_VAPIC_PAGE,
    uapi::MMAP_AUDIT_RING => MSHV_VTL_MMAP_AUDIT_RING,
    uapi::MMAP_SWITCH_PAGE => MSHV_VTL_MMAP_SWITCH_PAGE,
    Enable::CALL => MSHV_VTL_SWITCH_CALL,
    Enable::RETURN => MSHV_VTL_SWITCH_RETURN,
    Enable::PROXY => MSHV_VTL_SWITCH_PROXY,
    Enable::VINA => MSHV_VTL_SWITCH_VINA,
    Enable::VINA_AUTO_RESET => MSHV_VTL_SWITCH_VINA_AUTO_RESET,
    Left::Disabled => MSHV_VTL_LEFT_DISABLED,
    Left::Mode => MSHV_VTL_LEFT_MODE,
    Left::Operands => MSHV_VTL_LEFT_OPERANDS,
    Left::Halted => MSHV_VTL_LEFT_HALTED,
    Left::NotEnterable => MSHV_VTL_LEFT_NOT_ENTERABLE,
    Left::Notice => MSHV_VTL_LEFT_NOTICE,
    Left::Assist => MSHV_VTL_LEFT_ASSIST,
    uapi::MMAP_LEAVES => MSHV_VTL_MMAP_LEAVES,
    uapi::MMAP_CONTROL_RING => MSHV_VTL_MMAP_CONTROL_RING,
    uapi::MMAP_CONTROL_LEAVES => MSHV_VTL_MMAP_CONTROL_LEAVES,
    uapi::MMAP_KIND_SHIFT => MSHV_VTL_MMAP_KIND_SHIFT,
    mapping::SHARED_PAGE << mapping::PAGE_SHIFT => MSHV_VTL_LOW_SHARED,
    ranges::SHARED => MSHV_VTL_RAM_SHARED,
}

// Operands of commands.
assert_same! {
    uapi::KICK_WAIT => MSHV_KICK_WAIT,
    uapi::KICK_CANCEL => MSHV_KICK_CANCEL,
    registers::XFEM => MSHV_REGISTER_XFEM,
    registers::DR0 => MSHV_REGISTER_DR0,
    registers::DR0 + 1 => MSHV_REGISTER_DR1,
    registers::DR0 + 2 => MSHV_REGISTER_DR2,
    registers::DR0 + 3 => MSHV_REGISTER_DR3,
    registers::DR6 => MSHV_REGISTER_DR6,
    mtrr::NAME_CAP => MSHV_REGISTER_MTRR_CAP,
    mtrr::NAME_DEF_TYPE => MSHV_REGISTER_MTRR_DEF_TYPE,
    mtrr::NAME_BASE => MSHV_REGISTER_MTRR_PHYS_BASE0,
    mtrr::NAME_MASK => MSHV_REGISTER_MTRR_PHYS_MASK0,
    mtrr::NAME_FIX => MSHV_REGISTER_MTRR_FIX64K_00000,
    mtrr::NAME_FIX + 1 => MSHV_REGISTER_MTRR_FIX16K_80000,
    mtrr::NAME_FIX + 3 => MSHV_REGISTER_MTRR_FIX4K_C0000,
}

/// Asserts the answers of `MSHV_CHECK_EXTENSION` in a TD with two L2 VMs.
macro_rules! assert_answers {
    ($($capability:ident => $answer:literal,)+) => {
        $(const _: () = assert!(matches!(check_extension(abi::$capability, 2), Some($answer)));)+
    };
}

assert_answers! {
    MSHV_CAP_CORE_API_STABLE => 0,
    MSHV_CAP_REGISTER_PAGE => 0,
    MSHV_CAP_VTL_RETURN_ACTION => 0,
    MSHV_CAP_DR6_SHARED => 1,
    MSHV_CAP_LOWER_VTL_TIMER_VIRT => 1,
    MSHV_CAP_INFO => 1,
    MSHV_CAP_STATS => 1,
    MSHV_CAP_AUDIT_RING => 1,
    MSHV_CAP_POLICY => 1,
    MSHV_CAP_XSAVE => 1,
    MSHV_CAP_VTL_SWITCH => 1,
    MSHV_CAP_ATTEST => 1,
    MSHV_CAP_RESET => 1,
    MSHV_CAP_TIMER => 1,
}
