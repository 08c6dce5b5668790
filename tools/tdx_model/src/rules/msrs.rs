// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The TD's MSR policy, every MSR of both bitmap ranges [ABI TD MSR table].

use core::ops::RangeInclusive;

use crate::msr::{Access, is_passed_through};
use crate::msr::{Action, action};
use crate::td::{FeatureLevel, Td, TdConfig, td_ctls};
use crate::testing::with_td;
use crate::ve::Category;

/// Ranges of MSRs.
type Set = &'static [RangeInclusive<u32>];

/// A group of MSRs that are treated alike: read and write without and with the feature.
struct Group {
    name: &'static str,
    msrs: Set,
    without: [Action; 2],
    with: [Action; 2],
    grant: fn(&mut TdConfig),
}

const fn always(name: &'static str, msrs: Set, actions: [Action; 2]) -> Group {
    Group {
        name,
        msrs,
        without: actions,
        with: actions,
        grant: |_| {},
    }
}

/// Native with the feature, #GP without.
const fn granted(name: &'static str, msrs: Set, grant: fn(&mut TdConfig)) -> Group {
    Group {
        name,
        msrs,
        without: [Gp, Gp],
        with: [Pass, Pass],
        grant,
    }
}

use Action::{Emulated, Gp, Pass};

/// Something of the host's that is always its own, and the rest of it.
const HOST: Action = Action::Ve(Category::NonConfigParavirt);
const VE: Action = Action::Ve(Category::ConfigParavirt);

const PERFMON: fn(&mut TdConfig) = |config| config.attributes |= 1 << 63;
const PT: fn(&mut TdConfig) = |config| config.xfam |= 1 << 8;
const PERFMON_PT: fn(&mut TdConfig) = |config| {
    config.attributes |= 1 << 63;
    config.xfam |= 1 << 8;
};

static GROUPS: &[Group] = &[
    always(
        "native",
        &[
            0x48..=0x49,
            0x10b..=0x10b,
            0x174..=0x176,
            0x277..=0x277,
            0x600..=0x600,
            0x808..=0x80c,
            0x80e..=0x80e,
            0x810..=0x827,
            0x83f..=0x83f,
            0x1b01..=0x1b01,
            0xc000_0081..=0xc000_0082,
            0xc000_0084..=0xc000_0084,
            0xc000_0100..=0xc000_0103,
        ],
        [Pass, Pass],
    ),
    always(
        "read natively, written by the host",
        &[0x10..=0x10, 0xbc..=0xbc, 0xc80..=0xc80],
        [Pass, HOST],
    ),
    always(
        "forbidden",
        &[
            0x8c..=0x8f,
            0x98..=0x9b,
            0x9e..=0x9e,
            0x195..=0x195,
            0x276..=0x276,
            0x500..=0x500,
            0x800..=0x801,
            0x804..=0x807,
            0x829..=0x82e,
            0x831..=0x831,
            0x840..=0x8ff,
            0xd90..=0xd90,
            0xd93..=0xd93,
        ],
        [Gp, Gp],
    ),
    // MKTME partitioning, DCA, TME: on no processor here.
    always(
        "of features no processor has",
        &[0x87..=0x87, 0x1f8..=0x1fa, 0x981..=0x984, 0x329..=0x329],
        [Gp, Gp],
    ),
    always(
        "capabilities",
        &[0x480..=0x480, 0x485..=0x489, 0x48b..=0x492],
        [Emulated, Gp],
    ),
    always(
        "capabilities of old controls",
        &[0x481..=0x484, 0x48a..=0x48a],
        [HOST, Gp],
    ),
    always(
        "read by the module",
        &[0xbd..=0xbd, 0x10a..=0x10a],
        [Emulated, Pass],
    ),
    always(
        "written by the module",
        &[0xda0..=0xda0, 0xc000_0080..=0xc000_0080],
        [Pass, Emulated],
    ),
    always("DEBUGCTL", &[0x1d9..=0x1d9], [Emulated, Emulated]),
    granted(
        "PERFMON",
        &[
            0xc1..=0xc8,
            0x186..=0x18d,
            0x1a6..=0x1a7,
            0x309..=0x310,
            0x38d..=0x392,
            0x3f1..=0x3f2,
            0x3f6..=0x3f7,
            0x4c1..=0x4c8,
        ],
        PERFMON,
    ),
    Group {
        name: "MISC_ENABLE",
        msrs: &[0x1a0..=0x1a0],
        without: [Emulated, HOST],
        with: [Pass, HOST],
        grant: PERFMON,
    },
    Group {
        name: "PERF_CAPABILITIES",
        msrs: &[0x345..=0x345],
        without: [Emulated, Gp],
        with: [Pass, Pass],
        grant: PERFMON_PT,
    },
    granted("WAITPKG", &[0xe1..=0xe1], |c| c.cpu.has_waitpkg = true),
    granted("TSX", &[0x122..=0x122], |c| c.cpu.has_tsx = true),
    granted("XFD", &[0x1c4..=0x1c5], |c| c.xfam |= 1 << 18),
    granted("PT", &[0x560..=0x561, 0x570..=0x572, 0x580..=0x587], PT),
    granted("CET", &[0x6a0..=0x6a0, 0x6a2..=0x6a2, 0x6a4..=0x6a8], |c| {
        c.xfam |= 0x1800
    }),
    granted("PKS", &[0x6e1..=0x6e1], |c| c.attributes |= 1 << 30),
    granted("UINTR", &[0x985..=0x98a], |c| c.xfam |= 1 << 14),
    granted(
        "LBR",
        &[0x1200..=0x12ff, 0x14ce..=0x14cf, 0x1500..=0x16ff],
        |c| c.xfam |= 1 << 15,
    ),
    Group {
        name: "TSC_DEADLINE",
        msrs: &[0x6e0..=0x6e0],
        without: [Gp, Gp],
        with: [VE, VE],
        grant: |c| c.cpu.has_tsc_deadline = true,
    },
];

fn group_of(msr: u32) -> Option<&'static Group> {
    GROUPS
        .iter()
        .find(|group| group.msrs.iter().any(|range| range.contains(&msr)))
}

fn actions(td: &Td<'_>, msr: u32) -> [Action; 2] {
    [Access::Read, Access::Write].map(|access| action(td, msr, access))
}

#[test]
fn every_msr_is_treated_as_the_table_says() {
    with_td(|td, _, _| {
        let step = if cfg!(miri) { 61 } else { 1 };
        let all = (0..0x2000).chain(0xc000_0000..0xc000_2000);
        for msr in all.step_by(step) {
            let want = group_of(msr).map_or([VE, VE], |group| group.without);
            assert_eq!(actions(td, msr), want, "{msr:#x}");
            let passes = is_passed_through(td, msr, Access::Read);
            assert_eq!(passes, want[0] == Pass, "{msr:#x}");
        }
    });
}

#[test]
fn features_change_the_treatment_of_their_own_msrs_only() {
    for group in GROUPS {
        with_td(|td, _, _| {
            (group.grant)(&mut td.config);
            for msr in group.msrs.iter().cloned().flatten() {
                let got = actions(td, msr);
                assert_eq!(got, group.with, "{} {msr:#x}", group.name);
            }
        });
    }
}

#[test]
fn msrs_outside_the_bitmap_are_the_hosts() {
    with_td(|td, _, _| {
        for msr in [0x2000, 0x4000_0000, 0x4000_0080, 0xc000_2000, u32::MAX] {
            assert_eq!(actions(td, msr), [HOST, HOST], "{msr:#x}");
        }
    });
}

/// MSRs of the 2.0 line: read and write without and with TD_CTLS.REDUCE_VE, where FEATURE_PARAVIRT_CTRL
/// is 0 [ABI TD MSR table of module 2.0].
type SecondRow = (Set, [Action; 2], [Action; 2]);

#[rustfmt::skip]
static SECOND: &[SecondRow] = &[
    // Always the host's: the APIC, its base, the old machine-check registers, CSTAR.
    (&[0x0..=0x1, 0x6..=0x6, 0x1b..=0x1b, 0x80f..=0x80f, 0x828..=0x828, 0x82f..=0x830, 0x832..=0x838,
        0x83a..=0x83a, 0x83e..=0x83e, 0xc000_0083..=0xc000_0083], [HOST, HOST], [HOST, HOST]),
    (&[0x803..=0x803, 0x80d..=0x80d, 0x839..=0x839], [HOST, Gp], [HOST, Gp]),
    (&[0x10..=0x10, 0xbc..=0xbc], [Pass, HOST], [Pass, HOST]),
    (&[0x17..=0x17], [HOST, VE], [HOST, Gp]),
    // The module's where the host is not asked.
    (&[0x34..=0x34, 0x8b..=0x8b, 0x140..=0x140, 0x1a0..=0x1a0], [Emulated, Emulated], [Emulated, Emulated]),
    (&[0x3a..=0x3a, 0x4e..=0x4e, 0xce..=0xce], [Emulated, VE], [Emulated, Gp]),
    (&[0x79..=0x79], [VE, Emulated], [Gp, Emulated]),
    (&[0x802..=0x802], [Emulated, Gp], [Emulated, Gp]),
    // Machine checks, memory types, core capabilities.
    (&[0x17a..=0x17b, 0x1f2..=0x1f3, 0x1f6..=0x1f7, 0x200..=0x213, 0x250..=0x250, 0x258..=0x259,
        0x268..=0x26f, 0x280..=0x29f, 0x2a0..=0x2a7, 0x2c0..=0x2c1, 0x2ff..=0x2ff, 0x400..=0x473,
        0x4d0..=0x4d0], [VE, VE], [Gp, Gp]),
    (&[0xfe..=0xfe, 0x179..=0x179], [VE, Gp], [Gp, Gp]),
    // Core capabilities are in every TD that does not reduce its #VE.
    (&[0x33..=0x33, 0xed..=0xf0], [VE, VE], [Gp, Gp]),
    (&[0xcf..=0xcf], [VE, Gp], [Gp, Gp]),
    // Features that this host does not configure: speed, temperature, resources of the cache.
    (&[0x198..=0x19d, 0xc81..=0xc82, 0xc8d..=0xc8f, 0xc90..=0xd8f], [Gp, Gp], [Gp, Gp]),
    (&[0x3f4..=0x3f5, 0x550..=0x550, 0x83b..=0x83d], [Gp, Gp], [Gp, Gp]),
    (&[0xc80..=0xc80], [Gp, VE], [Gp, Gp]),
    // Counters by their second numbering.
    (&[0x1900..=0x1901, 0x1903..=0x1905, 0x191c..=0x191d, 0x191f..=0x191f, 0x1980..=0x1980,
        0x1983..=0x1984, 0x1998..=0x1998, 0x199b..=0x199b], [Gp, Gp], [Gp, Gp]),
    (&[0x481..=0x484, 0x48a..=0x48a], [VE, Gp], [Gp, Gp]),
    (&[0x480..=0x480, 0x485..=0x489, 0x48b..=0x492], [Emulated, Gp], [Emulated, Gp]),
    // Not listed.
    (&[0x3b..=0x3b, 0xe7..=0xe8, 0x1b0..=0x1b2, 0x611..=0x611, 0x770..=0x777, 0x1902..=0x1902,
        0x1981..=0x1982, 0x1fff..=0x1fff, 0xc000_0010..=0xc000_0010], [VE, VE], [Gp, Gp]),
];

#[test]
fn msrs_of_the_2_0_line_are_the_hosts_or_absent() {
    with_td(|td, _, _| {
        td.config.feature_level = FeatureLevel::Second;
        for (set, without, reduced) in SECOND {
            for msr in set.iter().cloned().flatten() {
                td.td_ctls = 0;
                assert_eq!(actions(td, msr), *without, "{msr:#x}");
                td.td_ctls = td_ctls::REDUCE_VE;
                assert_eq!(actions(td, msr), *reduced, "{msr:#x}, reduced");
            }
        }
        for outside in [0x2000, 0x4000_0000, 0xc000_2000] {
            assert_eq!(actions(td, outside), [HOST, HOST], "{outside:#x}");
        }
    });
}

#[test]
fn features_that_l1_asks_for_are_the_hosts_again() {
    with_td(|td, _, _| {
        td.config.feature_level = FeatureLevel::Second;
        td.config.cpu.has_tsc_deadline = true;
        td.td_ctls = td_ctls::REDUCE_VE;
        for (msr, bit) in [(0x400, 3), (0x200, 4), (0x6e0, 11)] {
            td.feature_paravirt = !(1 << bit);
            assert_eq!(actions(td, msr), [Gp, Gp], "{msr:#x}");
            td.feature_paravirt = 1 << bit;
            assert_eq!(actions(td, msr), [VE, VE], "{msr:#x}");
        }
        // What the host has not configured can't be had.
        td.feature_paravirt = 0xfff;
        assert_eq!(actions(td, 0x198), [Gp, Gp]);
        assert_eq!(actions(td, 0xcf), [Gp, Gp]);
    });
}
