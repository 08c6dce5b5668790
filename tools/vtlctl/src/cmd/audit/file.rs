// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Files of saved audit records: a head of 16 bytes, then the records as the
//! kernel wrote them, 64 bytes each, little-endian.

use core::fmt;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use vtl::audit::{EntryReason, ExitKind, RECORD_LEN, RECORD_WORDS, Record};

/// First bytes of a file, then version and length of a record.
const MAGIC: [u8; 8] = *b"VTLAUDIT";
const VERSION: u32 = 1;
const HEAD_LEN: usize = 16;

/// Writes a file.
pub(super) struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        file.write_all(&head())?;
        Ok(Self { file })
    }

    pub(super) fn write(&mut self, record: &Record) -> anyhow::Result<()> {
        self.file.write_all(&bytes(record))?;
        Ok(())
    }

    /// What is not on the disk now is an error, not a shorter file.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(())
    }
}

fn head() -> Vec<u8> {
    // CAST: 64.
    let len = RECORD_LEN as u32;
    [&MAGIC[..], &VERSION.to_le_bytes(), &len.to_le_bytes()].concat()
}

fn bytes(record: &Record) -> Vec<u8> {
    record
        .to_words()
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
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
    complaints: Vec<String>,
}

impl Report {
    /// No record is missing, and none contradicts itself or another.
    pub(super) fn is_good(&self) -> bool {
        self.complaints.is_empty()
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
            writeln!(f, "{complaint}")?;
        }
        if self.complaints.len() > SHOWN {
            writeln!(f, "... {} more", self.complaints.len() - SHOWN)?;
        }
        let verdict = if self.is_good() {
            "complete and consistent"
        } else {
            "NOT complete and consistent"
        };
        writeln!(f, "{verdict}")
    }
}

/// Reads a file and holds every record against the one before.
pub(super) fn verify(file: &[u8]) -> anyhow::Result<Report> {
    let Some(records) = file.strip_prefix(&MAGIC[..]) else {
        bail!("this is no file of audit records");
    };
    let Some(records) = records.strip_prefix(&head()[MAGIC.len()..]) else {
        bail!("this file has another version than {VERSION}");
    };
    let mut report = Report {
        vps: BTreeMap::new(),
        complaints: Vec::new(),
    };
    let chunks = records.chunks_exact(RECORD_LEN);
    if !chunks.remainder().is_empty() {
        let complaint = format!("the file ends with {} odd bytes", chunks.remainder().len());
        report.complaints.push(complaint);
    }
    for (chunk, offset) in chunks.zip((HEAD_LEN..).step_by(RECORD_LEN)) {
        report.add(chunk, offset);
    }
    if report.vps.is_empty() {
        report.complaints.push("there are no records".to_owned());
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, chunk: &[u8], offset: usize) {
        let mut words = [0; RECORD_WORDS];
        for (word, bytes) in words.iter_mut().zip(chunk.chunks_exact(8)) {
            *word = bytes
                .iter()
                .rev()
                .fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        let record = Record::from_words(words);
        let mut problems = alone(&record);
        if record.to_words() != words {
            problems.push("reserved bytes are not zero".to_owned());
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
        let place = format!(
            "offset {offset:#x}, vp {} switch {}",
            record.vp, record.sequence
        );
        let complaints = problems
            .into_iter()
            .map(|problem| format!("{place}: {problem}"));
        self.complaints.extend(complaints);
    }
}

/// What a record says against itself.
fn alone(record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    if record.sequence == 0 {
        problems.push("has no number".to_owned());
    }
    if !(1..=3).contains(&record.vm) {
        problems.push(format!("there is no VM {}", record.vm));
    }
    let ExitKind(kind) = record.exit_kind;
    // CAST: the basic reason is 16 bits.
    let reason = record.status.details() as u16;
    if kind < 96 && (record.status.code() != 0 || reason != u16::from(kind)) {
        problems.push(format!("kind {kind} with status {}", record.status));
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

/// What a record says against the one before on the same virtual processor.
fn after(last: &Record, record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    if record.sequence <= last.sequence {
        problems.push(format!("comes after switch {}", last.sequence));
        return problems;
    }
    let skipped = skipped(last, record);
    if skipped != 0 {
        problems.push(format!("{skipped} switches are missing before it"));
        return problems;
    }
    if record.entry_tsc < last.entry_tsc.wrapping_add(last.cycles) {
        problems.push("began before the last one ended".to_owned());
    }
    if let EntryReason::After(kind) = record.entry_reason {
        if kind != last.exit_kind {
            problems.push(format!(
                "entered after {kind}, but that was {}",
                last.exit_kind
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl::Status;

    fn record(sequence: u64) -> Record {
        Record {
            sequence,
            entry_tsc: sequence * 100,
            cycles: 50,
            status: Status::from_raw(10),
            qualification: 0,
            rip: 0x1000,
            thread: 7,
            vp: 0,
            vm: 1,
            entry_reason: EntryReason::Userspace,
            exit_kind: ExitKind(10),
            flags: 1,
        }
    }

    fn file(records: &[Record]) -> Vec<u8> {
        let mut file = head();
        records.iter().for_each(|record| file.extend(bytes(record)));
        file
    }

    fn complaints(records: &[Record]) -> anyhow::Result<String> {
        Ok(verify(&file(records))?.complaints.join("\n"))
    }

    #[test]
    fn a_file_without_gaps_is_good() -> anyhow::Result<()> {
        let other = Record { vp: 3, ..record(9) };
        let report = verify(&file(&[record(5), other, record(6), record(7)]))?;
        assert!(report.is_good(), "{report}");
        let text = report.to_string();
        assert!(
            text.contains("vp 0: 3 records, switches 5 to 7, 0 missing"),
            "{text}"
        );
        assert!(text.contains("vp 3: 1 records"), "{text}");
        Ok(())
    }

    #[test]
    fn a_removed_record_is_missed() -> anyhow::Result<()> {
        let report = verify(&file(&[record(5), record(8)]))?;
        assert!(!report.is_good());
        let text = report.to_string();
        assert!(text.contains("2 switches are missing before it"), "{text}");
        assert!(text.contains("2 missing"), "{text}");
        Ok(())
    }

    #[test]
    fn records_out_of_order_are_seen() -> anyhow::Result<()> {
        for records in [[record(5), record(4)], [record(5), record(5)]] {
            assert!(complaints(&records)?.contains("comes after switch 5"));
        }
        Ok(())
    }

    #[test]
    fn contradictions_are_seen() -> anyhow::Result<()> {
        let early = Record {
            entry_tsc: 520,
            ..record(6)
        };
        let reason = EntryReason::After(ExitKind(97));
        let wrong_reason = Record {
            entry_reason: reason,
            ..record(6)
        };
        let wrong_kind = Record {
            exit_kind: ExitKind(12),
            ..record(6)
        };
        let no_vm = Record { vm: 0, ..record(6) };
        for (second, expected) in [
            (early, "began before"),
            (
                wrong_reason,
                "entered after INTERRUPTED, but that was CPUID",
            ),
            (wrong_kind, "kind 12"),
            (no_vm, "no VM 0"),
        ] {
            let text = complaints(&[record(5), second])?;
            assert!(text.contains(expected), "{text}");
        }
        Ok(())
    }

    #[test]
    fn any_flipped_byte_of_the_reserved_ones_is_seen() -> anyhow::Result<()> {
        let good = file(&[record(5)]);
        for byte in HEAD_LEN + 58..HEAD_LEN + 64 {
            let mut bad = good.clone();
            bad[byte] ^= 0x40;
            assert!(!verify(&bad)?.is_good(), "byte {byte}");
        }
        Ok(())
    }

    #[test]
    fn other_files_and_cut_ones_are_told() -> anyhow::Result<()> {
        assert!(verify(b"").is_err());
        assert!(verify(b"VTLAUDIT").is_err());
        assert!(verify(&[0; 80]).is_err());
        let mut newer = file(&[record(5)]);
        newer[8] = 2;
        assert!(verify(&newer).is_err());
        let cut = file(&[record(5)]);
        assert!(!verify(&cut[..cut.len() - 1])?.is_good());
        assert!(!verify(&head())?.is_good(), "nothing is no evidence");
        Ok(())
    }

    #[test]
    fn no_content_makes_it_panic() -> anyhow::Result<()> {
        let mut bytes = head();
        let mut state = 0x1234_5678_9abc_def1u64;
        for _ in 0..64 * 200 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            bytes.extend(&state.to_be_bytes()[..1]);
        }
        let report = verify(&bytes)?;
        assert!(!report.to_string().is_empty());
        Ok(())
    }
}
