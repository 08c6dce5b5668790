// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that do not change in a Linux that has started.

use super::baseline::Baseline;
use super::finding::{Finding, Key, Kind};
use super::text::Text;
use super::view::{Registers, Table};

/// Bits that are never cleared once they are set.
const CR0: [(&str, u64); 3] = [("CR0.PE", 1), ("CR0.WP", 1 << 16), ("CR0.PG", 1 << 31)];
const CR4: [(&str, u64); 3] = [
    ("CR4.UMIP", 1 << 11),
    ("CR4.SMEP", 1 << 20),
    ("CR4.SMAP", 1 << 21),
];
const EFER: [(&str, u64); 3] = [("EFER.SCE", 1), ("EFER.LME", 1 << 8), ("EFER.NXE", 1 << 11)];

/// The registers as they ought to be: one set for all processors, but for the segment descriptors.
#[derive(Clone, Debug)]
pub struct Expected {
    cr0: u64,
    cr4: u64,
    efer: u64,
    idtr: Table,
    star: u64,
    lstar: u64,
    sfmask: u64,
    sysenter_eip: u64,
    gdtr: Vec<Option<Table>>,
}

impl Expected {
    /// Takes those of `first`, except for where system calls lead to, which the image says if it has the
    /// usual names.
    pub fn baseline(first: &Registers, processors: usize, text: &Text) -> Self {
        let entry = |name: &str, now: u64| text.address_of(name).unwrap_or(now);
        Self {
            cr0: first.cr0,
            cr4: first.cr4,
            efer: first.efer,
            idtr: first.idtr,
            star: first.star,
            sfmask: first.sfmask,
            lstar: entry("entry_SYSCALL_64", first.lstar),
            // Zero without emulation of 32-bit processes.
            sysenter_eip: match first.sysenter_eip {
                0 => 0,
                now => entry("entry_SYSENTER_compat", now),
            },
            gdtr: vec![None; processors],
        }
    }

    /// What a trusted start had, this one has to have, too.
    pub fn trust(&mut self, baseline: &Baseline) {
        let [cr0, cr4, efer] = baseline.control;
        self.cr0 |= cr0;
        self.cr4 |= cr4;
        self.efer |= efer;
        self.star = baseline.star;
        self.sfmask = baseline.sfmask;
    }

    /// For a later start.
    pub fn learned(&self) -> Baseline {
        let bits = |names: &[(&str, u64)], value| {
            let all = names.iter().fold(0, |all, (_, bit)| all | bit);
            all & value
        };
        Baseline {
            control: [
                bits(&CR0, self.cr0),
                bits(&CR4, self.cr4),
                bits(&EFER, self.efer),
            ],
            star: self.star,
            sfmask: self.sfmask,
            ..Baseline::default()
        }
    }

    /// The table of interrupt descriptors.
    pub const fn idtr(&self) -> Table {
        self.idtr
    }

    /// A processor that was started anew loads its segment descriptors again.
    pub fn forget(&mut self, processor: usize) {
        if let Some(gdtr) = self.gdtr.get_mut(processor) {
            *gdtr = None;
        }
    }

    /// Compares those of a processor. Bits that are set now may not be cleared later.
    pub fn check(&mut self, processor: usize, now: &Registers, text: &Text) -> Vec<Finding> {
        self.cr0 |= now.cr0;
        self.cr4 |= now.cr4;
        self.efer |= now.efer;
        let mut found = Vec::new();
        let sets = [
            (&CR0, self.cr0, now.cr0),
            (&CR4, self.cr4, now.cr4),
            (&EFER, self.efer, now.efer),
        ];
        for (names, expected, value) in sets {
            let cleared = names.iter().filter(|(_, bit)| expected & !value & bit != 0);
            found.extend(cleared.map(|(name, _)| {
                finding(processor, name, "1".to_owned(), format!("0 ({value:#x})"))
            }));
        }
        let gdtr = self.gdtr.get_mut(processor);
        let gdtr = gdtr.map_or(now.gdtr, |it| *it.get_or_insert(now.gdtr));
        for (name, expected, value) in [("IDTR", self.idtr, now.idtr), ("GDTR", gdtr, now.gdtr)] {
            if expected != value {
                found.push(finding(processor, name, show(expected), show(value)));
            }
        }
        for (name, expected, value) in [
            ("STAR", self.star, now.star),
            ("SFMASK", self.sfmask, now.sfmask),
        ] {
            if expected != value {
                let show = |value: u64| format!("{value:#x}");
                found.push(finding(processor, name, show(expected), show(value)));
            }
        }
        let entries = [
            ("LSTAR", self.lstar, now.lstar),
            ("SYSENTER_EIP", self.sysenter_eip, now.sysenter_eip),
        ];
        for (name, expected, value) in entries {
            let is_outside = value != 0 && !text.contains(value);
            if expected != value || is_outside {
                found.push(finding(
                    processor,
                    name,
                    text.show(expected),
                    text.show(value),
                ));
            }
        }
        found
    }
}

fn show(table: Table) -> String {
    format!("{:#x} limit {:#x}", table.base, table.limit)
}

fn finding(processor: usize, name: &'static str, expected: String, found: String) -> Finding {
    Finding {
        key: Key {
            kind: Kind::Register,
            place: 0,
            processor: Some(processor),
            name,
            gpa: None,
        },
        place: name.to_owned(),
        expected,
        found,
    }
}
