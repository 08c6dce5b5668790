// SPDX-License-Identifier: GPL-2.0
//! The model-specific registers that lower VTL and VTL2 share, and no other.

// UNSAFETY: RDMSR and WRMSR, through C.
#![allow(unsafe_code)]

use kernel::error::to_result;
use kernel::prelude::*;

use crate::cpu::features::Features;
use crate::cpu::fpu::Section;
use crate::glue::abi;
use crate::glue::ffi;
use crate::pure::msr::SharedMsrs;

/// A shared register, by its architectural number.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Msr {
    PredCmd = 0x49,
    UmwaitControl = 0xe1,
    TsxCtrl = 0x122,
    Xfd = 0x1c4,
    XfdErr = 0x1c5,
    Xss = 0xda0,
    Star = 0xc000_0081,
    Lstar = 0xc000_0082,
    Sfmask = 0xc000_0084,
    KernelGsBase = 0xc000_0102,
    TscAux = 0xc000_0103,
}

/// Reads a register. The caller knows from `Limits` that the processor has it.
pub(crate) fn read(msr: Msr, _section: &Section) -> u64 {
    // SAFETY: Reading has no side effect; of a missing register the kernel's exception table makes
    // zero.
    unsafe { abi::vtl_rdmsr(msr as u32) }
}

/// Writes a register.
///
/// VTL2 itself is indifferent to the value within a section: SYSCALL and SWAPGS happen on the way
/// from and to userspace only, XSAVES and RDPID elsewhere in the kernel, which uses neither AMX nor
/// transactions, and the caller puts the old value back before.
pub(crate) fn write(msr: Msr, value: u64, _section: &Section) {
    // SAFETY: None of the registers that `Msr` can name affects what kernel code may rely on within
    // a section, which `_section` proves; a value that `pure::msr` let through does not fault.
    unsafe { abi::vtl_wrmsr(msr as u32, value) }
}

/// Reads the shared MSRs; one that the processor lacks is zero.
pub(crate) fn read_shared(features: &Features, section: &Section) -> SharedMsrs {
    let limits = &features.limits;
    SharedMsrs {
        kernel_gs_base: read(Msr::KernelGsBase, section),
        star: read(Msr::Star, section),
        lstar: read(Msr::Lstar, section),
        sfmask: read(Msr::Sfmask, section),
        xss: limits.xss.map_or(0, |_| read(Msr::Xss, section)),
        tsc_aux: if limits.has_tsc_aux {
            read(Msr::TscAux, section)
        } else {
            0
        },
    }
}

/// Writes what differs. An MSR that the processor lacks is zero on both sides, so it never does.
pub(crate) fn write_shared(from: &SharedMsrs, to: &SharedMsrs, section: &Section) {
    let change = |msr, from: u64, to: u64| {
        if from != to {
            write(msr, to, section);
        }
    };
    change(Msr::KernelGsBase, from.kernel_gs_base, to.kernel_gs_base);
    change(Msr::Star, from.star, to.star);
    change(Msr::Lstar, from.lstar, to.lstar);
    change(Msr::Sfmask, from.sfmask, to.sfmask);
    change(Msr::Xss, from.xss, to.xss);
    change(Msr::TscAux, from.tsc_aux, to.tsc_aux);
}

/// Registers that have no place in the run page: the VP keeps the lower VTL's values.
const UNSEEN: [Msr; 4] = [Msr::UmwaitControl, Msr::TsxCtrl, Msr::Xfd, Msr::XfdErr];

/// Values of [`UNSEEN`], of one side; zero as after a reset.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unseen([u64; UNSEEN.len()]);

/// Which of [`UNSEEN`] the processor has.
pub(crate) struct UnseenMsrs([bool; UNSEEN.len()]);

impl UnseenMsrs {
    /// Looks at what the TDX module says, which lets exactly those through. [ABI TD MSR table]
    pub(crate) fn detect() -> Self {
        let extended = ffi::cpuid(7, 0);
        let has_waitpkg = extended.ecx & (1 << 5) != 0;
        let has_capabilities = extended.edx & (1 << 29) != 0;
        let has_tsx_ctrl = has_capabilities
            && read_safe(ARCH_CAPABILITIES).is_some_and(|value| value & (1 << 7) != 0);
        let has_xsave = ffi::cpuid(1, 0).ecx & (1 << 27) != 0; // OSXSAVE
        let has_xfd = has_xsave && ffi::cpuid(0xd, 1).eax & (1 << 4) != 0;
        Self([has_waitpkg, has_tsx_ctrl, has_xfd, has_xfd])
    }

    /// Loads `values`, those that differ. Returns what was there.
    pub(crate) fn exchange(&self, values: &Unseen, section: &Section) -> Unseen {
        let mut old = Unseen::default();
        let rows = UNSEEN.iter().zip(&self.0).zip(&values.0).zip(&mut old.0);
        for (((msr, _), value), old) in rows.filter(|(((_, exists), _), _)| **exists) {
            *old = read(*msr, section);
            if *old != *value {
                write(*msr, *value, section);
            }
        }
        old
    }
}

const ARCH_CAPABILITIES: u32 = 0x10a;

/// Reads any register; `None` if that faults.
fn read_safe(msr: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: Reading has no side effect, and a fault is caught.
    let result = to_result(unsafe { abi::vtl_rdmsr_safe(msr, &mut value) });
    result.is_ok().then_some(value)
}

/// IA32_VMX_CR4_FIXED1, which the TDX module emulates where a TD has L2 VMs.
const VMX_CR4_FIXED1: u32 = 0x489;

/// Reads which bits of CR4 may be set. [SDM A.8]
///
/// # Errors
///
/// EIO when the TDX module does not let this Linux read it.
pub(crate) fn read_vmx_cr4_fixed1() -> Result<u64> {
    read_safe(VMX_CR4_FIXED1).ok_or(EIO)
}
