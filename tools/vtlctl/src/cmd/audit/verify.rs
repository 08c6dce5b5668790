// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Checks each record of a file by itself and against the one before it.

use core::fmt;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use vtl::audit::{EntryReason, ExitKind, Record};

use super::file::{Placed, Saved};

/// How bad it is; the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// No record is missing, and none contradicts itself or another.
    Good,
    /// Something is missing: switches that were not saved in time, the end of the file.
    Incomplete,
    /// Something that the kernel never writes: the file was changed or damaged.
    Tampered,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::Good => "complete and consistent",
            Self::Incomplete => "NOT complete",
            Self::Tampered => "NOT consistent: it is not as the kernel wrote it",
        }
    }
}

/// What is wrong, and how bad that is.
struct Complaint {
    verdict: Verdict,
    text: String,
}

impl Complaint {
    fn missing(text: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Incomplete,
            text: text.into(),
        }
    }

    fn tampered(text: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Tampered,
            text: text.into(),
        }
    }
}

/// What was found in the records of one virtual processor.
struct Vp {
    records: u64,
    first: u64,
    last: Record,
    /// Switches that are missing between first and last.
    missing: u64,
}

/// What was found in a file.
pub(super) struct Report {
    vps: BTreeMap<u16, Vp>,
    complaints: Vec<Complaint>,
}

/// Checks every record.
pub(super) fn verify(saved: &Saved<'_>) -> Report {
    let mut report = Report {
        vps: BTreeMap::new(),
        complaints: Vec::new(),
    };
    for placed in saved.records() {
        report.add(&placed);
    }
    if saved.odd_bytes() != 0 {
        let text = format!("the file ends with {} odd bytes", saved.odd_bytes());
        report.complaints.push(Complaint::missing(text));
    }
    if report.vps.is_empty() {
        let nothing = Complaint::missing("there are no records");
        report.complaints.push(nothing);
    }
    report
}

impl Report {
    pub(super) fn verdict(&self) -> Verdict {
        let verdicts = self.complaints.iter().map(|complaint| complaint.verdict);
        verdicts.max().unwrap_or(Verdict::Good)
    }

    pub(super) fn to_json(&self) -> Value {
        let vps: Vec<_> = self
            .vps
            .iter()
            .map(|(vp, found)| {
                json!({
                    "vp": vp,
                    "records": found.records,
                    "first": found.first,
                    "last": found.last.sequence,
                    "missing": found.missing,
                })
            })
            .collect();
        let complaints: Vec<_> = self.complaints.iter().map(|found| &found.text).collect();
        let verdict = match self.verdict() {
            Verdict::Good => "good",
            Verdict::Incomplete => "incomplete",
            Verdict::Tampered => "tampered",
        };
        json!({ "verdict": verdict, "vps": vps, "complaints": complaints })
    }

    fn add(&mut self, placed: &Placed) {
        let record = Record::from_words(placed.words);
        let mut problems = alone(&record);
        if record.to_words() != placed.words {
            problems.push(Complaint::tampered("reserved bytes are not zero"));
        }
        match self.vps.get_mut(&record.vp) {
            None => {
                let found = Vp {
                    records: 1,
                    first: record.sequence,
                    last: record,
                    missing: 0,
                };
                self.vps.insert(record.vp, found);
            }
            Some(found) => {
                problems.extend(after(&found.last, &record));
                let skipped = skipped(&found.last, &record);
                found.missing = found.missing.saturating_add(skipped);
                found.records += 1;
                found.last = record;
            }
        }
        let (offset, vp, switch) = (placed.offset, record.vp, record.sequence);
        let complaints = problems.into_iter().map(|problem| Complaint {
            text: format!(
                "offset {offset:#x}, vp {vp} switch {switch}: {}",
                problem.text
            ),
            ..problem
        });
        self.complaints.extend(complaints);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (vp, found) in &self.vps {
            let Vp {
                records,
                first,
                last,
                missing,
            } = found;
            writeln!(
                f,
                "vp {vp}: {records} records, switches {first} to {}, {missing} missing",
                last.sequence
            )?;
        }
        const SHOWN: usize = 20;
        for complaint in self.complaints.iter().take(SHOWN) {
            writeln!(f, "{}", complaint.text)?;
        }
        if self.complaints.len() > SHOWN {
            writeln!(f, "... {} more", self.complaints.len() - SHOWN)?;
        }
        writeln!(f, "{}", self.verdict().words())
    }
}

/// What a record says against itself.
fn alone(record: &Record) -> Vec<Complaint> {
    let mut problems = Vec::new();
    if record.sequence == 0 {
        problems.push(Complaint::tampered("has no number"));
    }
    if !(1..=3).contains(&record.vm) {
        problems.push(Complaint::tampered(format!("there is no VM {}", record.vm)));
    }
    let ExitKind(kind) = record.exit_kind;
    // CAST: the basic reason is 16 bits.
    let reason = record.status.details() as u16;
    if kind < 96 && (record.status.code() != 0 || reason != u16::from(kind)) {
        let text = format!("kind {kind} with status {}", record.status);
        problems.push(Complaint::tampered(text));
    }
    problems
}

/// Switches between two records; 0 when they are not in order.
fn skipped(last: &Record, record: &Record) -> u64 {
    record
        .sequence
        .saturating_sub(last.sequence)
        .saturating_sub(1)
}

/// Compares a record with the previous one of the same virtual processor.
fn after(last: &Record, record: &Record) -> Vec<Complaint> {
    if record.sequence <= last.sequence {
        let text = format!("comes after switch {}", last.sequence);
        return vec![Complaint::tampered(text)];
    }
    let skipped = skipped(last, record);
    if skipped != 0 {
        let text = format!("{skipped} switches are missing before it");
        return vec![Complaint::missing(text)];
    }
    let mut problems = Vec::new();
    if record.entry_tsc < last.entry_tsc.wrapping_add(last.cycles) {
        problems.push(Complaint::tampered("began before the last one ended"));
    }
    if let EntryReason::After(kind) = record.entry_reason {
        if kind != last.exit_kind {
            problems.push(Complaint::tampered(format!(
                "entered after {kind}, but that was {}",
                last.exit_kind
            )));
        }
    }
    problems
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
