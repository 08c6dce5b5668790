// SPDX-License-Identifier: GPL-2.0
//! The model-specific registers that lower VTL and VTL2 share, and no other.

// UNSAFETY: RDMSR and WRMSR, through C.
#![allow(unsafe_code)]

use kernel::error::to_result;
use kernel::prelude::*;

use crate::cpu::features::Features;
use crate::cpu::fpu::Section;
use crate::glue::abi::{self, safe_in_c};
use crate::glue::ffi;
use crate::pure::components;
use crate::pure::msr::SharedMsrs;

// Reading has no side effect, and a fault is caught: of a register that is missing the first makes zero.
safe_in_c! {
    fn vtl_rdmsr(msr: u32) -> u64;
    fn vtl_rdmsr_safe(msr: u32, value: &mut u64 as *mut u64) -> c_int;
}

/// A shared register, by its architectural number.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Msr {
    PredCmd = 0x49,
    UmwaitControl = 0xe1,
    TsxCtrl = 0x122,
    Xfd = 0x1c4,
    XfdErr = 0x1c5,
    UCet = 0x6a0,
    Pl0Ssp = 0x6a4,
    Pl1Ssp = 0x6a5,
    Pl2Ssp = 0x6a6,
    Pl3Ssp = 0x6a7,
    Xss = 0xda0,
    Star = 0xc000_0081,
    Lstar = 0xc000_0082,
    Sfmask = 0xc000_0084,
    KernelGsBase = 0xc000_0102,
    TscAux = 0xc000_0103,
}

/// Reads a register. The caller knows from `Limits` that the processor has it.
pub(crate) fn read(msr: Msr, _section: &Section) -> u64 {
    vtl_rdmsr(msr as u32)
}

/// Writes a register.
///
/// VTL2 itself is indifferent to the value within a section: SYSCALL, SWAPGS and the shadow stacks of
/// userspace matter on the way from and to userspace only, XSAVES and RDPID elsewhere in the kernel,
/// which uses neither AMX nor transactions nor shadow stacks of its own, and the caller puts the old
/// value back before.
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

/// A register that has no place in the run page: the VP keeps the lower VTL's values.
struct UnseenMsr {
    msr: Msr,
    /// Linux has no use for it, and zero in it; else what it has is read each time.
    is_zero_at_vtl2: bool,
}

const fn unseen(msr: Msr) -> UnseenMsr {
    UnseenMsr {
        msr,
        is_zero_at_vtl2: false,
    }
}

const fn unused(msr: Msr) -> UnseenMsr {
    UnseenMsr {
        msr,
        is_zero_at_vtl2: true,
    }
}

/// As many as [`UnseenMsrs`] has bits for.
const NUM_UNSEEN: usize = u8::BITS as usize;

/// All but IA32_XFD, which concerns XSAVE. U_CET and PL3_SSP belong to the task. [TDP 2.5]
static UNSEEN: [UnseenMsr; NUM_UNSEEN] = [
    unseen(Msr::UmwaitControl),
    unseen(Msr::TsxCtrl),
    unseen(Msr::XfdErr),
    unseen(Msr::UCet),
    unseen(Msr::Pl3Ssp),
    unused(Msr::Pl0Ssp),
    unused(Msr::Pl1Ssp),
    unused(Msr::Pl2Ssp),
];

/// Values of [`UNSEEN`], of one side; zero as after a reset.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unseen([u64; NUM_UNSEEN]);

/// Which of [`UNSEEN`] the processor has, and whether it has IA32_XFD.
pub(crate) struct UnseenMsrs {
    /// Bit n: the n-th. Most processors have few, and only these cost anything.
    has: u8,
    has_xfd: bool,
}

impl UnseenMsrs {
    /// Asks the processor for those that the TDX module lets through. [ABI TD MSR table] `xfam` has
    /// the components of the TD: CPUID may hide CET from this Linux, and a lower VTL has it still.
    pub(crate) fn detect(xfam: u64) -> Self {
        let extended = ffi::cpuid(7, 0);
        let has_waitpkg = extended.ecx & (1 << 5) != 0;
        let has_capabilities = extended.edx & (1 << 29) != 0;
        let has_tsx_ctrl = has_capabilities
            && read_safe(ARCH_CAPABILITIES).is_some_and(|value| value & (1 << 7) != 0);
        let has_xfd = ffi::cpuid(0xd, 1).eax & (1 << 4) != 0;
        let has_cet = components::has_cet(xfam) && read_safe(Msr::UCet as u32).is_some();
        let mut has = 0;
        for (number, unseen) in (0..).zip(&UNSEEN) {
            let exists = match unseen.msr {
                Msr::UmwaitControl => has_waitpkg,
                Msr::TsxCtrl => has_tsx_ctrl,
                Msr::XfdErr => has_xfd,
                _ => has_cet,
            };
            has |= u8::from(exists) << number;
        }
        Self { has, has_xfd }
    }

    /// Those that exist, with the place of their values.
    fn rows(&self) -> impl Iterator<Item = (&'static UnseenMsr, usize)> {
        let mut left = self.has;
        core::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize; // CAST: at most 8
            let unseen = UNSEEN.get(place)?;
            left &= left - 1;
            Some((unseen, place))
        })
    }

    /// Loads a lower VTL's values, those that differ. Returns VTL2's.
    pub(crate) fn load(&self, lower: &Unseen, section: &Section) -> Unseen {
        let mut host = Unseen::default();
        for (unseen, place) in self.rows() {
            if !unseen.is_zero_at_vtl2 {
                host.0[place] = read(unseen.msr, section);
            }
            if host.0[place] != lower.0[place] {
                write(unseen.msr, lower.0[place], section);
            }
        }
        host
    }

    /// Loads VTL2's values, those that differ. `lower` gets what the lower VTL has left.
    pub(crate) fn unload(&self, host: &Unseen, lower: &mut Unseen, section: &Section) {
        for (unseen, place) in self.rows() {
            lower.0[place] = read(unseen.msr, section);
            if lower.0[place] != host.0[place] {
                write(unseen.msr, host.0[place], section);
            }
        }
    }
}

/// IA32_XFD, and what stands in it; without that register, zero.
pub(crate) struct Xfd<'a> {
    value: u64,
    section: &'a Section,
}

impl<'a> Xfd<'a> {
    /// Reads it.
    pub(crate) fn read(features: &Features, section: &'a Section) -> Self {
        let value = match features.unseen_msrs.has_xfd {
            true => read(Msr::Xfd, section),
            false => 0,
        };
        Self { value, section }
    }

    /// What stands in it.
    pub(crate) fn value(&self) -> u64 {
        self.value
    }

    /// Writes it, if there is something to change. Without the register every value is zero.
    pub(crate) fn change(&mut self, value: u64) {
        if self.value != value {
            write(Msr::Xfd, value, self.section);
            self.value = value;
        }
    }

    /// Gets it out of the way of an XSAVE or XRSTOR of `components`.
    pub(crate) fn clear_for(&mut self, components: impl FnOnce() -> u64) {
        if self.value != 0 && components::must_clear_xfd(self.value, components()) {
            self.change(0);
        }
    }
}

/// Bits of a linear address that WRMSR takes, which is the processor's own number, however many
/// levels VTL2 uses: LSTAR of a lower VTL may have 57 bits all the same. So the processor is asked.
pub(crate) fn address_bits() -> u8 {
    const NEEDS_57_BITS: u64 = 1 << 55;
    let section = Section::begin();
    let host = read(Msr::Lstar, &section);
    // SAFETY: No system call is made on this CPU in the section, and the value of before is put back;
    // a fault is caught.
    let result = to_result(unsafe { abi::vtl_wrmsr_safe(Msr::Lstar as u32, NEEDS_57_BITS) });
    if result.is_err() {
        return 48;
    }
    write(Msr::Lstar, host, &section);
    57
}

const ARCH_CAPABILITIES: u32 = 0x10a;

/// Reads any register; `None` if that faults.
fn read_safe(msr: u32) -> Option<u64> {
    let mut value = 0;
    to_result(vtl_rdmsr_safe(msr, &mut value))
        .is_ok()
        .then_some(value)
}

/// IA32_VMX_CR4_FIXED1, which the TDX module emulates where a TD has L2 VMs.
const VMX_CR4_FIXED1: u32 = 0x489;

/// Reads which bits of CR4 may be set. [SDM3 A.8]
///
/// # Errors
///
/// EIO when the TDX module does not let this Linux read it.
pub(crate) fn read_vmx_cr4_fixed1() -> Result<u64> {
    read_safe(VMX_CR4_FIXED1).ok_or(EIO)
}
