// SPDX-License-Identifier: GPL-2.0
//! The MSRs that lower VTL and VTL2 share, and no others.

// UNSAFETY: RDMSR and WRMSR.
#![allow(unsafe_code)]

use core::arch::asm;

use kernel::error::to_result;
use kernel::prelude::*;

use crate::cpu::features::Features;
use crate::cpu::fpu::Section;
use crate::glue::abi::{self, safe_in_c};
use crate::glue::ffi;
use crate::pure::components;
use crate::pure::intercepts::MsrSet;
use crate::pure::msr::SharedMsrs;

// Reading has no side effect, and a fault is caught. `vtl_read_kernel_gs_base` leaves interrupts enabled,
// as it finds them: its only caller here requires it.
safe_in_c! {
    fn vtl_has_user_shadow_stacks() -> bool;
    fn vtl_read_kernel_gs_base() -> u64;
    fn vtl_rdmsr_safe(msr: u32, value: &mut u64 as *mut u64) -> c_int;
}

/// A shared MSR, by its number.
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

/// Makes the kernel handle a fault of the RDMSR or WRMSR between labels 2 and 3: it logs a line,
/// reads zero, and continues. As `native_rdmsrq()` and `native_wrmsrq()`, but without a call;
/// `rdmsrq()` and `wrmsrq()` would add the indirection for Xen PV, which is never a TD.
macro_rules! with_fixup {
    ($instruction:literal) => {
        concat!(
            "2: ",
            $instruction,
            "\n3:\n.pushsection __ex_table, \"aM\", @progbits, 12\n",
            ".balign 4\n.long 2b - .\n.long 3b - .\n.long {fixup}\n.popsection"
        )
    };
}

/// Reads an MSR. The caller knows from `Limits` that the processor has it.
#[inline]
pub(crate) fn read(msr: Msr, _section: &Section) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Reading has no side effect; for a missing MSR the kernel's exception table makes the
    // result zero.
    unsafe {
        asm!(with_fixup!("rdmsr"), in("ecx") msr as u32, out("eax") low, out("edx") high,
            fixup = const abi::vtl_fixup_VTL_FIXUP_RDMSR, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR from a word at offset `$at` of what `$values` refers to. The address serves for several,
/// and the high half need not be shifted down.
macro_rules! write_from {
    ($msr:expr, $values:expr, $at:expr, $section:expr) => {{
        let _: &Section = $section;
        // SAFETY: No MSR in `Msr` affects kernel code within a section, which `$section` proves; values
        // were checked by `pure::msr`, so they do not fault. The word is part of what is referred to.
        unsafe {
            asm!("mov eax, [{values} + {at}]", "mov edx, [{values} + {at} + 4]",
                with_fixup!("wrmsr"), in("ecx") $msr as u32, out("eax") _, out("edx") _,
                values = in(reg) core::ptr::from_ref($values), at = const $at,
                fixup = const abi::vtl_fixup_VTL_FIXUP_WRMSR,
                options(nostack, readonly, preserves_flags));
        }
    }};
}

/// Writes an MSR from its field of the [`SharedMsrs`].
macro_rules! write_field {
    ($msr:expr, $values:expr, $field:ident, $section:expr) => {{
        let values: &SharedMsrs = $values;
        let _: &u64 = &values.$field;
        write_from!(
            $msr,
            values,
            core::mem::offset_of!(SharedMsrs, $field),
            $section
        )
    }};
}

/// Writes an MSR.
///
/// The kernel does not use these MSRs inside a section: those of SYSCALL, SWAPGS and user shadow
/// stacks matter only when entering or leaving userspace, those of XSAVES and RDPID elsewhere in
/// the kernel, and the kernel itself uses neither AMX nor transactions nor shadow stacks. The
/// caller restores the old values before leaving the section.
#[inline]
pub(crate) fn write(msr: Msr, value: u64, section: &Section) {
    let values = &value;
    write_from!(msr, values, 0, section);
}

/// Reads KERNEL_GS_BASE, which a lower VTL can always change. Not to be called while an `IrqsOff` exists:
/// interrupts are enabled afterwards.
#[inline]
pub(crate) fn read_kernel_gs_base(_section: &Section) -> u64 {
    vtl_read_kernel_gs_base()
}

/// Reads the shared MSRs; one that the processor lacks is zero. Those in `steady` still have the
/// value in `loaded`, and are not read.
pub(crate) fn read_shared(
    features: &Features,
    loaded: &SharedMsrs,
    steady: MsrSet,
    section: &Section,
) -> SharedMsrs {
    let limits = &features.limits;
    let get = |set, loaded, msr| match steady.has(set) {
        true => loaded,
        false => read(msr, section),
    };
    SharedMsrs {
        kernel_gs_base: read_kernel_gs_base(section),
        star: get(MsrSet::STAR, loaded.star, Msr::Star),
        lstar: get(MsrSet::LSTAR, loaded.lstar, Msr::Lstar),
        sfmask: get(MsrSet::SFMASK, loaded.sfmask, Msr::Sfmask),
        xss: match limits.xss {
            Some(_) => get(MsrSet::XSS, loaded.xss, Msr::Xss),
            None => 0,
        },
        tsc_aux: match limits.has_tsc_aux {
            true => get(MsrSet::TSC_AUX, loaded.tsc_aux, Msr::TscAux),
            false => 0,
        },
    }
}

/// Writes those that differ, of MSRs of which `SharedMsrs::differs_as_usual` is true.
#[inline(always)]
pub(crate) fn write_usual(from: &SharedMsrs, to: &SharedMsrs, section: &Section) {
    if from.kernel_gs_base != to.kernel_gs_base {
        write_field!(Msr::KernelGsBase, to, kernel_gs_base, section);
    }
    write_field!(Msr::Star, to, star, section);
    write_field!(Msr::Lstar, to, lstar, section);
    write_field!(Msr::Sfmask, to, sfmask, section);
}

/// Writes those that differ. An MSR that the processor lacks is zero on both sides, so it is never
/// written.
#[inline(always)]
pub(crate) fn write_shared(from: &SharedMsrs, to: &SharedMsrs, section: &Section) {
    macro_rules! change {
        ($msr:expr, $field:ident) => {
            if from.$field != to.$field {
                write_field!($msr, to, $field, section);
            }
        };
    }
    change!(Msr::KernelGsBase, kernel_gs_base);
    change!(Msr::Star, star);
    change!(Msr::Lstar, lstar);
    change!(Msr::Sfmask, sfmask);
    change!(Msr::Xss, xss);
    change!(Msr::TscAux, tsc_aux);
}

/// What VTL2 has in an MSR that has no field in the run page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtVtl2 {
    /// A value that may change at any time.
    Changing,
    /// The value that the VP's first run finds: the kernel set it when it started the CPU, or firmware
    /// or a kernel before this one left it in a register that Linux does not use. IA32_XFD_ERR is zero
    /// outside the #NM handler.
    Constant,
    /// The task's value with user shadow stacks, otherwise as [`Self::Constant`].
    OfTask,
}

/// Number of bits in the sets of [`UnseenMsrs`].
const NUM_UNSEEN: usize = u8::BITS as usize;

/// All except IA32_XFD, which affects XSAVE, in the order of the bits of [`MsrSet`]. The VP keeps
/// the lower VTL's values. [TDP 2.5]
static UNSEEN: [(Msr, AtVtl2); NUM_UNSEEN] = [
    (Msr::UmwaitControl, AtVtl2::Changing),
    (Msr::TsxCtrl, AtVtl2::Constant),
    (Msr::XfdErr, AtVtl2::Constant),
    (Msr::UCet, AtVtl2::OfTask),
    (Msr::Pl3Ssp, AtVtl2::OfTask),
    (Msr::Pl0Ssp, AtVtl2::Constant),
    (Msr::Pl1Ssp, AtVtl2::Constant),
    (Msr::Pl2Ssp, AtVtl2::Constant),
];

/// Index of U_CET in [`UNSEEN`].
const U_CET: usize = 3;

/// Values of [`UNSEEN`], of a lower VTL or of VTL2; zero after a reset.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unseen([u64; NUM_UNSEEN]);

impl Unseen {
    /// IA32_U_CET.
    pub(crate) fn u_cet(&self) -> u64 {
        let Self(values) = self;
        values[U_CET]
    }
}

/// Which of [`UNSEEN`] the processor has, and if it has IA32_XFD. Most processors have few of them,
/// and only these take time.
pub(crate) struct UnseenMsrs {
    /// Bit n is set if the processor has the n-th.
    has: u8,
    /// Bit n is set if VTL2's value must be read each time.
    changing: u8,
    has_xfd: bool,
}

/// The MSRs whose bits are set, with their indices.
fn places(set: u8) -> impl Iterator<Item = (Msr, usize)> {
    let mut left = set;
    core::iter::from_fn(move || {
        let place = left.trailing_zeros() as usize; // CAST: at most 8
        let (msr, _) = UNSEEN.get(place)?;
        left &= left - 1;
        Some((*msr, place))
    })
}

impl UnseenMsrs {
    /// Finds those that the processor has and the TDX module lets through. [ABI TD MSR table]
    /// `xfam` has the components of the TD: CPUID may hide CET from this Linux, while a lower VTL
    /// has it.
    pub(crate) fn detect(xfam: u64) -> Self {
        let extended = ffi::cpuid(7, 0);
        let has_waitpkg = extended.ecx & (1 << 5) != 0;
        let has_capabilities = extended.edx & (1 << 29) != 0;
        let has_tsx_ctrl = has_capabilities
            && read_safe(ARCH_CAPABILITIES).is_some_and(|value| value & (1 << 7) != 0);
        let has_xfd = ffi::cpuid(0xd, 1).eax & (1 << 4) != 0;
        let has_cet = components::has_cet(xfam) && read_safe(Msr::UCet as u32).is_some();
        let has_shadow_stacks = vtl_has_user_shadow_stacks();
        let (mut has, mut changing) = (0, 0);
        for (number, (msr, at_vtl2)) in (0..).zip(&UNSEEN) {
            let exists = match msr {
                Msr::UmwaitControl => has_waitpkg,
                Msr::TsxCtrl => has_tsx_ctrl,
                Msr::XfdErr => has_xfd,
                _ => has_cet,
            };
            let is_changing =
                *at_vtl2 == AtVtl2::Changing || *at_vtl2 == AtVtl2::OfTask && has_shadow_stacks;
            has |= u8::from(exists) << number;
            changing |= u8::from(exists && is_changing) << number;
        }
        Self {
            has,
            changing,
            has_xfd,
        }
    }

    #[inline(always)]
    fn read(set: u8, values: &mut Unseen, section: &Section) {
        if set != 0 {
            Self::read_each(set, values, section);
        }
    }

    #[inline(never)]
    fn read_each(set: u8, values: &mut Unseen, section: &Section) {
        for (msr, place) in places(set) {
            values.0[place] = read(msr, section);
        }
    }

    /// Returns true if the processor has none, nor IA32_XFD, with which IA32_XFD_ERR always comes.
    #[inline(always)]
    pub(crate) fn are_none(&self) -> bool {
        self.has == 0
    }

    /// Reads what a lower VTL has in those that are not `steady`.
    #[inline(always)]
    pub(crate) fn save(&self, lower: &mut Unseen, steady: MsrSet, section: &Section) {
        Self::read(self.has & !steady.first_eight(), lower, section);
    }

    /// Writes those that differ.
    #[inline(always)]
    pub(crate) fn change(&self, from: &Unseen, to: &Unseen, section: &Section) {
        if self.has != 0 {
            self.change_each(from, to, section);
        }
    }

    #[inline(never)]
    fn change_each(&self, from: &Unseen, to: &Unseen, section: &Section) {
        for (msr, place) in places(self.has) {
            if from.0[place] != to.0[place] {
                write(msr, to.0[place], section);
            }
        }
    }
}

/// VTL2's values of the MSRs that it shares with lower VTLs, except IA32_XFD and IA32_SPEC_CTRL.
#[derive(Default)]
pub(crate) struct HostMsrs {
    is_known: bool,
    /// Those with a field in the run page.
    pub(crate) shared: SharedMsrs,
    /// The others.
    pub(crate) unseen: Unseen,
}

impl HostMsrs {
    /// Reads the one with a field in the run page that may have changed. The others are set once, when
    /// the kernel starts the CPU, or never.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, section: &Section) {
        self.shared.kernel_gs_base = read_kernel_gs_base(section);
    }

    /// Reads all, unless that was done: the first run of the VP assumes none to be zero.
    pub(crate) fn learn(&mut self, features: &Features, section: &Section) {
        if !self.is_known {
            self.read_all(features, section);
        }
    }

    /// Those with a field in the run page, if they were read.
    pub(crate) fn known(&self) -> Option<&SharedMsrs> {
        self.is_known.then_some(&self.shared)
    }

    /// Reads those without a field in the run page that may have changed.
    pub(crate) fn refresh_unseen(&mut self, features: &Features, section: &Section) {
        let unseen_msrs = &features.unseen_msrs;
        UnseenMsrs::read(unseen_msrs.changing, &mut self.unseen, section);
    }

    #[cold]
    fn read_all(&mut self, features: &Features, section: &Section) {
        self.is_known = true;
        self.shared = read_shared(features, &self.shared, MsrSet::NONE, section);
        UnseenMsrs::read(features.unseen_msrs.has, &mut self.unseen, section);
    }
}

/// IA32_XFD and its current value; zero if the processor lacks it.
pub(crate) struct Xfd<'a> {
    value: u64,
    section: &'a Section,
}

impl<'a> Xfd<'a> {
    /// The MSR is known to have this value.
    pub(crate) fn known(value: u64, section: &'a Section) -> Self {
        Self { value, section }
    }

    /// Reads the MSR.
    pub(crate) fn read(features: &Features, section: &'a Section) -> Self {
        let value = match features.unseen_msrs.has_xfd {
            true => read(Msr::Xfd, section),
            false => 0,
        };
        Self { value, section }
    }

    /// The current value.
    pub(crate) fn value(&self) -> u64 {
        self.value
    }

    /// Writes the MSR if the value differs. If the processor lacks it, every value is zero.
    pub(crate) fn change(&mut self, value: u64) {
        if self.value != value {
            write(Msr::Xfd, value, self.section);
            self.value = value;
        }
    }

    /// Clears it if it would affect an XSAVE or XRSTOR of `components`.
    pub(crate) fn clear_for(&mut self, components: impl FnOnce() -> u64) {
        if self.value != 0 && components::must_clear_xfd(self.value, components()) {
            self.change(0);
        }
    }
}

/// Width of a linear address that WRMSR accepts. It is the processor's own limit, independent of
/// the paging levels that VTL2 uses: LSTAR of a lower VTL may have 57 bits even with 4-level
/// paging. So this tries it out.
pub(crate) fn address_bits() -> u8 {
    const NEEDS_57_BITS: u64 = 1 << 55;
    let section = Section::begin();
    let host = read(Msr::Lstar, &section);
    // SAFETY: No system call is made on this CPU in the section, and the old value is restored
    // below; a fault is caught.
    let result = to_result(unsafe { abi::vtl_wrmsr_safe(Msr::Lstar as u32, NEEDS_57_BITS) });
    if result.is_err() {
        return 48;
    }
    write(Msr::Lstar, host, &section);
    57
}

const ARCH_CAPABILITIES: u32 = 0x10a;

/// Reads any MSR; `None` if that faults.
fn read_safe(msr: u32) -> Option<u64> {
    let mut value = 0;
    to_result(vtl_rdmsr_safe(msr, &mut value))
        .is_ok()
        .then_some(value)
}

/// IA32_VMX_CR4_FIXED1, which the TDX module emulates if a TD has L2 VMs.
const VMX_CR4_FIXED1: u32 = 0x489;

/// Reads which bits of CR4 a lower VTL may set. [SDM3 A.8]
///
/// # Errors
///
/// EIO if the TDX module does not let this Linux read it.
pub(crate) fn read_vmx_cr4_fixed1() -> Result<u64> {
    read_safe(VMX_CR4_FIXED1).ok_or(EIO)
}
