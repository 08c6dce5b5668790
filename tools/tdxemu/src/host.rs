// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The untrusted host: what L1 asks of it by TDG.VP.VMCALL, and what it does about TD exits.
//! [GHCI 3]
//!
//! One file per group of calls. The host sees only the registers the mask selected.

pub mod cpuid;
pub mod fatal;
pub mod hlt;
pub mod io;
pub mod map_gpa;
pub mod mmio;
pub mod msr;

use crate::console::End;
use crate::log;
use crate::machine::Processor;
use crate::mem::npt::AddressSpaces;
use crate::run::{end_by_l1, not_modelled};
use crate::setup::World;
use crate::vp::Vp;
use tdx_model::gpa::{Gpa, Level};
use tdx_model::gprs::Gprs;
use tdx_model::machine::L1Mapping;
use tdx_model::page_state::PageState;
use tdx_model::td::Td;
use tdx_model::ve::{Eeq, TdExit};

/// Status in R10.
mod status {
    pub(super) const SUCCESS: u64 = 0;
    pub(super) const INVALID_OPERAND: u64 = 1 << 63;
    pub(super) const ALIGN_ERROR: u64 = 1 << 63 | 2;
    pub(super) const SUBFUNC_UNSUPPORTED: u64 = 1 << 63 | 3;
}

/// Sub-function in R11.
mod function {
    pub(super) const CPUID: u64 = 0x0a;
    pub(super) const HLT: u64 = 0x0c;
    pub(super) const IO: u64 = 0x1e;
    pub(super) const RDMSR: u64 = 0x1f;
    pub(super) const WRMSR: u64 = 0x20;
    pub(super) const MMIO: u64 = 0x30;
    pub(super) const WBINVD: u64 = 0x36;
    pub(super) const GET_TD_VM_CALL_INFO: u64 = 0x1_0000;
    pub(super) const MAP_GPA: u64 = 0x1_0001;
    pub(super) const GET_QUOTE: u64 = 0x1_0002;
    pub(super) const REPORT_FATAL_ERROR: u64 = 0x1_0003;
}

/// Answers a TDG.VP.VMCALL. `gprs` holds the selected registers, the others zero.
pub fn vmcall(vp: &mut Vp, gprs: &mut Gprs) {
    if gprs.r10 != 0 {
        return vendor_call(gprs);
    }
    let (r12, r13, r14, r15) = (gprs.r12, gprs.r13, gprs.r14, gprs.r15);
    gprs.r10 = match gprs.r11 {
        function::CPUID => {
            cpuid::cpuid(gprs);
            status::SUCCESS
        }
        function::HLT => {
            hlt::sleep(vp);
            status::SUCCESS
        }
        function::IO => answer(gprs, io::io(r12, r13, r14, r15)),
        function::RDMSR => answer(gprs, msr::read(r12)),
        function::WRMSR => answer(gprs, msr::write(r12, r13).map(|()| 0)),
        function::MMIO => answer(gprs, mmio::access(vp, r12, r13, r14, r15)),
        // Caches are coherent here; there is nothing to write back.
        function::WBINVD => status::SUCCESS,
        function::GET_TD_VM_CALL_INFO => get_td_vm_call_info(gprs),
        function::MAP_GPA => {
            let (result, first_left) = map_gpa::map_gpa(vp, r12, r13);
            gprs.r11 = first_left;
            result
        }
        function::REPORT_FATAL_ERROR => fatal::report(gprs),
        // No quoting service here.
        function::GET_QUOTE => status::SUBFUNC_UNSUPPORTED,
        other => {
            log!(Warn, "TDVMCALL {other:#x} is not offered by this host");
            status::SUBFUNC_UNSUPPORTED
        }
    };
}

/// Puts a result into R11, or refuses.
fn answer(gprs: &mut Gprs, result: Option<u64>) -> u64 {
    match result {
        Some(value) => {
            gprs.r11 = value;
            status::SUCCESS
        }
        None => status::INVALID_OPERAND,
    }
}

/// Calls of the hypervisor whose signature the host shows; it knows none of them.
fn vendor_call(gprs: &mut Gprs) {
    const NO_SUCH_CALL: i64 = -1000;
    log!(Debug, "vendor call {:#x} is not offered", gprs.r10);
    gprs.r10 = NO_SUCH_CALL as u64; // CAST: two's complement
}

/// Everything of the GHCI's base is there, nothing optional.
fn get_td_vm_call_info(gprs: &mut Gprs) -> u64 {
    if gprs.r12 > 1 {
        return status::INVALID_OPERAND;
    }
    (gprs.r11, gprs.r12, gprs.r13, gprs.r14) = (0, 0, 0, 0);
    status::SUCCESS
}

/// A TD exit while L1 runs. L1 executes the same instruction again afterwards.
pub fn l1_td_exit(vp: &mut Vp, exit: TdExit) {
    let TdExit::EptViolation { gpa, eeq, .. } = exit else {
        not_modelled(vp, format_args!("TD exit {exit:x?} while L1 runs"))
    };
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    let is_large = td.pages.entry(gpa).is_leaf() && td.pages.entry(gpa).level() != Level::Size4K;
    let wants_smaller = matches!(eeq, Eeq::Accept { .. } | Eeq::AttrWr { .. }) && is_large;
    if wants_smaller {
        let mut processor = Processor::new(vp, spaces);
        td.host_demote_page(gpa, &mut processor);
        processor.finish();
    } else {
        end_by_l1(End::L1, format_args!("the host has no memory for {exit:x?} at {:#x}", vp.rip()))
    }
}

/// Maps for L1 what the page table says it may reach: another processor has just changed it.
pub fn map_again(td: &Td<'_>, spaces: &mut AddressSpaces, gpa: u64) {
    let page = Gpa(gpa).without_shared();
    let mapping = match td.pages.state(page) {
        PageState::Mapped => L1Mapping::Private,
        PageState::Shared => L1Mapping::Shared,
        PageState::Free | PageState::Pending => return,
    };
    let mapped = spaces.set_l1(page, mapping);
    assert!(mapped.is_ok(), "the frame pool was sized for every page of every VM");
}
