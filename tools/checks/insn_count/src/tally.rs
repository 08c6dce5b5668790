// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The counts: of the passage a vCPU is in, and the cheapest of each path.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::boot::{Boot, EntryToInit, ResetToInit};
use crate::classify::Kind;
use crate::marker::{Marker, PATHS, SETTINGS};

/// What one passage through a path cost L1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cost {
    /// Instructions of the kernel.
    pub instructions: u64,
    /// RDMSR and WRMSR among them.
    pub msr: u64,
    /// TDCALLs among them.
    pub tdcall: u64,
    /// Saves and restores of FPU state among them.
    pub fpu: u64,
    /// Locked operations among them.
    pub locked: u64,
}

impl Cost {
    fn add(&mut self, kind: Kind) {
        self.instructions += 1;
        self.msr += u64::from(kind.msr);
        self.tdcall += u64::from(kind.tdcall);
        self.fpu += u64::from(kind.fpu);
        self.locked += u64::from(kind.locked);
    }
}

/// How often each instruction was executed, by its address.
type Profile = BTreeMap<u64, u64>;

/// An instruction of the kernel.
#[derive(Clone, Copy)]
struct Site {
    address: u64,
    kind: Kind,
}

/// A pass through a path that has not ended.
struct Passage {
    path: u8,
    cost: Cost,
    profile: Profile,
}

/// All counts of a machine.
#[derive(Default)]
pub struct Tally {
    sites: Vec<Site>,
    running: BTreeMap<u32, Passage>,
    setting: u8,
    /// By setting and path.
    cheapest: BTreeMap<(u8, u8), Cost>,
    /// Addresses are wanted, too.
    has_profiles: bool,
    /// Those of the cheapest passages.
    profiles: BTreeMap<(u8, u8), Profile>,
    /// The boot, where that is what is counted.
    pub boot: Boot,
}

/// Name of a path in the report; `None` if there is no such path or setting.
fn name(setting: u8, path: u8) -> Option<String> {
    let path = PATHS.get(usize::from(path))?;
    Some(match *SETTINGS.get(usize::from(setting))? {
        "" => String::from(*path),
        setting => format!("{setting}_{path}"),
    })
}

impl Tally {
    /// A tally without any passage.
    pub const fn new() -> Self {
        Tally {
            sites: Vec::new(),
            running: BTreeMap::new(),
            setting: 0,
            cheapest: BTreeMap::new(),
            has_profiles: false,
            profiles: BTreeMap::new(),
            boot: Boot::new(),
        }
    }

    /// The report shall say at which addresses the passages were.
    pub fn keep_profiles(&mut self) {
        self.has_profiles = true;
    }

    /// Records an instruction. Returns its number for [`Tally::count`].
    pub fn site(&mut self, address: u64, kind: Kind) -> usize {
        self.sites.push(Site { address, kind });
        self.sites.len() - 1
    }

    /// The vCPU executed a marker. An end without its begin is ignored.
    pub fn mark(&mut self, vcpu: u32, marker: Marker) {
        match marker {
            Marker::Begin(path) => {
                let passage = Passage {
                    path,
                    cost: Cost::default(),
                    profile: Profile::new(),
                };
                self.running.insert(vcpu, passage);
            }
            Marker::End(path) => match self.running.remove(&vcpu) {
                Some(passage) if passage.path == path => self.end(passage),
                _ => {}
            },
            Marker::Setting(setting) => self.setting = setting,
            Marker::Init | Marker::Runs(_) => {}
        }
    }

    fn end(&mut self, passage: Passage) {
        let key = (self.setting, passage.path);
        let best = self.cheapest.get(&key);
        if best.is_some_and(|best| *best <= passage.cost) {
            return;
        }
        self.cheapest.insert(key, passage.cost);
        if self.has_profiles {
            self.profiles.insert(key, passage.profile);
        }
    }

    /// The vCPU executed an instruction of the kernel that [`Tally::site`] has numbered.
    pub fn count(&mut self, vcpu: u32, site: usize) {
        let Some(Site { address, kind }) = self.sites.get(site).copied() else {
            return;
        };
        if let Some(passage) = self.running.get_mut(&vcpu) {
            passage.cost.add(kind);
            if self.has_profiles {
                *passage.profile.entry(address).or_default() += 1;
            }
        }
    }

    /// The report, in the form of `build/bench.json`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Report {
            paths: BTreeMap<String, Cost>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            profiles: BTreeMap<String, BTreeMap<String, u64>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reset_to_init: Option<ResetToInit>,
            #[serde(skip_serializing_if = "Option::is_none")]
            entry_to_init: Option<EntryToInit>,
        }
        let paths = self
            .cheapest
            .iter()
            .filter_map(|((setting, path), cost)| Some((name(*setting, *path)?, *cost)))
            .collect();
        let in_hex = |profile: &Profile| {
            let addresses = profile.iter();
            addresses
                .map(|(address, count)| (format!("{address:x}"), *count))
                .collect()
        };
        let profiles = self
            .profiles
            .iter()
            .filter_map(|((setting, path), profile)| {
                Some((name(*setting, *path)?, in_hex(profile)))
            })
            .collect();
        let report = Report {
            paths,
            profiles,
            reset_to_init: self.boot.reset_to_init(),
            entry_to_init: self.boot.entry_to_init(),
        };
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Kind, Marker, Tally};

    const PLAIN: Kind = Kind {
        msr: false,
        tdcall: false,
        fpu: false,
        locked: false,
    };

    fn passage(tally: &mut Tally, vcpu: u32, instructions: usize) {
        tally.mark(vcpu, Marker::Begin(1));
        let site = tally.site(0xffff_ffff_8100_0000, PLAIN);
        for _ in 0..instructions {
            tally.count(vcpu, site);
        }
        tally.mark(vcpu, Marker::End(1));
    }

    #[test]
    fn the_cheapest_passage_is_kept() {
        let mut tally = Tally::new();
        for n in [9, 5, 7] {
            passage(&mut tally, 0, n);
        }
        assert_eq!(
            tally.cheapest[&(0, 1)],
            Cost {
                instructions: 5,
                ..Cost::default()
            }
        );
    }

    #[test]
    fn nothing_is_counted_outside_a_passage() {
        let mut tally = Tally::new();
        let site = tally.site(1, PLAIN);
        tally.count(0, site);
        tally.mark(0, Marker::End(1));
        assert!(tally.cheapest.is_empty());
    }

    #[test]
    fn vcpus_do_not_count_into_each_other() {
        let mut tally = Tally::new();
        tally.mark(0, Marker::Begin(1));
        let site = tally.site(1, PLAIN);
        tally.count(1, site);
        tally.mark(0, Marker::End(1));
        assert_eq!(tally.cheapest[&(0, 1)], Cost::default());
    }

    #[test]
    fn each_setting_has_figures_of_its_own() {
        let mut tally = Tally::new();
        passage(&mut tally, 0, 9);
        tally.mark(0, Marker::Setting(3));
        passage(&mut tally, 0, 5);
        let report: serde_json::Value = serde_json::from_str(&tally.to_json()).unwrap();
        assert_eq!(report["paths"]["null_ioctl"]["instructions"], 9);
        let listed = &report["paths"]["mitigation_rsb_null_ioctl"];
        assert_eq!(listed["instructions"], 5);
    }

    #[test]
    fn a_profile_has_the_addresses_of_the_cheapest_passage() {
        let mut tally = Tally::new();
        tally.keep_profiles();
        let sites = [0xffff_8000, 0xffff_8004].map(|address| tally.site(address, PLAIN));
        let mut pass = |path, first, second| {
            tally.mark(0, Marker::Begin(path));
            for (site, times) in sites.into_iter().zip([first, second]) {
                (0..times).for_each(|_| tally.count(0, site));
            }
            tally.mark(0, Marker::End(path));
        };
        pass(1, 3, 3);
        pass(1, 2, 1);
        pass(1, 1, 9);
        pass(2, 1, 0);
        let report: serde_json::Value = serde_json::from_str(&tally.to_json()).unwrap();
        assert_eq!(
            report["profiles"],
            serde_json::json!({
                "null_ioctl": { "ffff8000": 2, "ffff8004": 1 },
                "user_round_trip": { "ffff8000": 1 },
            })
        );
    }

    #[test]
    fn kinds_are_counted_apart_and_reported_by_name() {
        let mut tally = Tally::new();
        tally.mark(0, Marker::Begin(2));
        let locked_msr = Kind {
            msr: true,
            locked: true,
            ..PLAIN
        };
        let tdcall = Kind {
            tdcall: true,
            ..PLAIN
        };
        for kind in [locked_msr, tdcall] {
            let site = tally.site(1, kind);
            tally.count(0, site);
        }
        tally.mark(0, Marker::End(2));
        let report: serde_json::Value = serde_json::from_str(&tally.to_json()).unwrap();
        let path = &report["paths"]["user_round_trip"];
        assert_eq!(path["instructions"], 2);
        assert_eq!(path["msr"], 1);
        assert_eq!(path["tdcall"], 1);
        assert_eq!(path["locked"], 1);
        assert_eq!(path["fpu"], 0);
    }
}
