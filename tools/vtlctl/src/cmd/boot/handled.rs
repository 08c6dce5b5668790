// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Number of exits of each kind, and after how many of them the kernel entered again by itself.

use core::fmt;
use std::collections::BTreeMap;

use vtl::Vtl;

/// Sums over virtual processors, by name: all exits, and those that the kernel handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Handled(BTreeMap<String, (u64, u64)>);

impl Handled {
    /// What the kernel has counted so far on CPUs 0 to `processors`.
    pub(super) fn of(vtl: &Vtl, processors: u32) -> vtl::Result<Self> {
        let mut sums = Self::default();
        for cpu in 0..processors {
            let Some(stats) = vtl.stats(cpu)? else {
                continue;
            };
            for exit in stats.exits {
                sums.add(exit.kind.to_string(), exit.count, exit.handled);
            }
        }
        Ok(sums)
    }

    fn add(&mut self, name: String, count: u64, handled: u64) {
        let sum = self.0.entry(name).or_default();
        sum.0 += count;
        sum.1 += handled;
    }

    /// The difference to `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let rest = self.0.iter().map(|(name, (count, handled))| {
            let earlier = before.0.get(name).copied().unwrap_or_default();
            (name.clone(), (count - earlier.0, handled - earlier.1))
        });
        Self(rest.filter(|(_, (count, _))| *count != 0).collect())
    }
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: usize = 28;
        writeln!(
            f,
            "{:<WIDTH$}{:>12}{:>12}{:>8}",
            "exit", "count", "in kernel", "share"
        )?;
        let mut total = (0, 0);
        for (name, (count, handled)) in &self.0 {
            total = (total.0 + count, total.1 + handled);
            writeln!(
                f,
                "{name:<WIDTH$}{count:>12}{handled:>12}{:>6} %",
                share(*count, *handled)
            )?;
        }
        let (count, handled) = total;
        write!(
            f,
            "{:<WIDTH$}{count:>12}{handled:>12}{:>6} %",
            "total",
            share(count, handled)
        )
    }
}

/// In percent, rounded down, so that 100 means all.
fn share(count: u64, handled: u64) -> u64 {
    (handled * 100).checked_div(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_is_shown() {
        let mut before = Handled::default();
        before.add("HLT".to_owned(), 5, 5);
        before.add("CPUID".to_owned(), 3, 0);
        let mut after = before.clone();
        after.add("HLT".to_owned(), 1000, 999);
        let text = after.since(&before).to_string();
        assert!(
            text.contains("HLT                                 1000         999    99 %"),
            "{text}"
        );
        assert!(!text.contains("CPUID"), "{text}");
        assert!(text.ends_with("99 %"), "{text}");
    }
}
