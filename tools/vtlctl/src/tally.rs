// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counts exits by name, for the table at the end of a run.

use core::fmt;
use std::collections::BTreeMap;

/// Exits counted by name.
#[derive(Default)]
pub(crate) struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts one exit.
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// All exits so far.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: usize = 28;
        writeln!(f, "{:<WIDTH$}{:>12}", "exit", "count")?;
        for (name, count) in &self.counts {
            writeln!(f, "{name:<WIDTH$}{count:>12}")?;
        }
        write!(f, "{:<WIDTH$}{:>12}", "total", self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_name() {
        let mut tally = Tally::default();
        for name in ["HLT", "CPUID", "CPUID"] {
            tally.count(name);
        }
        assert_eq!(tally.total(), 3);
        assert_eq!(tally.to_json(), serde_json::json!({"CPUID": 2, "HLT": 1}));
        let table = tally.to_string();
        assert!(
            table
                .lines()
                .any(|line| line.starts_with("CPUID") && line.ends_with(" 2"))
        );
        assert!(
            table
                .lines()
                .last()
                .is_some_and(|line| line.ends_with(" 3"))
        );
    }
}
