// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Why the lower VTL stopped, and how to answer.
//!
//! [`classify`] is a total function from the registers of TDG.VP.ENTER to a
//! [`Kind`]; [`Exit`] adds the borrowed processor, so that an answer can be
//! given once and only before the next run. Made by [`crate::vp::Vp::run`].

mod control;
mod ept;
mod exception;
mod instruction;
mod port;

use crate::abi::ExitInfo;
use crate::vp::Vp;
use crate::{Status, reason};

pub use control::{Cr, CrAccess, CrOperation, Dr, DrAccess, ExceptionExit};
pub use ept::{Access, EptViolation, Mmio};
pub use instruction::{Cpuid, Instruction, MsrRead, MsrWrite, Vmcall, Xsetbv};
pub use port::{Direction, Port, PortAccess};

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Exit<'a> {
    /// CPUID.
    Cpuid(Cpuid<'a>),
    /// Port input or output.
    Port(PortAccess<'a>),
    /// RDMSR.
    MsrRead(MsrRead<'a>),
    /// WRMSR.
    MsrWrite(MsrWrite<'a>),
    /// VMCALL.
    Vmcall(Vmcall<'a>),
    /// HLT.
    Halt(Instruction<'a>),
    /// An access to a control register.
    Cr(CrAccess<'a>),
    /// An access to a debug register.
    Dr(DrAccess<'a>),
    /// XSETBV.
    Xsetbv(Xsetbv<'a>),
    /// WBINVD or WBNOINVD: [`crate::RunPage::request_cache_flush`], then complete it.
    Wbinvd(Instruction<'a>),
    /// An access that the rights of the page do not allow.
    EptViolation(EptViolation),
    /// An access to an address without memory.
    Mmio(Mmio),
    /// An exception of the guest that the exception bitmap intercepts.
    Exception(ExceptionExit),
    /// The guest can accept an interrupt: see [`Vp::watch_interrupt_window`].
    InterruptWindow,
    /// The guest can accept an NMI.
    NmiWindow,
    /// The task priority of the guest fell below the threshold.
    TprBelowThreshold,
    /// The guest ended an interrupt for which EOIs exit.
    Eoi {
        /// Vector of the interrupt.
        vector: u8,
    },
    /// The guest wrote a register of its virtual APIC that the processor does not virtualize. The
    /// value is in the page, and RIP after the instruction.
    ApicWrite {
        /// Offset of the register in the page.
        offset: u16,
    },
    /// The deadline of [`crate::RunPage::arm_deadline`] has passed, or nearly; it stays armed until it
    /// has. Compare with [`crate::tsc`].
    Deadline,
    /// INIT.
    Init,
    /// A start-up IPI.
    Sipi {
        /// Its vector.
        vector: u8,
    },
    /// The guest could not deliver an exception.
    TripleFault,
    /// The guest's state is invalid, and it did not run. An event that was to be injected is still
    /// pending for the next entry.
    EntryFailure {
        /// Basic exit reason.
        reason: u16,
        /// Exit qualification.
        qualification: u64,
    },
    /// No exit: the run was cancelled, a signal is pending for this thread, or an interrupt was
    /// requested ([`crate::RunPage::take_interrupts`]).
    Interrupted,
    /// No exit: an interrupt for this VTL was pending first, or the host had to be served. Run
    /// again.
    NotEntered(Status),
    /// Any other exit, including those that this crate does not know.
    Unknown(Instruction<'a>),
}

/// Classification of an exit by the registers of TDG.VP.ENTER alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of `Exit`")]
pub enum Kind {
    Cpuid,
    Port(Port),
    MsrRead,
    MsrWrite,
    Vmcall,
    Halt,
    Cr(Cr),
    Dr(Dr),
    Xsetbv,
    Wbinvd,
    EptViolation(EptViolation),
    Mmio(Mmio),
    Exception(ExceptionExit),
    InterruptWindow,
    NmiWindow,
    TprBelowThreshold,
    Eoi { vector: u8 },
    ApicWrite { offset: u16 },
    Deadline,
    Init,
    Sipi { vector: u8 },
    TripleFault,
    EntryFailure { reason: u16, qualification: u64 },
    NotEntered(Status),
    Unknown,
}

/// Classifies an exit [ABI TDG.VP.ENTER] [SDM3 29].
pub fn classify(info: &ExitInfo) -> Kind {
    const ENTRY_FAILURE: u32 = 1 << 31;
    let status = Status::from_raw(info.rax);
    // CAST: the basic reason is in bits 15:0; others are flags.
    let basic = status.details() as u16;
    if status.code() == Status::L2_EXIT_HOST_ROUTED_ASYNC && basic == reason::EPT_VIOLATION {
        return Kind::Mmio(Mmio::new(info));
    }
    if status.code() != Status::SUCCESS {
        return Kind::NotEntered(status);
    }
    if status.details() & ENTRY_FAILURE != 0 {
        return Kind::EntryFailure {
            reason: basic,
            qualification: info.rcx,
        };
    }
    of_reason(basic, info)
}

fn of_reason(basic: u16, info: &ExitInfo) -> Kind {
    // CAST: a vector has eight bits, and an offset in the APIC page twelve.
    let (vector, offset) = (info.rcx as u8, info.rcx as u16 & 0xfff);
    match basic {
        reason::EXCEPTION_NMI => ExceptionExit::new(info).map_or(Kind::Unknown, Kind::Exception),
        reason::TRIPLE_FAULT => Kind::TripleFault,
        reason::INIT_SIGNAL => Kind::Init,
        reason::SIPI_SIGNAL => Kind::Sipi { vector },
        reason::INTERRUPT_WINDOW => Kind::InterruptWindow,
        reason::NMI_WINDOW => Kind::NmiWindow,
        reason::CPUID => Kind::Cpuid,
        reason::HLT => Kind::Halt,
        reason::VMCALL => Kind::Vmcall,
        reason::CR_ACCESS => Kind::Cr(Cr::from_qualification(info.rcx)),
        reason::DR_ACCESS => Kind::Dr(Dr::from_qualification(info.rcx)),
        reason::IO_INSTRUCTION => Kind::Port(Port::from_qualification(info.rcx)),
        reason::MSR_READ => Kind::MsrRead,
        reason::MSR_WRITE => Kind::MsrWrite,
        reason::TPR_BELOW_THRESHOLD => Kind::TprBelowThreshold,
        reason::VIRTUALIZED_EOI => Kind::Eoi { vector },
        reason::EPT_VIOLATION if ept::is_shared(info.r8) => Kind::Mmio(Mmio::new(info)),
        reason::EPT_VIOLATION => Kind::EptViolation(EptViolation::new(info)),
        reason::PREEMPTION_TIMER => Kind::Deadline,
        reason::WBINVD => Kind::Wbinvd,
        reason::XSETBV => Kind::Xsetbv,
        reason::APIC_WRITE => Kind::ApicWrite { offset },
        _ => Kind::Unknown,
    }
}

impl<'a> Exit<'a> {
    pub(crate) fn decode(vp: &'a Vp, info: ExitInfo) -> Self {
        let instruction = Instruction::new(vp, info);
        match classify(&info) {
            Kind::Cpuid => Self::Cpuid(Cpuid(instruction)),
            Kind::Port(port) => Self::Port(PortAccess::new(instruction, port)),
            Kind::MsrRead => Self::MsrRead(MsrRead(instruction)),
            Kind::MsrWrite => Self::MsrWrite(MsrWrite(instruction)),
            Kind::Vmcall => Self::Vmcall(Vmcall(instruction)),
            Kind::Halt => Self::Halt(instruction),
            Kind::Cr(access) => Self::Cr(CrAccess {
                instruction,
                access,
            }),
            Kind::Dr(access) => Self::Dr(DrAccess {
                instruction,
                access,
            }),
            Kind::Xsetbv => Self::Xsetbv(Xsetbv(instruction)),
            Kind::Wbinvd => Self::Wbinvd(instruction),
            Kind::EptViolation(violation) => Self::EptViolation(violation),
            Kind::Mmio(mmio) => Self::Mmio(mmio),
            Kind::Exception(exception) => Self::Exception(exception),
            Kind::InterruptWindow => Self::InterruptWindow,
            Kind::NmiWindow => Self::NmiWindow,
            Kind::TprBelowThreshold => Self::TprBelowThreshold,
            Kind::Eoi { vector } => Self::Eoi { vector },
            Kind::ApicWrite { offset } => Self::ApicWrite { offset },
            Kind::Deadline => Self::Deadline,
            Kind::Init => Self::Init,
            Kind::Sipi { vector } => Self::Sipi { vector },
            Kind::TripleFault => Self::TripleFault,
            Kind::EntryFailure {
                reason,
                qualification,
            } => Self::EntryFailure {
                reason,
                qualification,
            },
            Kind::NotEntered(status) => Self::NotEntered(status),
            Kind::Unknown => Self::Unknown(instruction),
        }
    }

    /// A name under which to count exits of this kind.
    pub fn name(&self) -> &'static str {
        let basic = match self {
            Self::Cpuid(_) => reason::CPUID,
            Self::Port(_) => reason::IO_INSTRUCTION,
            Self::MsrRead(_) => reason::MSR_READ,
            Self::MsrWrite(_) => reason::MSR_WRITE,
            Self::Vmcall(_) => reason::VMCALL,
            Self::Halt(_) => reason::HLT,
            Self::Cr(_) => reason::CR_ACCESS,
            Self::Dr(_) => reason::DR_ACCESS,
            Self::Xsetbv(_) => reason::XSETBV,
            Self::Wbinvd(_) => reason::WBINVD,
            Self::EptViolation(_) => reason::EPT_VIOLATION,
            Self::Mmio(_) => return "MMIO",
            Self::Exception(_) => reason::EXCEPTION_NMI,
            Self::InterruptWindow => reason::INTERRUPT_WINDOW,
            Self::NmiWindow => reason::NMI_WINDOW,
            Self::TprBelowThreshold => reason::TPR_BELOW_THRESHOLD,
            Self::Eoi { .. } => reason::VIRTUALIZED_EOI,
            Self::ApicWrite { .. } => reason::APIC_WRITE,
            Self::Deadline => reason::PREEMPTION_TIMER,
            Self::Init => reason::INIT_SIGNAL,
            Self::Sipi { .. } => reason::SIPI_SIGNAL,
            Self::TripleFault => reason::TRIPLE_FAULT,
            Self::EntryFailure { reason, .. } => *reason,
            Self::Interrupted => return "(interrupted)",
            Self::NotEntered(_) => return "(not entered)",
            // CAST: the basic reason is in bits 15:0.
            Self::Unknown(instruction) => instruction.info().rax as u16,
        };
        reason::name(basic).unwrap_or("(unknown reason)")
    }
}

#[cfg(test)]
mod tests;
