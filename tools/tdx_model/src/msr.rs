// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The TD's MSR policy: which MSRs run natively, which the module emulates or refuses
//! [ABI TD MSR table].
//!
//! [`l1_msr`] decides for L1, `l2_msr.rs` for exits of an L2; the values are in `vmx_msrs.rs`.

use crate::msr_reduced;
use crate::td::{Td, TdConfig, attributes, xfam};
use crate::vcpu::Vcpu;
use crate::ve::Category;
use crate::vmx_msrs;

/// IA32_XAPIC_DISABLE_STATUS.
pub(crate) const XAPIC_DISABLE_STATUS: u32 = 0xbd;
/// IA32_ARCH_CAPABILITIES.
pub(crate) const ARCH_CAPABILITIES: u32 = 0x10a;
/// IA32_MISC_ENABLE.
pub(crate) const MISC_ENABLE: u32 = 0x1a0;
/// IA32_DEBUGCTL.
pub(crate) const DEBUGCTL: u32 = 0x1d9;
/// IA32_PERF_CAPABILITIES.
pub(crate) const PERF_CAPABILITIES: u32 = 0x345;
/// IA32_XSS.
pub(crate) const XSS: u32 = 0xda0;
/// IA32_EFER.
pub(crate) const EFER: u32 = 0xc000_0080;

/// What every processor with TDX is free of or has: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO,
/// IF_PSCHANGE_MC_NO, TAA_NO, DOITM, SBDR_SSDP_NO,
/// FBSDP_NO, PSDP_NO, RRSBA.
const ARCH_CAPABILITIES_FIXED: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 12
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 19;

/// EFER.SCE: what L1 may change.
const EFER_SCE: u64 = 1;
/// EFER.SCE, LME: what an L2 of the TD may change.
pub(crate) const EFER_CHANGEABLE: u64 = 0x101;
/// EFER.LMA, which a write ignores.
pub(crate) const EFER_LMA: u64 = 1 << 10;

/// DEBUGCTL bits that exist: 2:0 and 15:6.
pub(crate) const DEBUGCTL_VALID: u64 = 0xffc7;
/// DEBUGCTL.TR and BTS.
pub(crate) const DEBUGCTL_TR_BTS: u64 = 0xc0;
/// DEBUGCTL.TR.
pub(crate) const DEBUGCTL_TR: u64 = 0x40;

/// Which of the two accesses an MSR bitmap distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// RDMSR.
    Read,
    /// WRMSR.
    Write,
}

/// An access with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// RDMSR.
    Read,
    /// WRMSR of this value.
    Write(u64),
}

impl Direction {
    /// The access without its value.
    #[must_use]
    pub const fn access(self) -> Access {
        match self {
            Self::Read => Access::Read,
            Self::Write(_) => Access::Write,
        }
    }
}

/// What the table says about an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Runs natively.
    Pass,
    /// #GP(0).
    Gp,
    /// #VE in L1, an exit to L1 from L2.
    Ve(Category),
    /// The module emulates it.
    Emulated,
}

/// What a row depends on.
#[derive(Clone, Copy)]
enum Need {
    Perfmon,
    PerfMetrics,
    PerfmonAndPt,
    Waitpkg,
    Tsx,
    Xfd,
    Pt,
    Cet,
    Pks,
    Uintr,
    Lbr,
    TscDeadline,
    Never,
}

#[derive(Clone, Copy)]
enum MsrRule {
    Pass,
    Gp,
    Ve,
    Emulated,
    PassOrGp(Need),
    PassOrEmulated(Need),
    VeIf(Need),
}

struct MsrRow {
    first: u32,
    last: u32,
    read: MsrRule,
    write: MsrRule,
}

const fn row(first: u32, last: u32, read: MsrRule, write: MsrRule) -> MsrRow {
    MsrRow {
        first,
        last,
        read,
        write,
    }
}

impl Need {
    const fn is_met(self, config: &TdConfig) -> bool {
        match self {
            Self::Perfmon => config.has_attributes(attributes::PERFMON),
            Self::PerfmonAndPt => {
                config.has_attributes(attributes::PERFMON) && config.has_xfam(xfam::PT)
            }
            Self::Waitpkg => config.cpu.has_waitpkg,
            Self::Tsx => config.cpu.has_tsx,
            Self::Xfd => config.has_xfam(xfam::TILE_DATA),
            Self::Pt => config.has_xfam(xfam::PT),
            Self::Cet => config.has_xfam(xfam::CET_U | xfam::CET_S),
            Self::Pks => config.has_attributes(attributes::PKS),
            Self::Uintr => config.has_xfam(xfam::UINTR),
            Self::Lbr => config.has_xfam(xfam::LBR),
            Self::TscDeadline => config.cpu.has_tsc_deadline,
            Self::PerfMetrics | Self::Never => false,
        }
    }
}

impl MsrRule {
    const fn resolve(self, config: &TdConfig) -> Action {
        match self {
            Self::Pass => Action::Pass,
            Self::Gp => Action::Gp,
            Self::Ve => Action::Ve(Category::NonConfigParavirt),
            Self::Emulated => Action::Emulated,
            Self::PassOrGp(need) if need.is_met(config) => Action::Pass,
            Self::PassOrGp(_) => Action::Gp,
            Self::PassOrEmulated(need) if need.is_met(config) => Action::Pass,
            Self::PassOrEmulated(_) => Action::Emulated,
            Self::VeIf(need) if need.is_met(config) => Action::Ve(Category::ConfigParavirt),
            Self::VeIf(_) => Action::Gp,
        }
    }
}

/// What the tables say; an MSR they do not list is the host's.
pub(crate) fn action(td: &Td<'_>, index: u32, access: Access) -> Action {
    msr_reduced::action(td, index, access)
        .or_else(|| listed(&td.config, index, access))
        .unwrap_or_else(|| match bitmap_position(index, access) {
            Some(_) => msr_reduced::unlisted(td),
            None => Action::Ve(Category::NonConfigParavirt),
        })
}

/// What the table of version 1.5 says.
fn listed(config: &TdConfig, index: u32, access: Access) -> Option<Action> {
    let after = ROWS.partition_point(|r| r.first <= index);
    let row = after.checked_sub(1).and_then(|i| ROWS.get(i))?;
    let rule = match access {
        Access::Read => row.read,
        Access::Write => row.write,
    };
    (index <= row.last).then(|| rule.resolve(config))
}

/// Returns true if the TD's MSR bitmap lets an access run natively.
#[must_use]
pub fn is_passed_through(td: &Td<'_>, index: u32, access: Access) -> bool {
    action(td, index, access) == Action::Pass
}

/// Word and bit of an access in a VMX MSR bitmap; `None` outside its two ranges.
pub(crate) fn bitmap_position(index: u32, access: Access) -> Option<(usize, u32)> {
    let half = match index {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => 128,
        _ => return None,
    };
    let quarter = match access {
        Access::Read => half,
        Access::Write => half + 256,
    };
    let low = index & 0x1fff;
    // CAST: at most 127.
    Some((quarter + (low >> 6) as usize, low & 63))
}

/// What happens to an MSR access of L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrAction {
    /// The processor does it.
    Native,
    /// #GP(0).
    Gp,
    /// #VE, reason 31 or 32.
    Ve(Category),
    /// RDMSR gives this value.
    Value(u64),
    /// WRMSR is done.
    Written,
    /// WRMSR sets EFER to this value; LMA is to be kept.
    SetEfer(u64),
    /// WRMSR sets IA32_XSS to this checked value.
    SetXss(u64),
}

/// Decides on an MSR access of L1. `efer` is L1's current EFER as L1 sees it.
#[must_use]
pub fn l1_msr(
    td: &Td<'_>,
    vcpu: &mut Vcpu,
    index: u32,
    direction: Direction,
    efer: u64,
) -> MsrAction {
    match action(td, index, direction.access()) {
        Action::Pass => MsrAction::Native,
        Action::Gp => MsrAction::Gp,
        Action::Ve(category) => MsrAction::Ve(category),
        Action::Emulated => msr_reduced::emulate(td, &mut vcpu.msrs, index, direction)
            .unwrap_or_else(|| match direction {
                Direction::Read => l1_read(td, index),
                Direction::Write(value) => l1_write(td, index, value, efer),
            }),
    }
}

fn l1_read(td: &Td<'_>, index: u32) -> MsrAction {
    if index == DEBUGCTL {
        return MsrAction::Native;
    }
    virtual_value(&td.config, index)
        .or_else(|| vmx_msrs::value(&td.config, index))
        .map_or(MsrAction::Gp, MsrAction::Value)
}

fn l1_write(td: &Td<'_>, index: u32, value: u64, efer: u64) -> MsrAction {
    match index {
        EFER if (value ^ efer) & !(EFER_SCE | EFER_LMA) != 0 => {
            MsrAction::Ve(Category::UnsupportedFeature)
        }
        EFER => MsrAction::SetEfer((value & EFER_SCE) | (efer & !EFER_SCE)),
        XSS if value & !td.config.xss_allowed() != 0 => MsrAction::Gp,
        XSS => MsrAction::SetXss(value),
        DEBUGCTL if value & !DEBUGCTL_VALID != 0 => MsrAction::Gp,
        DEBUGCTL if value & DEBUGCTL_TR_BTS == DEBUGCTL_TR => {
            MsrAction::Ve(Category::UnsupportedFeature)
        }
        DEBUGCTL => MsrAction::Native,
        _ => MsrAction::Gp,
    }
}

/// The value of an MSR whose reads the module answers alike in L1 and L2.
pub(crate) fn virtual_value(config: &TdConfig, index: u32) -> Option<u64> {
    match index {
        // The legacy xAPIC mode is disabled.
        XAPIC_DISABLE_STATUS => Some(1),
        ARCH_CAPABILITIES => {
            let tsx_ctrl = u64::from(config.cpu.has_tsx) << 7;
            Some(ARCH_CAPABILITIES_FIXED | tsx_ctrl)
        }
        MISC_ENABLE => Some(msr_reduced::MISC_ENABLE_VALUE),
        PERF_CAPABILITIES => Some(0),
        _ => None,
    }
}

use MsrRule::{Emulated, Gp, Pass, PassOrEmulated, PassOrGp, Ve, VeIf};
use Need::{
    Cet, Lbr, Never, PerfMetrics, Perfmon, PerfmonAndPt, Pks, Pt, TscDeadline, Tsx, Uintr, Waitpkg,
    Xfd,
};

#[rustfmt::skip]
static ROWS: &[MsrRow] = &[
    row(0x10, 0x10, Pass, Ve),
    row(0x48, 0x48, Pass, Pass),
    row(0x49, 0x49, Pass, Pass),
    row(0x87, 0x87, VeIf(Never), VeIf(Never)),
    row(0x8c, 0x8f, Gp, Gp),
    row(0x98, 0x98, Gp, Gp),
    row(0x99, 0x99, Gp, Gp),
    row(0x9a, 0x9a, Gp, Gp),
    row(0x9b, 0x9b, Gp, Gp),
    row(0x9e, 0x9e, Gp, Gp),
    row(0xbc, 0xbc, Pass, Ve),
    row(0xbd, 0xbd, Emulated, Pass),
    row(0xc1, 0xc8, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0xe1, 0xe1, PassOrGp(Waitpkg), PassOrGp(Waitpkg)),
    row(0x10a, 0x10a, Emulated, Pass),
    row(0x10b, 0x10b, Pass, Pass),
    row(0x122, 0x122, PassOrGp(Tsx), PassOrGp(Tsx)),
    row(0x174, 0x174, Pass, Pass),
    row(0x175, 0x175, Pass, Pass),
    row(0x176, 0x176, Pass, Pass),
    row(0x186, 0x18d, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x195, 0x195, Gp, Gp),
    row(0x1a0, 0x1a0, PassOrEmulated(Perfmon), Ve),
    row(0x1a6, 0x1a7, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x1c4, 0x1c4, PassOrGp(Xfd), PassOrGp(Xfd)),
    row(0x1c5, 0x1c5, PassOrGp(Xfd), PassOrGp(Xfd)),
    row(0x1d9, 0x1d9, Emulated, Emulated),
    row(0x1f8, 0x1f8, VeIf(Never), VeIf(Never)),
    row(0x1f9, 0x1f9, VeIf(Never), VeIf(Never)),
    row(0x1fa, 0x1fa, VeIf(Never), VeIf(Never)),
    row(0x276, 0x276, Gp, Gp),
    row(0x277, 0x277, Pass, Pass),
    row(0x309, 0x310, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x329, 0x329, PassOrGp(PerfMetrics), PassOrGp(PerfMetrics)),
    row(0x345, 0x345, PassOrEmulated(PerfmonAndPt), PassOrGp(Perfmon)),
    row(0x38d, 0x38d, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x38e, 0x38e, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x38f, 0x38f, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x390, 0x390, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x391, 0x391, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x392, 0x392, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x3f1, 0x3f1, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x3f2, 0x3f2, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x3f6, 0x3f6, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x3f7, 0x3f7, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x480, 0x480, Emulated, Gp),
    row(0x481, 0x481, Ve, Gp),
    row(0x482, 0x482, Ve, Gp),
    row(0x483, 0x483, Ve, Gp),
    row(0x484, 0x484, Ve, Gp),
    row(0x485, 0x485, Emulated, Gp),
    row(0x486, 0x486, Emulated, Gp),
    row(0x487, 0x487, Emulated, Gp),
    row(0x488, 0x488, Emulated, Gp),
    row(0x489, 0x489, Emulated, Gp),
    row(0x48a, 0x48a, Ve, Gp),
    row(0x48b, 0x48b, Emulated, Gp),
    row(0x48c, 0x48c, Emulated, Gp),
    row(0x48d, 0x48d, Emulated, Gp),
    row(0x48e, 0x48e, Emulated, Gp),
    row(0x48f, 0x48f, Emulated, Gp),
    row(0x490, 0x490, Emulated, Gp),
    row(0x491, 0x491, Emulated, Gp),
    row(0x492, 0x492, Emulated, Gp),
    row(0x4c1, 0x4c8, PassOrGp(Perfmon), PassOrGp(Perfmon)),
    row(0x500, 0x500, Gp, Gp),
    row(0x560, 0x560, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x561, 0x561, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x570, 0x570, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x571, 0x571, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x572, 0x572, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x580, 0x580, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x581, 0x581, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x582, 0x582, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x583, 0x583, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x584, 0x584, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x585, 0x585, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x586, 0x586, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x587, 0x587, PassOrGp(Pt), PassOrGp(Pt)),
    row(0x600, 0x600, Pass, Pass),
    row(0x6a0, 0x6a0, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6a2, 0x6a2, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6a4, 0x6a4, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6a5, 0x6a5, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6a6, 0x6a6, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6a7, 0x6a7, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6a8, 0x6a8, PassOrGp(Cet), PassOrGp(Cet)),
    row(0x6e0, 0x6e0, VeIf(TscDeadline), VeIf(TscDeadline)),
    row(0x6e1, 0x6e1, PassOrGp(Pks), PassOrGp(Pks)),
    row(0x800, 0x801, Gp, Gp),
    row(0x804, 0x807, Gp, Gp),
    row(0x808, 0x808, Pass, Pass),
    row(0x809, 0x809, Pass, Pass),
    row(0x80a, 0x80a, Pass, Pass),
    row(0x80b, 0x80b, Pass, Pass),
    row(0x80c, 0x80c, Pass, Pass),
    row(0x80e, 0x80e, Pass, Pass),
    row(0x810, 0x817, Pass, Pass),
    row(0x818, 0x81f, Pass, Pass),
    row(0x820, 0x827, Pass, Pass),
    row(0x829, 0x82e, Gp, Gp),
    row(0x831, 0x831, Gp, Gp),
    row(0x83f, 0x83f, Pass, Pass),
    row(0x840, 0x87f, Gp, Gp),
    row(0x880, 0x8bf, Gp, Gp),
    row(0x8c0, 0x8ff, Gp, Gp),
    row(0x981, 0x981, VeIf(Never), VeIf(Never)),
    row(0x982, 0x982, VeIf(Never), VeIf(Never)),
    row(0x983, 0x983, VeIf(Never), VeIf(Never)),
    row(0x984, 0x984, VeIf(Never), VeIf(Never)),
    row(0x985, 0x985, PassOrGp(Uintr), PassOrGp(Uintr)),
    row(0x986, 0x986, PassOrGp(Uintr), PassOrGp(Uintr)),
    row(0x987, 0x987, PassOrGp(Uintr), PassOrGp(Uintr)),
    row(0x988, 0x988, PassOrGp(Uintr), PassOrGp(Uintr)),
    row(0x989, 0x989, PassOrGp(Uintr), PassOrGp(Uintr)),
    row(0x98a, 0x98a, PassOrGp(Uintr), PassOrGp(Uintr)),
    row(0xc80, 0xc80, Pass, Ve),
    row(0xd90, 0xd90, Gp, Gp),
    row(0xd93, 0xd93, Gp, Gp),
    row(0xda0, 0xda0, Pass, Emulated),
    row(0x1200, 0x12ff, PassOrGp(Lbr), PassOrGp(Lbr)),
    row(0x14ce, 0x14ce, PassOrGp(Lbr), PassOrGp(Lbr)),
    row(0x14cf, 0x14cf, PassOrGp(Lbr), PassOrGp(Lbr)),
    row(0x1500, 0x15ff, PassOrGp(Lbr), PassOrGp(Lbr)),
    row(0x1600, 0x16ff, PassOrGp(Lbr), PassOrGp(Lbr)),
    row(0x1b01, 0x1b01, Pass, Pass),
    row(0xc000_0080, 0xc000_0080, Pass, Emulated),
    row(0xc000_0081, 0xc000_0081, Pass, Pass),
    row(0xc000_0082, 0xc000_0082, Pass, Pass),
    row(0xc000_0084, 0xc000_0084, Pass, Pass),
    row(0xc000_0100, 0xc000_0100, Pass, Pass),
    row(0xc000_0101, 0xc000_0101, Pass, Pass),
    row(0xc000_0102, 0xc000_0102, Pass, Pass),
    row(0xc000_0103, 0xc000_0103, Pass, Pass),
];

#[cfg(test)]
mod tests;
