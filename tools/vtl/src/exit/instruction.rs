// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Exits that an instruction caused, and their answers. Part of [`crate::exit`].

use crate::abi::ExitInfo;
use crate::run_page::{Gpr, RunPage};
use crate::vp::{Exception, SharedRegister, Vp};
use crate::{Errno, Error, Result};

/// The instruction that caused an exit. Dropping it without an answer makes the guest execute it
/// again.
#[derive(Debug)]
pub struct Instruction<'a> {
    vp: &'a Vp,
    info: ExitInfo,
}

impl<'a> Instruction<'a> {
    pub(super) const fn new(vp: &'a Vp, info: ExitInfo) -> Self {
        Self { vp, info }
    }

    /// Steps over the instruction.
    pub fn complete(self) {
        step_over(self.vp.page(), &self.info);
        self.vp.note_step();
    }

    /// Raises `exception` instead of executing the instruction.
    ///
    /// # Errors
    /// [`Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.vp.inject(exception)
    }

    /// The registers that TDG.VP.ENTER returned.
    pub fn info(&self) -> &ExitInfo {
        &self.info
    }

    /// The processor, for fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.vp
    }

    pub(super) fn page(&self) -> &'a RunPage {
        self.vp.page()
    }
}

/// Advances RIP by the instruction length of the exit. Outside 64-bit code the instruction pointer
/// has 32 bits.
pub(super) fn step_over(page: &RunPage, info: &ExitInfo) {
    /// The L bit of the CS access rights in RSI[31:16].
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
pub struct Cpuid<'a>(pub(super) Instruction<'a>);

impl<'a> Cpuid<'a> {
    /// The processor, for fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.0.vp
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }

    /// EAX.
    pub fn leaf(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rax))
    }

    /// ECX.
    pub fn subleaf(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// Returns EAX, EBX, ECX and EDX to the guest, and steps over the instruction.
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
pub struct MsrRead<'a>(pub(super) Instruction<'a>);

impl<'a> MsrRead<'a> {
    /// ECX.
    pub fn index(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// The processor, for fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.0.vp
    }

    /// Returns EDX:EAX to the guest, and steps over the instruction.
    pub fn answer(self, value: u64) {
        let page = self.0.page();
        page.set_gpr(Gpr::Rax, value & 0xffff_ffff);
        page.set_gpr(Gpr::Rdx, value >> 32);
        self.0.complete();
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }
}

/// WRMSR.
#[derive(Debug)]
pub struct MsrWrite<'a>(pub(super) Instruction<'a>);

impl<'a> MsrWrite<'a> {
    /// ECX.
    pub fn index(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// EDX:EAX.
    pub fn value(&self) -> u64 {
        edx_eax(self.0.page())
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
    /// [`Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }
}

/// VMCALL.
#[derive(Debug)]
pub struct Vmcall<'a>(pub(super) Instruction<'a>);

impl<'a> Vmcall<'a> {
    /// The processor, for registers and fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.0.vp
    }

    /// Steps over the instruction, after the caller has set registers in the run page.
    pub fn complete(self) {
        self.0.complete();
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }

    /// A register of the caller.
    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.0.page().gpr(gpr)
    }

    /// Returns RAX to the guest, and steps over the instruction.
    pub fn answer(self, rax: u64) {
        self.0.page().set_gpr(Gpr::Rax, rax);
        self.0.complete();
    }
}

/// XSETBV.
#[derive(Debug)]
pub struct Xsetbv<'a>(pub(super) Instruction<'a>);

impl Xsetbv<'_> {
    /// ECX.
    pub fn index(&self) -> u32 {
        low(self.0.page().gpr(Gpr::Rcx))
    }

    /// EDX:EAX.
    pub fn value(&self) -> u64 {
        edx_eax(self.0.page())
    }

    /// Does what the processor would do: sets XCR0 and steps over the instruction, or injects #GP
    /// if the processor or VTL2 does not have a component of the value.
    ///
    /// # Errors
    /// [`Error::Registers`], [`Error::Tdcall`].
    pub fn execute(self) -> Result<()> {
        const XCR0: u32 = 0;
        if self.index() != XCR0 {
            return self.0.fault(Exception::GeneralProtection);
        }
        let value = [(SharedRegister::XFEM, self.value())];
        match self.0.vp.set_shared(&value) {
            Ok(()) => {
                self.0.complete();
                Ok(())
            }
            Err(Error::Registers {
                errno: Errno::EINVAL,
                ..
            }) => self.0.fault(Exception::GeneralProtection),
            Err(error) => Err(error),
        }
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.0.fault(exception)
    }
}

fn edx_eax(page: &RunPage) -> u64 {
    (page.gpr(Gpr::Rdx) << 32) | page.gpr(Gpr::Rax) & 0xffff_ffff
}

/// The low half of a register.
pub(super) fn low(value: u64) -> u32 {
    // CAST: only the lower 32 bits are meant.
    value as u32
}
