// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The TD-wide state (TDCS): configuration, page table, controls and measurements.
//!
//! One per TD, shared by its virtual processors; the emulator locks it and passes it as `&mut`.

use sha2::{Digest as _, Sha384};

use crate::gpa::{Gpa, Level, VmIndex};
use crate::page_state::Pages;
use crate::stale::Stale;

/// ATTRIBUTES bits the model acts on.
pub mod attributes {
    /// Debug TD.
    pub const DEBUG: u64 = 1 << 0;
    /// An access to a pending page is a TD exit, not a #VE.
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
    /// Supervisor protection keys.
    pub const PKS: u64 = 1 << 30;
    /// Performance monitoring.
    pub const PERFMON: u64 = 1 << 63;
}

/// XFAM bits the model acts on.
pub mod xfam {
    /// Intel PT.
    pub const PT: u64 = 1 << 8;
    /// User protection keys.
    pub const PKU: u64 = 1 << 9;
    /// CET, user part.
    pub const CET_U: u64 = 1 << 11;
    /// CET, supervisor part.
    pub const CET_S: u64 = 1 << 12;
    /// User interrupts.
    pub const UINTR: u64 = 1 << 14;
    /// Architectural last-branch records.
    pub const LBR: u64 = 1 << 15;
    /// AMX tile data, which comes with XFD.
    pub const TILE_DATA: u64 = 1 << 18;
    /// Components managed by IA32_XSS.
    pub const SUPERVISOR: u64 = PT | CET_U | CET_S | UINTR | LBR;
}

/// CONFIG_FLAGS bits the model acts on.
pub mod config_flags {
    /// TD_CTLS.PENDING_VE_DISABLE may be changed.
    pub const FLEXIBLE_PENDING_VE: u64 = 1 << 1;
    /// TDG.VP.VMCALL must not expose RBP.
    pub const NO_RBP_MOD: u64 = 1 << 2;
    /// TDG.MEM.PAGE.RELEASE exists. Later modules only.
    pub const PAGE_RELEASE: u64 = 1 << 6;
    /// TDG.MR.KEY.GET gives keys, and TD_CTLS.ENABLE_HW_SEAL_KEYS may be changed. Later modules only.
    pub const SEALING: u64 = 1 << 7;
}

/// TD_CTLS bits the model has.
pub mod td_ctls {
    /// An access to a pending page is a TD exit, not a #VE.
    pub const PENDING_VE_DISABLE: u64 = 1 << 0;
    /// CPUID tells the topology: leaves 0xb and 0x1f.
    pub const ENUM_TOPOLOGY: u64 = 1 << 1;
    /// CPUID leaf 2 has a value.
    pub const VIRT_CPUID2: u64 = 1 << 2;
    /// CPUID leaves and MSRs of which L1 would have to ask the host are absent instead of a #VE.
    pub const REDUCE_VE: u64 = 1 << 3;
    /// Keys for sealing depend on the processor. Nothing of the model does.
    pub const ENABLE_HW_SEAL_KEYS: u64 = 1 << 4;
    /// TD_CTLS and FEATURE_PARAVIRT_CTRL can't be changed any more.
    pub const LOCK: u64 = 1 << 63;
}

/// What the processor below can do, as far as the semantics depend on it.
#[derive(Clone, Copy, Debug)]
pub struct CpuFeatures {
    /// IA32_VMX_CR4_FIXED1: CR4 bits the processor allows to be set.
    pub cr4_fixed1: u64,
    /// IA32_XSS bits the processor supports.
    pub xss: u64,
    /// IA32_TSX_CTRL exists.
    pub has_tsx: bool,
    /// UMWAIT and TPAUSE exist.
    pub has_waitpkg: bool,
    /// IA32_TSC_DEADLINE exists.
    pub has_tsc_deadline: bool,
}

/// What of later modules there is besides version 1.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureLevel {
    /// Nothing.
    Base,
    /// TDG.MEM.PAGE.RELEASE and TDG.MR.KEY.GET if CONFIG_FLAGS reports them, and L2_VM_ENTRY_FAILED.
    Later,
    /// What is published of the 2.0 line: TD_CTLS has ENUM_TOPOLOGY, VIRT_CPUID2, REDUCE_VE and LOCK.
    Second,
}

impl FeatureLevel {
    /// The level with this number.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Base),
            1 => Some(Self::Later),
            2 => Some(Self::Second),
            _ => None,
        }
    }
}

/// What the host does about the tables that small pages need in the secure EPT of an L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Tables {
    /// They are all there.
    Given,
    /// The host adds them on request: VM_CTLS.EPT_VIOLATION_ON_L2_SEPT_WALK_FAILURE is set.
    OnDemand,
    /// They do not exist and the host is not asked: L1 gets L2_SEPT_WALK_FAILED.
    Withheld,
}

/// What the TD was built with.
#[derive(Clone, Copy, Debug)]
pub struct TdConfig {
    /// ATTRIBUTES.
    pub attributes: u64,
    /// XFAM.
    pub xfam: u64,
    /// CONFIG_FLAGS.
    pub config_flags: u64,
    /// Virtual processors that exist.
    pub num_vcpus: u32,
    /// Virtual processors there could be.
    pub max_vcpus: u32,
    /// L2 VMs, 0 to 3.
    pub num_l2_vms: u8,
    /// Frequency of the virtual TSC.
    pub tsc_khz: u32,
    /// TD_UUID.
    pub uuid: [u64; 4],
    /// The processor below.
    pub cpu: CpuFeatures,
    /// What of later modules there is.
    pub feature_level: FeatureLevel,
    /// Tables of the L2 VMs.
    pub l2_tables: L2Tables,
}

impl TdConfig {
    /// Returns true if TDG.MEM.PAGE.RELEASE exists.
    pub(crate) fn has_page_release(&self) -> bool {
        self.is_later() && self.config_flags & config_flags::PAGE_RELEASE != 0
    }

    /// Returns true if the module is later than the first of version 1.5.
    pub(crate) fn is_later(&self) -> bool {
        self.feature_level >= FeatureLevel::Later
    }

    /// Returns true if the module is of the 2.0 line.
    pub(crate) fn is_second(&self) -> bool {
        self.feature_level >= FeatureLevel::Second
    }

    /// Bits of TD_CTLS that L1 may name in a write.
    pub(crate) fn td_ctls_write_mask(&self) -> u64 {
        let has_sealing = self.is_later() && self.config_flags & config_flags::SEALING != 0;
        let sealing = if has_sealing {
            td_ctls::ENABLE_HW_SEAL_KEYS
        } else {
            0
        };
        let second = if self.is_second() {
            td_ctls::ENUM_TOPOLOGY | td_ctls::VIRT_CPUID2 | td_ctls::REDUCE_VE | td_ctls::LOCK
        } else {
            0
        };
        td_ctls::PENDING_VE_DISABLE | second | sealing
    }

    /// Returns true if all these ATTRIBUTES are set.
    #[must_use]
    pub const fn has_attributes(&self, bits: u64) -> bool {
        self.attributes & bits == bits
    }

    /// Returns true if all these XFAM components are granted.
    #[must_use]
    pub const fn has_xfam(&self, bits: u64) -> bool {
        self.xfam & bits == bits
    }

    /// CR4 bits that the processor has and the TD was granted, fixed ones excluded.
    pub(crate) const fn cr4_allowed(&self) -> u64 {
        let mut allowed = self.cpu.cr4_fixed1 & !(1 << 13);
        // Key Locker is never granted.
        allowed &= !(1 << 19);
        if !self.has_xfam(xfam::PKU) {
            allowed &= !(1 << 22);
        }
        if !self.has_xfam(xfam::CET_U | xfam::CET_S) {
            allowed &= !(1 << 23);
        }
        if !self.has_attributes(attributes::PKS) {
            allowed &= !(1 << 24);
        }
        if !self.has_xfam(xfam::UINTR) {
            allowed &= !(1 << 25);
        }
        allowed
    }

    /// IA32_XSS bits a virtual processor of this TD may set.
    #[must_use]
    pub const fn xss_allowed(&self) -> u64 {
        self.xfam & self.cpu.xss & xfam::SUPERVISOR
    }

    /// The L2 VM with this number, if the TD has it.
    #[must_use]
    pub fn l2_vm(&self, number: u64) -> Option<VmIndex> {
        VmIndex::new(number).filter(|vm| vm.number() <= self.num_l2_vms)
    }
}

/// Measurement registers: SHA-384 values.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Measurements {
    pub mrtd: [u8; 48],
    pub mrconfigid: [u8; 48],
    pub mrowner: [u8; 48],
    pub mrownerconfig: [u8; 48],
    pub rtmr: [[u8; 48]; 4],
}

impl Measurements {
    /// Extends a run-time measurement register, if there is one with this index.
    pub fn extend(&mut self, index: usize, digest: &[u8; 48]) {
        if let Some(rtmr) = self.rtmr.get_mut(index) {
            let hash = Sha384::new().chain_update(*rtmr).chain_update(digest);
            *rtmr = hash.finalize().into();
        }
    }
}

/// The TD.
#[derive(Debug)]
pub struct Td<'m> {
    /// What it was built with.
    pub config: TdConfig,
    /// Its secure EPT.
    pub pages: Pages<'m>,
    /// What L2 VMs can still do although L1 revoked it. The builder of the TD provides the memory.
    pub stale: Stale<'m>,
    /// TD_CTLS.
    pub td_ctls: u64,
    /// FEATURE_PARAVIRT_CTRL.
    pub feature_paravirt: u64,
    /// NOTIFY_ENABLES.
    pub notify_enables: u64,
    /// Measurement registers; the builder of the TD fills in MRTD.
    pub measurements: Measurements,
}

impl Td<'_> {
    /// Returns true if the secure EPT of an L2 reaches down to an entry of this level.
    pub(crate) fn has_l2_table(&self, vm: VmIndex, gpa: Gpa, level: Level) -> bool {
        level > Level::Size4K
            || self.config.l2_tables == L2Tables::Given
            || self.pages.has_l2_table(vm, gpa)
    }
}

impl<'m> Td<'m> {
    /// A TD just built. `num_l2_vms` above 3 counts as 3.
    #[must_use]
    pub fn new(mut config: TdConfig, pages: Pages<'m>) -> Self {
        config.num_l2_vms = config.num_l2_vms.min(3);
        let td_ctls = if config.has_attributes(attributes::SEPT_VE_DISABLE) {
            td_ctls::PENDING_VE_DISABLE
        } else {
            0
        };
        Self {
            config,
            pages,
            stale: Stale::new(&mut []),
            td_ctls,
            feature_paravirt: 0,
            notify_enables: 0,
            measurements: Measurements {
                mrtd: [0; 48],
                mrconfigid: [0; 48],
                mrowner: [0; 48],
                mrownerconfig: [0; 48],
                rtmr: [[0; 48]; 4],
            },
        }
    }
}
