// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Facts about module and trust domain, and counters of a virtual processor,
//! as the kernel's structures hold them.

use crate::audit::ExitKind;

/// Facts that do not change while the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Version of the module: major, minor, patch.
    pub version: (u16, u16, u16),
    /// Bit n: the kernel answers 1 for capability 0x100 + n.
    pub capabilities: u64,
    /// TDX_FEATURES0 of the TDX module; 0 where it does not tell.
    pub tdx_features0: u64,
    /// ATTRIBUTES of the trust domain.
    pub attributes: u64,
    /// XFAM of the trust domain.
    pub xfam: u64,
    /// Frequency of the time-stamp counter.
    pub tsc_khz: u64,
    /// L2 VMs of the trust domain.
    pub num_l2_vms: u32,
    /// One more than the highest CPU number there can be.
    pub num_cpus: u32,
    /// Records in the audit ring of a virtual processor.
    pub audit_records: u32,
    /// Kinds of exit that are counted.
    pub exit_kinds: u32,
}

impl Info {
    /// Size of the kernel's structure in words.
    pub(crate) const WORDS: usize = 9;

    pub(crate) fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let [
            _,
            version,
            capabilities,
            tdx_features0,
            attributes,
            xfam,
            tsc_khz,
            ..,
        ] = *words;
        let (num_l2_vms, num_cpus) = halves(words[7]);
        let (audit_records, exit_kinds) = halves(words[8]);
        // CAST: 16 bits each.
        let part = |shift: u32| (version >> shift) as u16;
        Self {
            version: (part(32), part(16), part(0)),
            capabilities,
            tdx_features0,
            attributes,
            xfam,
            tsc_khz,
            num_l2_vms,
            num_cpus,
            audit_records,
            exit_kinds,
        }
    }
}

/// A leaf that userspace may execute by TDCALL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLine {
    /// Number of the leaf.
    pub leaf: u16,
    /// Version of the leaf.
    pub version: u8,
    /// Its name in the specification.
    pub name: String,
    /// What of it is allowed, and why.
    pub reason: String,
}

impl PolicyLine {
    /// Size of the kernel's structure in words.
    pub(crate) const WORDS: usize = 22;

    pub(crate) fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let text = |words: &[u64]| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            // CAST: bits 15:0 and 23:16.
            leaf: words[1] as u16,
            version: (words[1] >> 16) as u8,
            name: text(&words[3..6]),
            reason: text(&words[6..]),
        }
    }
}

/// What the kernel refuses, in the order of its counters.
pub const REFUSALS: [&str; 8] = [
    "EINTR",
    "EBUSY",
    "EINVAL",
    "EOPNOTSUPP",
    "EIO",
    "OTHER",
    "TDCALL",
    "HVCALL",
];

/// Exits of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStats {
    /// The kind.
    pub kind: ExitKind,
    /// How many.
    pub count: u64,
    /// Those after which the kernel entered again by itself.
    pub handled: u64,
    /// TSC ticks from entry to exit.
    pub cycles: u64,
}

/// Exit storms: [`Storms::EXITS`] exits that the host causes, one right after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storms {
    /// How many.
    pub count: u64,
    /// TSC ticks that they took, together.
    pub ticks: u64,
    /// TSC ticks of the shortest; 0 without one.
    pub shortest_ticks: u64,
}

impl Storms {
    /// Exits of a storm.
    pub const EXITS: u64 = 1024;

    /// Mean ticks from one exit to the next; `None` without a storm.
    #[must_use]
    pub const fn spacing_ticks(&self) -> Option<u64> {
        self.ticks
            .checked_div(self.count.saturating_mul(Self::EXITS - 1))
    }
}

/// Counters of one virtual processor since the module was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Refusals, as [`REFUSALS`] names them.
    pub refused: [u64; REFUSALS.len()],
    /// Exits that userspace got because the lower VTL made no progress.
    pub stalls: u64,
    /// Exits by kind; kinds that never came are left out.
    pub exits: Vec<ExitStats>,
    /// What looks like a host that watches a lower VTL step by step.
    pub storms: Storms,
}

impl Stats {
    const KINDS: usize = 104;
    /// Of the words, the number of exit kinds, behind all refusals but the last.
    const KNOWN: usize = REFUSALS.len();
    const EXITS: usize = Self::KNOWN + 1;
    /// Refused hypercalls. A module that does not know them leaves the word as it was: zero.
    const HVCALLS: usize = Self::EXITS + 3 * Self::KINDS;
    /// Lower VTLs that made no progress; likewise.
    const STALLS: usize = Self::HVCALLS + 1;
    /// Size of the kernel's structure in words.
    pub(crate) const WORDS: usize = Self::STALLS + 4;

    pub(crate) fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let known = words[Self::KNOWN];
        let exits = words[Self::EXITS..Self::HVCALLS]
            .chunks_exact(3)
            .zip(0u8..)
            .filter(|(exit, kind)| u64::from(*kind) < known && exit[0] != 0)
            .map(|(exit, kind)| ExitStats {
                kind: ExitKind(kind),
                count: exit[0],
                handled: exit[1],
                cycles: exit[2],
            })
            .collect();
        Self {
            refused: core::array::from_fn(|index| match index + 1 {
                Self::KNOWN => words[Self::HVCALLS],
                word => words[word],
            }),
            stalls: words[Self::STALLS],
            exits,
            storms: Storms {
                count: words[Self::STALLS + 1],
                ticks: words[Self::STALLS + 2],
                shortest_ticks: words[Self::STALLS + 3],
            },
        }
    }
}

/// Two neighbours in memory.
fn halves(word: u64) -> (u32, u32) {
    // CAST: low and high half.
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_where_the_abi_says() {
        let words = [
            72,
            (1 << 32) | (2 << 16) | 3,
            7,
            0x80,
            0x10,
            3,
            2_000_000,
            (8 << 32) | 2,
            (104 << 32) | 1024,
        ];
        let info = Info::from_words(&words);
        assert_eq!(info.version, (1, 2, 3));
        assert_eq!((info.num_l2_vms, info.num_cpus), (2, 8));
        assert_eq!((info.audit_records, info.exit_kinds), (1024, 104));
        assert_eq!(
            (info.xfam, info.attributes, info.tdx_features0),
            (3, 0x10, 0x80)
        );
    }

    #[test]
    fn only_exits_that_came_are_listed() {
        let mut words = [0; Stats::WORDS];
        words[1..9].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 104]);
        words[321..326].copy_from_slice(&[8, 9, 2, 20_460, 9000]);
        let cpuid = Stats::EXITS + 30;
        words[cpuid..cpuid + 3].copy_from_slice(&[5, 1, 900]);
        let stats = Stats::from_words(&words);
        assert_eq!(stats.refused, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(stats.stalls, 9);
        let expected = ExitStats {
            kind: ExitKind(10),
            count: 5,
            handled: 1,
            cycles: 900,
        };
        assert_eq!(stats.exits, [expected]);
        let storms = stats.storms;
        assert_eq!((storms.count, storms.shortest_ticks), (2, 9000));
        assert_eq!(storms.spacing_ticks(), Some(10));
        assert_eq!(Storms::default().spacing_ticks(), None);
    }
}
