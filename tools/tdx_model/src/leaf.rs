// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The leaves of TDCALL, one per file, and what they share.

use crate::gpa::{Gpa, VmIndex};
use crate::gprs::Gprs;
use crate::machine::{FlushScope, Machine};
use crate::page_state::PageState;
use crate::status::{Operand, Status};
use crate::td::Td;
use crate::td::td_ctls;
use crate::vcpu::Vcpu;
use crate::ve::{Category, Eeq, TdExit, VeDelivery, VeInfo};

pub(crate) mod tdg_mem_page_accept;
pub(crate) mod tdg_mem_page_attr_rd;
pub(crate) mod tdg_mem_page_attr_wr;
pub(crate) mod tdg_mem_page_release;
pub(crate) mod tdg_mr_key_get;
pub(crate) mod tdg_mr_report;
pub(crate) mod tdg_mr_rtmr_extend;
pub(crate) mod tdg_sys_rd;
pub(crate) mod tdg_sys_rdall;
pub(crate) mod tdg_vm_rd_wr;
pub(crate) mod tdg_vp_cpuidve_set;
pub(crate) mod tdg_vp_enter;
pub(crate) mod tdg_vp_info;
pub(crate) mod tdg_vp_invept;
pub(crate) mod tdg_vp_invgla;
pub(crate) mod tdg_vp_rd_wr;
pub(crate) mod tdg_vp_veinfo_get;
pub(crate) mod tdg_vp_vmcall;

/// One TDCALL in progress.
pub(crate) struct Call<'a, 'm, M> {
    pub(crate) td: &'a mut Td<'m>,
    pub(crate) vcpu: &'a mut Vcpu,
    /// Operands, then results. RAX is written by the dispatcher.
    pub(crate) gprs: &'a mut Gprs,
    pub(crate) machine: &'a mut M,
}

impl<M: Machine> Call<'_, '_, M> {
    /// The lock of the run-time measurement registers is tried once.
    fn lock_rtmrs(&mut self) -> Result<(), Stop> {
        match self.machine.are_rtmrs_busy() {
            true => Err(Status::OPERAND_BUSY.with(Operand::Rtmr as u32).into()),
            false => Ok(()),
        }
    }
}

/// How a leaf ends after its checks have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Status(Status),
    Vmcall {
        mask: u32,
    },
    EnterL2(VmIndex),
    /// Not at its end: the operands say where to go on when L1 executes the call again.
    Interrupted,
}

/// How a leaf ends before it did anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Refused(Status),
    TdExit(TdExit),
    /// #VE, or #DF, in L1.
    Exception(VeDelivery),
    /// What the module does is not defined; the text says what happened.
    Fatal(&'static str),
}

pub(crate) type Leaf = Result<Done, Stop>;

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// Success, without details.
pub(crate) const SUCCESS: Leaf = Ok(Done::Status(Status::SUCCESS));

impl Stop {
    /// An operand that is not acceptable.
    pub(crate) const fn invalid(operand: Operand) -> Self {
        Self::Refused(Status::invalid(operand))
    }

    /// The module could not use a page on L1's behalf.
    pub(crate) const fn ept_violation(gpa: Gpa, eeq: Eeq) -> Self {
        let gpa = Gpa(gpa.0 & !0xfff);
        Self::TdExit(TdExit::EptViolation {
            gpa,
            vm: None,
            qualification: 0,
            eeq,
        })
    }
}

/// A private, aligned address operand.
pub(crate) fn private_operand(raw: u64, align: u64, operand: Operand) -> Result<Gpa, Stop> {
    Gpa::private_aligned(raw, align).ok_or(Stop::invalid(operand))
}

/// Refuses non-zero bits.
pub(crate) const fn must_be_zero(bits: u64, operand: Operand) -> Result<(), Stop> {
    if bits == 0 {
        Ok(())
    } else {
        Err(Stop::invalid(operand))
    }
}

impl<M: Machine> Call<'_, '_, M> {
    /// The translation of a private operand must end in an accepted page. One that is pending is an
    /// access to it by L1 [ABI TDCALL, memory operands].
    pub(crate) fn walk_private(&mut self, gpa: Gpa) -> Result<(), Stop> {
        const EPT_VIOLATION: u32 = 48;
        match self.td.pages.state(gpa) {
            PageState::Mapped => Ok(()),
            PageState::Pending if self.td.td_ctls & td_ctls::PENDING_VE_DISABLE == 0 => {
                Err(Stop::Exception(self.vcpu.raise_ve(VeInfo {
                    reason: EPT_VIOLATION,
                    gpa: gpa.0,
                    category: Category::Pending,
                    ..VeInfo::default()
                })))
            }
            PageState::Free | PageState::Pending | PageState::Shared => {
                Err(Stop::ept_violation(gpa, Eeq::None))
            }
        }
    }

    /// A page that TDG.VP.ENTER uses: whatever is wrong with it is for the host to see.
    pub(crate) fn walk_for_entry(&self, gpa: Gpa) -> Result<(), Stop> {
        match self.td.pages.state(gpa) {
            PageState::Mapped => Ok(()),
            _ => Err(Stop::ept_violation(gpa, Eeq::None)),
        }
    }

    /// Takes the lock of a page's entry, which is tried once.
    pub(crate) fn lock_page(&mut self, gpa: Gpa) -> Result<(), Stop> {
        if self.machine.is_page_busy(gpa) {
            return Err(Status::OPERAND_BUSY.with(Operand::Rcx as u32).into());
        }
        Ok(())
    }

    /// The same as [`Self::walk_private`] for an operand that may also be shared. Returns the address
    /// without SHARED bit.
    pub(crate) fn walk_any(&mut self, gpa: Gpa) -> Result<Gpa, Stop> {
        let page = gpa.without_shared();
        if !gpa.is_shared() {
            return self.walk_private(page).map(|()| page);
        }
        match self.td.pages.state(page) {
            PageState::Shared => Ok(page),
            PageState::Free | PageState::Pending | PageState::Mapped => {
                Err(Stop::ept_violation(gpa, Eeq::None))
            }
        }
    }

    /// Flushes translations of an L2 on this logical processor. A flush of linear addresses keeps
    /// those of guest-physical addresses.
    pub(crate) fn flush_l2(&mut self, vm: VmIndex, scope: FlushScope) {
        if scope == FlushScope::Ept {
            self.td.stale.flush(self.vcpu.index, vm);
        }
        self.machine.flush_l2(vm, scope);
    }
}
