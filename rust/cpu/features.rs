// SPDX-License-Identifier: GPL-2.0
//! Features of processor and trust domain, read once when the module loads.

use kernel::prelude::*;

use crate::cpu::fpu::{self, Format};
use crate::cpu::mitigation;
use crate::cpu::msr::{self, UnseenMsrs};
use crate::cpu::tdcall;
use crate::glue::ffi::{self, Cpuid};
use crate::module_parameters;
use crate::pure::components;
use crate::pure::field::FieldId;
use crate::pure::mitigation::Mitigations;
use crate::pure::msr::Limits;
use crate::pure::storm;
use crate::pure::tdcall::tdg_vm_rd;
use crate::pure::xsave::{Area, Layout};

/// Facts that never change while the module is loaded.
pub(crate) struct Features {
    /// What an entry may load.
    pub(crate) limits: Limits,
    /// How extended state is saved.
    pub(crate) format: Format,
    /// Extended state as userspace sees it.
    pub(crate) layout: Layout,
    /// Speculation defences carried out on each switch.
    pub(crate) mitigations: Mitigations,
    /// Shared MSRs that have no field in the run page.
    pub(crate) unseen_msrs: UnseenMsrs,
    /// Protection keys are enabled.
    pub(crate) has_pkru: bool,
    /// Largest distance of two exits of a storm, in TSC ticks.
    pub(crate) storm_spacing_ticks: u64,
}

/// CPUID leaf that names the TDX module. [ABI CPUID 0x21]
const LEAF_TDX: u32 = 0x21;
const TDX_SIGNATURE: [u32; 3] = [0x6574_6e49, 0x5844_546c, 0x2020_2020]; // "IntelTDX    "

impl Features {
    /// Reads the features.
    ///
    /// # Errors
    ///
    /// EINVAL for an invalid parameter; ENODEV outside a TD, in a TD without L2 VMs, and if this
    /// kernel does not use XSAVE. A line in the log says which. ENOMEM.
    pub(crate) fn detect() -> Result<Self> {
        if !is_td() {
            pr_err!("not loaded: CPUID leaf 0x21 does not report a TDX guest; this module runs inside a TD\n");
            return Err(ENODEV);
        }
        let num_l2_vms = num_l2_vms()?;
        // Every processor with TDX has XSAVE. A kernel that does not use it can't switch the
        // components that a lower VTL enables.
        let Some(format) = Format::detect() else {
            pr_err!("not loaded: this kernel does not use XSAVE; boot it without \"noxsave\"\n");
            return Err(ENODEV);
        };
        let extended = ffi::cpuid(7, 0);
        let limits = Limits {
            num_l2_vms,
            address_bits: msr::address_bits(),
            xss: xss_mask(),
            has_tsc_aux: ffi::cpuid(0x8000_0001, 0).edx & (1 << 27) != 0,
            mxcsr: fpu::mxcsr_mask(format)?,
        };
        // IBRS, STIBP or SSBD.
        let has_spec_ctrl = extended.edx & (1 << 26 | 1 << 27 | 1 << 31) != 0;
        Ok(Self {
            limits,
            unseen_msrs: UnseenMsrs::detect(xfam()?),
            has_pkru: extended.ecx & (1 << 4) != 0, // OSPKE
            layout: Layout::new(format.xcr0(), format.len_bytes(), xsave_area),
            format,
            mitigations: mitigation::choose(has_spec_ctrl)?,
            storm_spacing_ticks: storm::spacing_ticks(
                module_parameters::storm_spacing_us.value(),
                ffi::tsc_khz(),
            ),
        })
    }
}

fn xsave_area(component: u32) -> Area {
    let Cpuid { eax, ebx, .. } = ffi::cpuid(0xd, component);
    Area {
        offset: ebx,
        len_bytes: eax,
    }
}

fn is_td() -> bool {
    if ffi::cpuid(0, 0).eax < LEAF_TDX {
        return false;
    }
    let Cpuid { ebx, ecx, edx, .. } = ffi::cpuid(LEAF_TDX, 0);
    [ebx, edx, ecx] == TDX_SIGNATURE
}

fn num_l2_vms() -> Result<u8> {
    match tdg_vm_rd(&mut tdcall::Instruction, FieldId::NUM_L2_VMS) {
        Ok(count @ 1..=3) => Ok(count as u8), // CAST: at most 3
        Ok(count) => {
            pr_err!("not loaded: the TD has {count} L2 VMs (NUM_L2_VMS), 1 to 3 are needed\n");
            Err(ENODEV)
        }
        Err(status) => {
            let status = status.0;
            pr_err!("not loaded: reading NUM_L2_VMS of the TD failed with status {status:#x}\n");
            Err(ENODEV)
        }
    }
}

/// XFAM of the TD.
fn xfam() -> Result<u64> {
    tdg_vm_rd(&mut tdcall::Instruction, FieldId::XFAM).map_err(|status| {
        let status = status.0;
        pr_err!("not loaded: reading XFAM of the TD failed with status {status:#x}\n");
        ENODEV
    })
}

/// Components that IA32_XSS of a lower VTL may enable; `None` without XSAVES.
fn xss_mask() -> Option<u64> {
    let Cpuid { eax, ecx, edx, .. } = ffi::cpuid(0xd, 1);
    (eax & (1 << 3) != 0).then(|| components::xss(u64::from(edx) << 32 | u64::from(ecx)))
}
