// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! MSRs of a TD in the 2.0 line, where they differ from version 1.5: those that are the host's are a
//! #VE, or, with TD_CTLS.REDUCE_VE, absent or emulated [ABI TD MSR table; `msr_config_lookup.c` and
//! `td_msr_access.c` of module 2.0].
//!
//! `msr.rs` looks here first; what is not listed here is as there.

use crate::msr::{Access, Action, Direction, MISC_ENABLE, MsrAction};
use crate::td::{Td, attributes, td_ctls};
use crate::ve::Category;
use crate::ve_reduction::Feature;

/// MSRs whose value the module keeps for a virtual processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VirtualMsrs {
    misc_enable: u64,
    smi_count: u64,
    x2apic_id: u32,
}

impl VirtualMsrs {
    /// Those of a fresh virtual processor with this number.
    pub(crate) const fn new(x2apic_id: u32) -> Self {
        Self {
            misc_enable: MISC_ENABLE_VALUE,
            smi_count: 0,
            x2apic_id,
        }
    }
}

/// Fast strings; no branch trace store, no precise event sampling.
pub(crate) const MISC_ENABLE_VALUE: u64 = 1 | 1 << 11 | 1 << 12;

const SMI_COUNT: u32 = 0x34;
const FEATURE_CONTROL: u32 = 0x3a;
const PPIN_CTL: u32 = 0x4e;
const BIOS_UPDT_TRIG: u32 = 0x79;
const BIOS_SIGN_ID: u32 = 0x8b;
const PLATFORM_INFO: u32 = 0xce;
const FEATURE_ENABLES: u32 = 0x140;
const X2APIC_APICID: u32 = 0x802;

#[derive(Clone, Copy)]
enum Rule {
    /// A #VE in any case.
    Host,
    Gp,
    /// #GP with REDUCE_VE, otherwise #VE.
    Reduced,
    /// #VE if the TD has the feature, otherwise #GP.
    Of(Feature),
    /// See [`emulate`].
    Emulated,
    /// Native if the TD has PERFMON, otherwise #GP.
    Perfmon,
}

type Row = (u32, u32, Rule, Rule);

use Feature::{
    Acpi, CoreCapabilities, Dca, Est, Mca, Mtrr, Pconfig, RdtA, RdtM, Tm2, Tme, TscDeadline,
};
use Rule::{Emulated, Gp, Host, Of, Perfmon, Reduced};

#[rustfmt::skip]
static ROWS: &[Row] = &[
    (0x00, 0x01, Host, Host),
    (0x06, 0x06, Host, Host),
    (0x17, 0x17, Host, Reduced),
    (0x1b, 0x1b, Host, Host),
    (0x33, 0x33, Of(CoreCapabilities), Of(CoreCapabilities)),
    (SMI_COUNT, SMI_COUNT, Emulated, Emulated),
    (FEATURE_CONTROL, FEATURE_CONTROL, Emulated, Reduced),
    (PPIN_CTL, PPIN_CTL, Emulated, Reduced),
    (BIOS_UPDT_TRIG, BIOS_UPDT_TRIG, Reduced, Emulated),
    (0x87, 0x87, Of(Pconfig), Of(Pconfig)),
    (BIOS_SIGN_ID, BIOS_SIGN_ID, Emulated, Emulated),
    (PLATFORM_INFO, PLATFORM_INFO, Emulated, Reduced),
    (0xcf, 0xcf, Of(CoreCapabilities), Gp),
    (0xed, 0xf0, Of(CoreCapabilities), Of(CoreCapabilities)),
    (0xfe, 0xfe, Of(Mtrr), Gp),
    (FEATURE_ENABLES, FEATURE_ENABLES, Emulated, Emulated),
    (0x179, 0x179, Of(Mca), Gp),
    (0x17a, 0x17b, Of(Mca), Of(Mca)),
    (0x198, 0x199, Of(Est), Of(Est)),
    (0x19a, 0x19c, Of(Acpi), Of(Acpi)),
    (0x19d, 0x19d, Of(Tm2), Of(Tm2)),
    (MISC_ENABLE, MISC_ENABLE, Emulated, Emulated),
    (0x1f2, 0x1f3, Of(Mtrr), Of(Mtrr)),
    (0x1f6, 0x1f7, Of(Mtrr), Of(Mtrr)),
    (0x1f8, 0x1fa, Of(Dca), Of(Dca)),
    (0x200, 0x213, Of(Mtrr), Of(Mtrr)),
    (0x250, 0x250, Of(Mtrr), Of(Mtrr)),
    (0x258, 0x259, Of(Mtrr), Of(Mtrr)),
    (0x268, 0x26f, Of(Mtrr), Of(Mtrr)),
    (0x280, 0x29f, Of(Mca), Of(Mca)),
    (0x2a0, 0x2a7, Of(Mtrr), Of(Mtrr)),
    (0x2c0, 0x2c1, Of(Mtrr), Of(Mtrr)),
    (0x2ff, 0x2ff, Of(Mtrr), Of(Mtrr)),
    (0x3f4, 0x3f5, Gp, Gp),
    (0x400, 0x473, Of(Mca), Of(Mca)),
    (0x481, 0x484, Reduced, Gp),
    (0x48a, 0x48a, Reduced, Gp),
    (0x4d0, 0x4d0, Of(Mca), Of(Mca)),
    (0x550, 0x550, Gp, Gp),
    (0x6e0, 0x6e0, Of(TscDeadline), Of(TscDeadline)),
    (X2APIC_APICID, X2APIC_APICID, Emulated, Gp),
    (0x803, 0x803, Host, Gp),
    (0x80d, 0x80d, Host, Gp),
    (0x80f, 0x80f, Host, Host),
    (0x828, 0x828, Host, Host),
    (0x82f, 0x830, Host, Host),
    (0x832, 0x838, Host, Host),
    (0x839, 0x839, Host, Gp),
    (0x83a, 0x83a, Host, Host),
    (0x83b, 0x83d, Gp, Gp),
    (0x83e, 0x83e, Host, Host),
    (0x981, 0x984, Of(Tme), Of(Tme)),
    (0xc80, 0xc80, Gp, Reduced),
    (0xc81, 0xc82, Of(RdtA), Of(RdtA)),
    (0xc8d, 0xc8f, Of(RdtM), Of(RdtM)),
    (0xc90, 0xd8f, Of(RdtA), Of(RdtA)),
    (0xc000_0083, 0xc000_0083, Host, Host),
];

/// Counters and their controls by the second numbering: four MSRs for each of 8 programmable and 7
/// fixed counters.
fn counter_rule(index: u32) -> Option<Rule> {
    let is_fixed = match index {
        0x1900..=0x191f => false,
        0x1980..=0x199b => true,
        _ => return None,
    };
    match index & 3 {
        0 => Some(Perfmon),
        1 if !is_fixed => Some(Perfmon),
        3 => Some(Gp),
        _ => None,
    }
}

/// What the table says about an access; `None` if it is as in version 1.5, where it may be unlisted.
pub(crate) fn action(td: &Td<'_>, index: u32, access: Access) -> Option<Action> {
    if !td.config.is_second() {
        return None;
    }
    let after = ROWS.partition_point(|(first, ..)| *first <= index);
    let row = after.checked_sub(1).and_then(|i| ROWS.get(i));
    let listed =
        row.filter(|(_, last, ..)| index <= *last)
            .map(|(_, _, read, write)| match access {
                Access::Read => *read,
                Access::Write => *write,
            });
    Some(match listed.or_else(|| counter_rule(index))? {
        Host => Action::Ve(Category::NonConfigParavirt),
        Gp => Action::Gp,
        Reduced => unlisted(td),
        Of(feature) if td.has_msrs_of(feature) => Action::Ve(Category::ConfigParavirt),
        Of(_) => Action::Gp,
        Emulated => Action::Emulated,
        Perfmon if td.config.has_attributes(attributes::PERFMON) => Action::Pass,
        Perfmon => Action::Gp,
    })
}

/// What an access to an MSR is that no table lists.
pub(crate) fn unlisted(td: &Td<'_>) -> Action {
    if td.reduces_ve() {
        Action::Gp
    } else {
        Action::Ve(Category::ConfigParavirt)
    }
}

/// Does an access that the table calls emulated; `None` if it is as in version 1.5. Values are kept in
/// both: what an L2 reads or writes, because L1 does not intercept it, is L1's value.
pub(crate) fn emulate(
    td: &Td<'_>,
    msrs: &mut VirtualMsrs,
    index: u32,
    direction: Direction,
) -> Option<MsrAction> {
    let is_kept = matches!(
        index,
        SMI_COUNT
            | FEATURE_CONTROL
            | PPIN_CTL
            | BIOS_UPDT_TRIG
            | BIOS_SIGN_ID
            | PLATFORM_INFO
            | FEATURE_ENABLES
            | MISC_ENABLE
            | X2APIC_APICID
    );
    if !is_kept || !td.config.is_second() {
        return None;
    }
    let has_value = match (index, direction) {
        (X2APIC_APICID, _) => td.td_ctls & td_ctls::ENUM_TOPOLOGY != 0,
        (MISC_ENABLE, Direction::Read) => true,
        _ => td.reduces_ve(),
    };
    if !has_value {
        return Some(MsrAction::Ve(Category::ConfigParavirt));
    }
    Some(match direction {
        Direction::Read => MsrAction::Value(match index {
            SMI_COUNT => msrs.smi_count,
            // Locked.
            FEATURE_CONTROL | PPIN_CTL => 1,
            BIOS_SIGN_ID => 0xffff_ffff,
            MISC_ENABLE => msrs.misc_enable,
            X2APIC_APICID => u64::from(msrs.x2apic_id),
            _ => 0,
        }),
        Direction::Write(value) => match index {
            MISC_ENABLE => write_misc_enable(td, msrs, value),
            FEATURE_ENABLES if value != 0 => MsrAction::Gp,
            SMI_COUNT => {
                msrs.smi_count = value;
                MsrAction::Written
            }
            _ => MsrAction::Written,
        },
    })
}

fn write_misc_enable(td: &Td<'_>, msrs: &mut VirtualMsrs, value: u64) -> MsrAction {
    /// Bits that must be 0.
    const RESERVED: u64 = 0xffff_ffff_ff3a_e776;
    /// Performance monitoring, no branch trace store, no precise event sampling: read-only.
    const READ_ONLY: u64 = 1 << 7 | 1 << 11 | 1 << 12;
    const EST: u64 = 1 << 16;
    const MONITOR_FSM: u64 = 1 << 18;
    const LIMIT_CPUID: u64 = 1 << 22;
    /// No TD has the update of task priorities that this would disable.
    const XTPR_DISABLE: u64 = 1 << 23;
    let needs_est = value & EST != 0 && !td.has_msrs_of(Est);
    if value & RESERVED != 0 || needs_est {
        return MsrAction::Gp;
    }
    if (value ^ msrs.misc_enable) & MONITOR_FSM != 0 || value & LIMIT_CPUID != 0 {
        return MsrAction::Ve(Category::UnsupportedFeature);
    }
    if value & XTPR_DISABLE != 0 {
        return MsrAction::Gp;
    }
    msrs.misc_enable = (value & !READ_ONLY) | (msrs.misc_enable & READ_ONLY);
    MsrAction::Written
}

#[cfg(test)]
mod tests;
