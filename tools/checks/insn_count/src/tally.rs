// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The counts: of the passage a vCPU is in, and the cheapest of each path.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::classify::Kind;
use crate::marker::{Marker, PATHS, SETTINGS};

/// What one passage through a path cost L1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cost {
    /// Instructions, user and kernel, markers not included.
    pub l1_instructions: u64,
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
        self.l1_instructions += 1;
        self.msr += u64::from(kind.msr);
        self.tdcall += u64::from(kind.tdcall);
        self.fpu += u64::from(kind.fpu);
        self.locked += u64::from(kind.locked);
    }
}

/// All counts of a machine.
#[derive(Default)]
pub struct Tally {
    running: BTreeMap<u32, (u8, Cost)>,
    setting: u8,
    /// By setting and path.
    cheapest: BTreeMap<(u8, u8), Cost>,
}

/// What a path is called in the report. `None`: no such path or setting.
fn name(setting: u8, path: u8) -> Option<String> {
    let path = PATHS.get(usize::from(path))?;
    Some(match *SETTINGS.get(usize::from(setting))? {
        "" => String::from(*path),
        setting => format!("mitigation_{setting}_{path}"),
    })
}

impl Tally {
    /// A tally without any passage.
    pub const fn new() -> Self {
        Tally {
            running: BTreeMap::new(),
            setting: 0,
            cheapest: BTreeMap::new(),
        }
    }

    /// The vCPU executed a marker. An end without its begin is ignored.
    pub fn mark(&mut self, vcpu: u32, marker: Marker) {
        match marker {
            Marker::Begin(path) => {
                self.running.insert(vcpu, (path, Cost::default()));
            }
            Marker::End(path) => match self.running.remove(&vcpu) {
                Some((begun, cost)) if begun == path => {
                    let best = self.cheapest.entry((self.setting, path)).or_insert(cost);
                    *best = (*best).min(cost);
                }
                _ => {}
            },
            Marker::Setting(setting) => self.setting = setting,
        }
    }

    /// The vCPU executed an ordinary instruction of L1.
    pub fn count(&mut self, vcpu: u32, kind: Kind) {
        if let Some((_, cost)) = self.running.get_mut(&vcpu) {
            cost.add(kind);
        }
    }

    /// The report, as it is kept in `build/bench.json`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Report {
            paths: BTreeMap<String, Cost>,
        }
        let paths = self
            .cheapest
            .iter()
            .filter_map(|((setting, path), cost)| Some((name(*setting, *path)?, *cost)))
            .collect();
        serde_json::to_string_pretty(&Report { paths }).unwrap_or_default() + "\n"
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
        for _ in 0..instructions {
            tally.count(vcpu, PLAIN);
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
                l1_instructions: 5,
                ..Cost::default()
            }
        );
    }

    #[test]
    fn nothing_is_counted_outside_a_passage() {
        let mut tally = Tally::new();
        tally.count(0, PLAIN);
        tally.mark(0, Marker::End(1));
        assert!(tally.cheapest.is_empty());
    }

    #[test]
    fn vcpus_do_not_count_into_each_other() {
        let mut tally = Tally::new();
        tally.mark(0, Marker::Begin(1));
        tally.count(1, PLAIN);
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
        assert_eq!(report["paths"]["null_ioctl"]["l1_instructions"], 9);
        let listed = &report["paths"]["mitigation_rsb_null_ioctl"];
        assert_eq!(listed["l1_instructions"], 5);
    }

    #[test]
    fn kinds_are_counted_apart_and_reported_by_name() {
        let mut tally = Tally::new();
        tally.mark(0, Marker::Begin(2));
        tally.count(
            0,
            Kind {
                msr: true,
                locked: true,
                ..PLAIN
            },
        );
        tally.count(
            0,
            Kind {
                tdcall: true,
                ..PLAIN
            },
        );
        tally.mark(0, Marker::End(2));
        let report: serde_json::Value = serde_json::from_str(&tally.to_json()).unwrap();
        let path = &report["paths"]["user_round_trip"];
        assert_eq!(path["l1_instructions"], 2);
        assert_eq!(path["msr"], 1);
        assert_eq!(path["tdcall"], 1);
        assert_eq!(path["locked"], 1);
        assert_eq!(path["fpu"], 0);
    }
}
