// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Why the lower VTL stopped, and how to answer.
//!
//! [`classify`] is a total function from the registers of TDG.VP.ENTER to a
//! [`Kind`]; [`Exit`] adds the borrowed processor, so that an answer can be
//! given once and only before the next run. Made by [`crate::vp::Vp::run`].

mod ept;
mod port;

use crate::abi::ExitInfo;
use crate::run_page::{Gpr, RunPage};
use crate::vp::{Exception, Vp};
use crate::{Result, Status, reason};

pub use ept::{Access, EptViolation, Mmio};
pub use port::{Direction, Port, PortAccess};

/// How a run ended.
#[derive(Debug)]
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
    /// An access the rights of the page do not allow.
    EptViolation(EptViolation),
    /// An access to where there is no memory.
    Mmio(Mmio),
    /// The guest could not deliver an exception.
    TripleFault,
    /// The guest's state is invalid; the guest did not run.
    EntryFailure {
        /// Basic exit reason.
        reason: u16,
        /// Exit qualification.
        qualification: u64,
    },
    /// No exit: cancelled, or a signal for this thread.
    Interrupted,
    /// No exit: an interrupt for this level came first, or the host asked to
    /// be served. Run again.
    NotEntered(Status),
    /// Any other exit, or one this crate does not know.
    Unknown(ExitInfo),
}

/// What the registers of TDG.VP.ENTER say, without the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CPUID.
    Cpuid,
    /// Port input or output.
    Port(Port),
    /// RDMSR.
    MsrRead,
    /// WRMSR.
    MsrWrite,
    /// VMCALL.
    Vmcall,
    /// HLT.
    Halt,
    /// An access the rights of the page do not allow.
    EptViolation(EptViolation),
    /// An access to where there is no memory.
    Mmio(Mmio),
    /// Triple fault.
    TripleFault,
    /// Invalid guest state.
    EntryFailure {
        /// Basic exit reason.
        reason: u16,
        /// Exit qualification.
        qualification: u64,
    },
    /// The status is not that of an exit for this level.
    NotEntered(Status),
    /// Any other exit.
    Unknown,
}

/// Decides what an exit is [ABI TDG.VP.ENTER] [SDM3 29].
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
    match basic {
        reason::CPUID => Kind::Cpuid,
        reason::IO_INSTRUCTION => Kind::Port(Port::from_qualification(info.rcx)),
        reason::MSR_READ => Kind::MsrRead,
        reason::MSR_WRITE => Kind::MsrWrite,
        reason::VMCALL => Kind::Vmcall,
        reason::HLT => Kind::Halt,
        reason::EPT_VIOLATION if ept::is_shared(info.r8) => Kind::Mmio(Mmio::new(info)),
        reason::EPT_VIOLATION => Kind::EptViolation(EptViolation::new(info)),
        reason::TRIPLE_FAULT => Kind::TripleFault,
        _ => Kind::Unknown,
    }
}

impl<'a> Exit<'a> {
    pub(crate) fn decode(vp: &'a Vp) -> Self {
        let info = vp.page().exit_info();
        let instruction = Instruction { vp, info };
        match classify(&info) {
            Kind::Cpuid => Self::Cpuid(Cpuid(instruction)),
            Kind::Port(port) => Self::Port(PortAccess::new(instruction, port)),
            Kind::MsrRead => Self::MsrRead(MsrRead(instruction)),
            Kind::MsrWrite => Self::MsrWrite(MsrWrite(instruction)),
            Kind::Vmcall => Self::Vmcall(Vmcall(instruction)),
            Kind::Halt => Self::Halt(instruction),
            Kind::EptViolation(violation) => Self::EptViolation(violation),
            Kind::Mmio(mmio) => Self::Mmio(mmio),
            Kind::TripleFault => Self::TripleFault,
            Kind::EntryFailure {
                reason,
                qualification,
            } => Self::EntryFailure {
                reason,
                qualification,
            },
            Kind::NotEntered(status) => Self::NotEntered(status),
            Kind::Unknown => Self::Unknown(info),
        }
    }

    /// A name to count exits by.
    pub fn name(&self) -> &'static str {
        let basic = match self {
            Self::Cpuid(_) => reason::CPUID,
            Self::Port(_) => reason::IO_INSTRUCTION,
            Self::MsrRead(_) => reason::MSR_READ,
            Self::MsrWrite(_) => reason::MSR_WRITE,
            Self::Vmcall(_) => reason::VMCALL,
            Self::Halt(_) => reason::HLT,
            Self::EptViolation(_) => reason::EPT_VIOLATION,
            Self::Mmio(_) => return "MMIO",
            Self::TripleFault => reason::TRIPLE_FAULT,
            Self::EntryFailure { reason, .. } => *reason,
            Self::Interrupted => return "(interrupted)",
            Self::NotEntered(_) => return "(not entered)",
            // CAST: the basic reason is in bits 15:0.
            Self::Unknown(info) => info.rax as u16,
        };
        reason::name(basic).unwrap_or("(unknown reason)")
    }
}

/// The instruction an exit is about. Dropping it without an answer executes
/// the same instruction again.
#[derive(Debug)]
pub struct Instruction<'a> {
    vp: &'a Vp,
    info: ExitInfo,
}

impl Instruction<'_> {
    /// Steps over the instruction.
    pub fn complete(self) {
        step_over(self.vp.page(), &self.info);
    }

    /// Raises `exception` instead of executing the instruction.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.vp.inject(exception)
    }

    fn page(&self) -> &RunPage {
        self.vp.page()
    }

    /// The processor, for fields of the L2 VMCS.
    pub fn vp(&self) -> &Vp {
        self.vp
    }
}

/// Advances RIP by the length the exit reported. Outside 64-bit code the
/// instruction pointer has 32 bits.
fn step_over(page: &RunPage, info: &ExitInfo) {
    /// L of the CS access rights in RSI[31:16].
    const CS_L: u64 = 1 << (16 + 13);
    let length = info.r11 >> 32;
    let mut rip = page.rip().wrapping_add(length);
    if info.rsi & CS_L == 0 {
        rip &= 0xffff_ffff;
    }
    page.set_rip(rip);
}

/// CPUID.
#[derive(Debug)]
pub struct Cpuid<'a>(Instruction<'a>);

impl Cpuid<'_> {
    /// EAX.
    pub fn leaf(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rax))
    }

    /// ECX.
    pub fn subleaf(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// Gives EAX, EBX, ECX and EDX, and steps over the instruction.
    pub fn answer(self, [eax, ebx, ecx, edx]: [u32; 4]) {
        let page = self.0.page();
        page.set_gpr(Gpr::Rax, u64::from(eax));
        page.set_gpr(Gpr::Rbx, u64::from(ebx));
        page.set_gpr(Gpr::Rcx, u64::from(ecx));
        page.set_gpr(Gpr::Rdx, u64::from(edx));
        self.0.complete();
    }
}

/// RDMSR.
#[derive(Debug)]
pub struct MsrRead<'a>(Instruction<'a>);

impl<'a> MsrRead<'a> {
    /// ECX.
    pub fn index(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// The processor, for fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.0.vp
    }

    /// Gives EDX:EAX, and steps over the instruction.
    pub fn answer(self, value: u64) {
        let page = self.0.page();
        page.set_gpr(Gpr::Rax, value & 0xffff_ffff);
        page.set_gpr(Gpr::Rdx, value >> 32);
        self.0.complete();
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }
}

/// WRMSR.
#[derive(Debug)]
pub struct MsrWrite<'a>(Instruction<'a>);

impl<'a> MsrWrite<'a> {
    /// ECX.
    pub fn index(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// EDX:EAX.
    pub fn value(&self) -> u64 {
        let page = self.0.page();
        (page.gpr(Gpr::Rdx) << 32) | page.gpr(Gpr::Rax) & 0xffff_ffff
    }

    /// The processor, for fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.0.vp
    }

    /// Steps over the instruction.
    pub fn complete(self) {
        self.0.complete();
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }
}

/// VMCALL.
#[derive(Debug)]
pub struct Vmcall<'a>(Instruction<'a>);

impl Vmcall<'_> {
    /// A register of the caller.
    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.0.page().gpr(gpr)
    }

    /// Gives RAX, and steps over the instruction.
    pub fn answer(self, rax: u64) {
        self.0.page().set_gpr(Gpr::Rax, rax);
        self.0.complete();
    }
}

/// The low half of a register.
fn low(value: u64) -> u32 {
    // CAST: exactly the lower 32 bits are asked for.
    value as u32
}

#[cfg(test)]
mod tests;
