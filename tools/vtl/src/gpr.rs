// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Names of the registers in the run page.

/// A general register of the lower VTL, in x86 register-number order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// All registers with their names.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Rax, "rax"),
        (Self::Rbx, "rbx"),
        (Self::Rcx, "rcx"),
        (Self::Rdx, "rdx"),
        (Self::Rsi, "rsi"),
        (Self::Rdi, "rdi"),
        (Self::Rbp, "rbp"),
        (Self::Rsp, "rsp"),
        (Self::R8, "r8"),
        (Self::R9, "r9"),
        (Self::R10, "r10"),
        (Self::R11, "r11"),
        (Self::R12, "r12"),
        (Self::R13, "r13"),
        (Self::R14, "r14"),
        (Self::R15, "r15"),
    ];

    /// The register with this number, as encoded in instructions and exit qualifications.
    ///
    /// ```
    /// assert_eq!(vtl::Gpr::from_number(4), Some(vtl::Gpr::Rsp));
    /// assert_eq!(vtl::Gpr::from_number(16), None);
    /// ```
    pub fn from_number(number: usize) -> Option<Self> {
        Self::ALL
            .into_iter()
            .map(|(gpr, _)| gpr)
            .find(|gpr| *gpr as usize == number)
    }
}

/// State the kernel switches beside the general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchedState {
    /// IA32_KERNEL_GS_BASE.
    KernelGsBase,
    /// IA32_STAR.
    Star,
    /// IA32_LSTAR.
    Lstar,
    /// IA32_FMASK.
    Sfmask,
    /// IA32_XSS.
    Xss,
    /// CR2.
    Cr2,
    /// IA32_TSC_AUX.
    TscAux,
}

impl SwitchedState {
    /// All of them, in the order of the run page.
    pub const ALL: [Self; 7] = [
        Self::KernelGsBase,
        Self::Star,
        Self::Lstar,
        Self::Sfmask,
        Self::Xss,
        Self::Cr2,
        Self::TscAux,
    ];
}

/// The general registers, and the others that TDG.VP.ENTER and the kernel switch: all of a lower
/// VTL's state in the run page.
///
/// [`RunPage::registers`](crate::RunPage::registers) makes a copy,
/// [`RunPage::set_registers`](crate::RunPage::set_registers) writes one: to inspect a lower VTL, to
/// save and restore it, or to run another one on the same virtual processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// By [`Gpr`].
    pub gprs: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    /// Shadow-stack pointer.
    pub ssp: u64,
    /// Highest requesting virtual interrupt.
    pub rvi: u8,
    /// Highest virtual interrupt in service.
    pub svi: u8,
    /// By [`SwitchedState`].
    pub switched: [u64; 7],
}
