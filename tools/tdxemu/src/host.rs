// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The untrusted host: how it answers TDG.VP.VMCALL of L1, and what it does about TD exits.
//! [GHCI 3]
//!
//! One file per group of calls. The host sees only the registers that the mask selects.

pub mod cpuid;
pub mod debug_port;
pub mod fatal;
pub mod get_quote;
pub mod hlt;
pub mod hypercall;
pub mod io;
pub mod ioapic;
pub mod iommu;
pub mod map_gpa;
pub mod mmio;
pub mod msr;
mod pci;
pub mod synic;
pub mod timers;

use crate::console::End;
use crate::hostile::{Chaos, Hostile, What};
use crate::hyperv::Message;
use crate::log;
use crate::machine::Processor;
use crate::mem::npt::AddressSpaces;
use crate::run::{end_by_l1, not_modelled};
use crate::setup::World;
use crate::vp::Vp;
use svm::npt::Rights;
use tdx_model::gpa::{Gpa, Level, VmIndex};
use tdx_model::gprs::Gprs;
use tdx_model::machine::L1Mapping;
use tdx_model::page_state::PageState;
use tdx_model::td::Td;
use tdx_model::vcpu::l2_ctls;
use tdx_model::ve::{Eeq, TdExit};

/// Status in R10.
mod status {
    pub(super) const SUCCESS: u64 = 0;
    pub(super) const RETRY: u64 = 1;
    pub(super) const INVALID_OPERAND: u64 = 1 << 63;
    pub(super) const ALIGN_ERROR: u64 = (1 << 63) | 2;
    pub(super) const SUBFUNC_UNSUPPORTED: u64 = (1 << 63) | 3;
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
    pub(super) const SETUP_EVENT_NOTIFY: u64 = 0x1_0004;
    pub(super) const SERVICE: u64 = 0x1_0005;
}

/// What the host keeps of one processor.
pub struct Host {
    /// Its hostile decisions.
    pub chaos: Chaos,
    /// What L1 wrote last to the interrupt command register.
    pub icr: u64,
    /// A synthetic interrupt that is kept back until the next call: processor and vector.
    pub late_interrupt: Option<(usize, u8)>,
    /// A message kept back for the next call: processor, source.
    pub late_message: Option<(usize, u8, Message)>,
}

impl Host {
    /// Before L1 runs.
    pub fn new(hostile: Hostile, index: usize) -> Self {
        Self {
            chaos: Chaos::new(hostile, index),
            icr: 0,
            late_interrupt: None,
            late_message: None,
        }
    }
}

/// Returns true if the host preempts an L2 that is about to run, and resumes L1 instead.
pub fn takes_processor(vp: &mut Vp) -> bool {
    let is_asked_to = debug_port::takes_processor();
    // Two in three: often enough to hit every path, seldom enough for the L2 to get on.
    is_asked_to || (vp.host.chaos.is_on(What::Exit) && vp.host.chaos.below(3) != 0)
}

/// Answers a TDG.VP.VMCALL. `gprs` holds the selected registers, the others zero.
pub fn vmcall(vp: &mut Vp, gprs: &mut Gprs) {
    synic::deliver_late(vp);
    let asked = *gprs;
    if gprs.r10 != 0 {
        hypercall::vendor_call(vp, gprs);
    } else {
        standard_call(vp, gprs);
    }
    if vp.host.chaos.is_on(What::Result) {
        garble(vp, &asked, gprs);
    }
}

fn standard_call(vp: &mut Vp, gprs: &mut Gprs) {
    let (r12, r13, r14, r15) = (gprs.r12, gprs.r13, gprs.r14, gprs.r15);
    gprs.r10 = match gprs.r11 {
        function::CPUID => {
            cpuid::cpuid(vp.platform.config.host, gprs);
            status::SUCCESS
        }
        function::HLT => {
            hlt::sleep(vp, r12 != 0);
            status::SUCCESS
        }
        function::IO if debug_port::PORTS.contains(&r14) => {
            answer(gprs, debug_port::io(vp, r12, r13, r14, r15))
        }
        function::IO => answer(gprs, io::io(r12, r13, r14, r15)),
        function::RDMSR => answer(gprs, msr::read(vp, r12)),
        function::WRMSR => answer(gprs, msr::write(vp, r12, r13).map(|()| 0)),
        function::MMIO => answer(gprs, mmio::access(vp, r12, r13, r14, r15)),
        // Caches are coherent here; there is nothing to write back.
        function::WBINVD if r12 <= 1 => {
            debug_port::note_flush(r12 == 1);
            status::SUCCESS
        }
        function::WBINVD => status::INVALID_OPERAND,
        function::GET_TD_VM_CALL_INFO => get_td_vm_call_info(gprs),
        function::MAP_GPA => {
            let (result, first_left) = map_gpa::map_gpa(vp, r12, r13);
            gprs.r11 = first_left;
            result
        }
        function::REPORT_FATAL_ERROR => fatal::report(gprs),
        function::GET_QUOTE if vp.platform.config.has_quotes => get_quote::get_quote(vp, r12, r13),
        // A quote is there at once, so nothing would ever notify; and there is no other service.
        function::GET_QUOTE | function::SETUP_EVENT_NOTIFY | function::SERVICE => {
            status::SUBFUNC_UNSUPPORTED
        }
        other => {
            log!(Warn, "TDVMCALL {other:#x} is not offered by this host");
            status::SUBFUNC_UNSUPPORTED
        }
    };
}

/// A hostile host's answer. Registers that the call does not define carry noise. Results do too,
/// now and then, where a kernel can do without them; a wrong answer about the console or the
/// interrupt controller would only show that L1 needs both.
fn garble(vp: &mut Vp, asked: &Gprs, gprs: &mut Gprs) {
    let chaos = &mut vp.host.chaos;
    for register in [
        &mut gprs.rbx,
        &mut gprs.rdx,
        &mut gprs.rsi,
        &mut gprs.rdi,
        &mut gprs.r8,
        &mut gprs.r9,
    ] {
        *register = chaos.next();
    }
    let has_more_results =
        asked.r10 == 0 && matches!(asked.r11, function::CPUID | function::GET_TD_VM_CALL_INFO);
    if !has_more_results {
        for register in [&mut gprs.r12, &mut gprs.r13, &mut gprs.r14, &mut gprs.r15] {
            *register = chaos.next();
        }
    }
    let is_dispensable = asked.r10 != 0
        || match asked.r11 {
            function::IO => debug_port::PORTS.contains(&asked.r14),
            function::RDMSR => synic::REGISTERS.contains(&asked.r12),
            function::GET_QUOTE | function::SETUP_EVENT_NOTIFY | function::SERVICE => true,
            _ => false,
        };
    if is_dispensable && chaos.strikes(What::Result, 4) {
        let register = if chaos.below(2) == 0 {
            &mut gprs.r10
        } else {
            &mut gprs.r11
        };
        *register = chaos.garble(*register);
    }
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

/// The host offers all of the GHCI's base calls, and none of the optional ones.
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
    if let Eeq::L2Walk { vm, .. } = eeq {
        td.pages.host_add_l2_table(vm, gpa);
    } else if wants_smaller {
        let mut processor = Processor::new(vp, spaces);
        td.host_demote_page(gpa, &mut processor);
        processor.finish();
    } else {
        end_by_l1(
            End::L1,
            format_args!("the host has no memory for {exit:x?} at {:#x}", vp.rip()),
        )
    }
}

/// How the host continues after a TD exit from an L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// With the L2, as if nothing had happened.
    L2,
    /// With L1, which learns of the exit.
    L1,
}

/// A TD exit from an L2.
pub fn l2_td_exit(vp: &mut Vp, vm: VmIndex, exit: TdExit) -> Resume {
    match exit {
        TdExit::EptViolation { gpa, .. } => l2_ept_violation(vp, vm, gpa),
        // The one asynchronous exit that gets here is an NMI, and those are L1's.
        TdExit::Async { .. } => {
            vp.inject_nmi();
            Resume::L1
        }
        TdExit::L2Vmcall { mask, .. } => {
            let mut view = vp.model.l2(vm).gprs.selected(mask);
            vmcall(vp, &mut view);
            vp.model.l2_mut(vm).gprs.merge(&view, mask);
            tdx_model::l2_exit::l2_vmcall_done(vp.model, vm);
            if takes_processor(vp) {
                Resume::L1
            } else {
                Resume::L2
            }
        }
    }
}

/// The host maps shared pages for an L2 that uses the host's tables. Everything else is L1's to
/// emulate: the host has no memory there.
fn l2_ept_violation(vp: &Vp, vm: VmIndex, gpa: Gpa) -> Resume {
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    let uses_host_tables = vp.model.l2_ctls(vm) & l2_ctls::ENABLE_SHARED_EPTP != 0;
    let is_shared_page =
        gpa.is_shared() && td.pages.state(gpa.without_shared()) == PageState::Shared;
    if !uses_host_tables || !is_shared_page {
        return Resume::L1;
    }
    let mapped = spaces.set_l2(vm, gpa, Level::Size4K, Some(Rights::ALL));
    assert!(
        mapped.is_ok(),
        "the frame pool was sized for every page of every VM"
    );
    Resume::L2
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
    assert!(
        mapped.is_ok(),
        "the frame pool was sized for every page of every VM"
    );
}
