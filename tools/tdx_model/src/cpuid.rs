// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The CPUID that L1 sees: the processor's values, restricted to the TD's features, and leaf 0x21.
//!
//! An L2's CPUID always exits to L1, so the model does not handle it [ABI CPUID].

use crate::td::{TdConfig, attributes, xfam};
use crate::vcpu::Vcpu;

/// The four registers CPUID returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CpuidResult {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// What happens to a CPUID of L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuidOutcome {
    /// It returns these values.
    Value(CpuidResult),
    /// #VE, reason 10.
    Ve,
}

/// CPUID as L1 executes it.
#[derive(Clone, Copy, Debug)]
pub struct CpuidRequest {
    /// EAX.
    pub leaf: u32,
    /// ECX.
    pub subleaf: u32,
    /// What the processor below answers.
    pub native: CpuidResult,
    /// The highest basic leaf of the processor below: leaf 0, EAX.
    pub native_max_basic: u32,
    /// The highest extended leaf of the processor below: leaf 0x8000_0000, EAX.
    pub native_max_extended: u32,
    /// L1's privilege level.
    pub cpl: u8,
}

/// The highest basic leaf of a TD.
const MAX_BASIC: u32 = 0x23;
const TDX_LEAF: u32 = 0x21;

/// Decides on a CPUID of L1.
#[must_use]
pub fn l1_cpuid(config: &TdConfig, vcpu: &Vcpu, request: &CpuidRequest) -> CpuidOutcome {
    if vcpu.cpuid_is_ve(request.cpl) {
        return CpuidOutcome::Ve;
    }
    match request.leaf {
        // Leaves the module virtualizes as absent.
        leaf if leaf <= MAX_BASIC && leaf > request.native_max_basic && leaf != TDX_LEAF => {
            CpuidOutcome::Value(fixed(config, leaf).unwrap_or_default())
        }
        leaf if leaf <= MAX_BASIC => CpuidOutcome::Value(basic(config, request)),
        leaf if (0x8000_0000..=request.native_max_extended).contains(&leaf) => {
            CpuidOutcome::Value(extended(leaf, request.native))
        }
        // Hypervisor leaves, and all unknown ones.
        _ => CpuidOutcome::Ve,
    }
}

/// Leaves whose value does not depend on the processor.
fn fixed(config: &TdConfig, leaf: u32) -> Option<CpuidResult> {
    match leaf {
        // TSC: crystal of 1 GHz, ratio in MHz, so that the kernel's 32-bit arithmetic holds.
        0x15 => Some(CpuidResult {
            eax: 1000,
            ebx: config.tsc_khz / 1000,
            ecx: 1_000_000_000,
            edx: 0,
        }),
        // "IntelTDX    " in EBX, EDX, ECX.
        TDX_LEAF => Some(CpuidResult {
            eax: 0,
            ebx: u32::from_le_bytes(*b"Inte"),
            ecx: u32::from_le_bytes(*b"    "),
            edx: u32::from_le_bytes(*b"lTDX"),
        }),
        _ => None,
    }
}

fn basic(config: &TdConfig, request: &CpuidRequest) -> CpuidResult {
    let mut r = request.native;
    if let Some(value) = fixed(config, request.leaf) {
        return value;
    }
    let has_perfmon = config.has_attributes(attributes::PERFMON);
    match (request.leaf, request.subleaf) {
        (0, _) => r.eax = MAX_BASIC,
        (1, _) => mask_leaf_1(&mut r, has_perfmon),
        (7, 0) => virtualize_leaf_7(config, &mut r),
        (7, 1) => {
            // LASS, FRED and LKGS, HRESET, user MSR and the rest of new system features.
            r.eax &= 1 << 4 | 1 << 5 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 23;
        }
        // EDX: controls of IA32_SPEC_CTRL, in every TD: PSFD, IPRED_CTRL, RRSBA_CTRL, BHI_CTRL.
        (7, 2) => r.edx |= 1 | 1 << 1 | 1 << 2 | 1 << 4,
        (0xa | 0x23, _) if !has_perfmon => r = CpuidResult::default(),
        (0xd, 0) => {
            // CAST: halves of XFAM.
            r.eax &= config.xfam as u32;
            r.edx &= (config.xfam >> 32) as u32;
        }
        (0xd, 1) => {
            r.ecx &= config.xss_allowed() as u32;
            r.edx &= (config.xss_allowed() >> 32) as u32;
        }
        // SGX, PT, key locker, and hypervisor-only leaves.
        (0x12 | 0x19 | 0x20 | 0x22, _) => r = CpuidResult::default(),
        (0x14, _) if !config.has_xfam(xfam::PT) => r = CpuidResult::default(),
        (0x1c, _) if !config.has_xfam(xfam::LBR) => r = CpuidResult::default(),
        _ => {}
    }
    r
}

fn mask_leaf_1(r: &mut CpuidResult, has_perfmon: bool) {
    const HYPERVISOR: u32 = 1 << 31;
    const X2APIC: u32 = 1 << 21;
    // MONITOR, VMX, SMX, EIST, TM2, xTPR, DCA.
    const HIDDEN: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 14 | 1 << 18;
    const PERFMON: u32 = 1 << 2 | 1 << 4 | 1 << 15;
    r.ecx = (r.ecx & !HIDDEN) | HYPERVISOR | X2APIC;
    if !has_perfmon {
        r.ecx &= !PERFMON;
    }
    // ACPI thermal, TM, PBE: thermal control is the host's.
    r.edx &= !(1 << 22 | 1 << 29 | 1 << 31);
}

fn virtualize_leaf_7(config: &TdConfig, r: &mut CpuidResult) {
    // EBX: SGX, platform QoS monitoring and allocation.
    r.ebx &= !(1 << 2 | 1 << 12 | 1 << 15);
    if !config.has_xfam(xfam::PT) {
        r.ebx &= !(1 << 25);
    }
    // ECX: TME, key locker, SGX launch control, ENQCMD.
    r.ecx &= !(1 << 13 | 1 << 23 | 1 << 29 | 1 << 30);
    if !config.cpu.has_waitpkg {
        r.ecx &= !(1 << 5);
    }
    if !config.has_xfam(xfam::PKU) {
        r.ecx &= !(1 << 3 | 1 << 4);
    }
    if !config.has_attributes(attributes::PKS) {
        r.ecx &= !(1 << 31);
    }
    if !config.has_xfam(xfam::CET_U | xfam::CET_S) {
        r.ecx &= !(1 << 7);
        r.edx &= !(1 << 20);
    }
    if !config.has_xfam(xfam::UINTR) {
        r.edx &= !(1 << 5);
    }
    if !config.has_xfam(xfam::LBR) {
        r.edx &= !(1 << 19);
    }
    if !config.has_xfam(xfam::TILE_DATA) {
        r.edx &= !(1 << 22 | 1 << 24 | 1 << 25);
    }
    // EDX: PCONFIG.
    r.edx &= !(1 << 18);
    // What stops speculation is in every TD: MD_CLEAR, IBRS and IBPB, STIBP, SSBD, and
    // IA32_ARCH_CAPABILITIES. More of it is in subleaf 2.
    r.edx |= 1 << 10 | 1 << 26 | 1 << 27 | 1 << 29 | 1 << 31;
    r.eax = r.eax.max(2);
}

fn extended(leaf: u32, native: CpuidResult) -> CpuidResult {
    let mut r = native;
    match leaf {
        // SVM and SKINIT, which the emulator may use itself.
        0x8000_0001 => r.ecx &= !(1 << 2 | 1 << 12),
        0x8000_000a | 0x8000_001f => r = CpuidResult::default(),
        _ => {}
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_td;

    const ONES: CpuidResult = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };

    fn request(leaf: u32, subleaf: u32) -> CpuidRequest {
        CpuidRequest {
            leaf,
            subleaf,
            native: ONES,
            native_max_basic: 0xd,
            native_max_extended: 0x8000_001f,
            cpl: 0,
        }
    }

    fn value(config: &TdConfig, vcpu: &Vcpu, leaf: u32, subleaf: u32) -> CpuidResult {
        match l1_cpuid(config, vcpu, &request(leaf, subleaf)) {
            CpuidOutcome::Value(value) => value,
            CpuidOutcome::Ve => panic!("leaf {leaf:#x} is a #VE"),
        }
    }

    #[test]
    fn td_names_itself_and_hides_virtualization() {
        with_td(|td, vcpu, _| {
            let tdx = value(&td.config, vcpu, 0x21, 0);
            assert_eq!((tdx.eax, tdx.ebx), (0, 0x6574_6e49));
            assert_eq!((tdx.ecx, tdx.edx), (0x2020_2020, 0x5844_546c));
            assert_eq!(value(&td.config, vcpu, 0, 0).eax, 0x23);
            let one = value(&td.config, vcpu, 1, 0);
            assert_eq!((one.ecx >> 5 & 1, one.ecx >> 31), (0, 1));
            assert_eq!(value(&td.config, vcpu, 0x8000_0001, 0).ecx >> 2 & 1, 0);
            assert_eq!(
                value(&td.config, vcpu, 0x8000_000a, 0),
                CpuidResult::default()
            );
            assert_eq!(value(&td.config, vcpu, 0xd, 0).eax, 0x207);
        });
    }

    #[test]
    fn tsc_leaf_fits_the_kernels_arithmetic() {
        with_td(|td, vcpu, _| {
            let r = value(&td.config, vcpu, 0x15, 0);
            assert_eq!((r.eax, r.ebx, r.ecx), (1000, 2450, 1_000_000_000));
            assert_eq!(value(&td.config, vcpu, 0x16, 0), CpuidResult::default());
        });
    }

    #[test]
    fn hypervisor_and_unknown_leaves_are_ve() {
        with_td(|td, vcpu, _| {
            for leaf in [
                0x4000_0000,
                0x4fff_ffff,
                0x24,
                0x8000_0020,
                0xc000_0000,
                u32::MAX,
            ] {
                assert_eq!(
                    l1_cpuid(&td.config, vcpu, &request(leaf, 0)),
                    CpuidOutcome::Ve
                );
            }
            vcpu.cpuid_user_ve = 1;
            let user = CpuidRequest {
                cpl: 3,
                ..request(0, 0)
            };
            assert_eq!(l1_cpuid(&td.config, vcpu, &user), CpuidOutcome::Ve);
        });
    }

    #[test]
    fn what_stops_speculation_is_there_whatever_the_processor_has() {
        with_td(|td, vcpu, _| {
            let edx = |subleaf| {
                let request = CpuidRequest {
                    native: CpuidResult::default(),
                    ..request(7, subleaf)
                };
                match l1_cpuid(&td.config, vcpu, &request) {
                    CpuidOutcome::Value(value) => value.edx,
                    CpuidOutcome::Ve => panic!("leaf 7 is virtualized"),
                }
            };
            assert_eq!((edx(0), edx(1), edx(2)), (0xac00_0400, 0, 0x17));
        });
    }
}
