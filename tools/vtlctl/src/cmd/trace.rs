// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl trace`: the switches of some seconds as a file for a trace viewer (Perfetto, `chrome://tracing`).
//!
//! They come from the audit rings. On the track of each lower VTL, its runs alternate with what came in
//! between: the kernel, which dealt with the exit by itself, or userspace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vtl::audit::{EntryReason, Follower, Record, Step};

use crate::cmd::audit::{PAUSE, followers};
use crate::json::word;
use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
#[command(
    after_help = "Open the file with https://ui.perfetto.dev or chrome://tracing.

Example:
  vtlctl trace --duration 2 boot.json"
)]
pub(crate) struct Arguments {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Begin with the oldest switch that is recorded, not with the next one
    #[arg(long)]
    from_oldest: bool,
    /// Go on for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    duration: u64,
    /// File to write
    file: PathBuf,
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    // A file that can't be written is found before the time is spent.
    let out =
        File::create(&arguments.file).map_err(|error| cannot_write(&arguments.file, error))?;
    let (info, mut followers) = followers(arguments.cpu, arguments.from_oldest)?;
    let seen = follow(&mut followers, Duration::from_secs(arguments.duration));
    let switches = seen.iter().filter(|step| matches!(step, Step::Record(_)));
    let count = switches.count();
    let missed: u64 = seen.iter().map(missed).sum();
    write(BufWriter::new(out), &seen, info.tsc_khz)
        .map_err(|error| cannot_write(&arguments.file, error))?;
    println!("{count} switches traced, {missed} missed");
    Ok(ExitStatus::Success)
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error);
    Failure::new(
        ExitStatus::File,
        error.context(format!("cannot write {}", path.display())),
    )
}

const fn missed(step: &Step) -> u64 {
    match step {
        Step::Missed(count) => *count,
        Step::Record(_) => 0,
    }
}

fn follow(followers: &mut [Follower], duration: Duration) -> Vec<Step> {
    /// A ring that is written faster than this reads must not keep it here.
    const MOST_AT_ONCE: usize = 1 << 17;
    let end = Instant::now() + duration;
    let mut seen = Vec::new();
    loop {
        let is_last = Instant::now() >= end;
        for follower in followers.iter_mut() {
            seen.extend(std::iter::from_fn(|| follower.step()).take(MOST_AT_ONCE));
        }
        if is_last {
            return seen;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Writes the format of trace events, one event per line.
fn write(mut out: impl Write, seen: &[Step], tsc_khz: u64) -> std::io::Result<()> {
    writeln!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    let mut separator = "";
    for event in events(seen, tsc_khz) {
        write!(out, "{separator}{event}")?;
        separator = ",\n";
    }
    writeln!(out, "\n]}}")?;
    out.flush()
}

/// The events, and a name for each track.
fn events(seen: &[Step], tsc_khz: u64) -> Vec<Value> {
    let records = seen.iter().filter_map(|step| match step {
        Step::Record(record) => Some(record),
        Step::Missed(_) => None,
    });
    let clock = Clock {
        begin: records.clone().map(|it| it.entry_tsc).min().unwrap_or(0),
        tsc_khz,
    };
    let mut last: BTreeMap<u16, &Record> = BTreeMap::new();
    let mut tracks: BTreeMap<(u16, u8), ()> = BTreeMap::new();
    let mut events = Vec::new();
    for record in records {
        let before = last.insert(record.vp, record);
        // Without the one before it is not known since when VTL2 has had the processor.
        let is_next = |it: &&Record| it.sequence.checked_add(1) == Some(record.sequence);
        if let Some(before) = before.filter(is_next) {
            events.push(between(before, record, &clock));
        }
        events.push(run(record, &clock));
        tracks.insert((record.vp, record.vm), ());
    }
    let names = tracks.keys().flat_map(|(vp, vm)| names(*vp, *vm));
    names.chain(events).collect()
}

/// Microseconds since the first switch.
struct Clock {
    begin: u64,
    tsc_khz: u64,
}

impl Clock {
    fn at(&self, tsc: u64) -> f64 {
        self.microseconds(tsc.saturating_sub(self.begin))
    }

    /// Where the rate of the TSC is not known, ticks stand for nanoseconds.
    fn microseconds(&self, ticks: u64) -> f64 {
        let khz = match self.tsc_khz {
            0 => 1_000_000,
            khz => khz,
        };
        // CAST: a tick more or less does not matter.
        ticks as f64 * 1000.0 / khz as f64
    }
}

/// The lower VTL runs.
fn run(record: &Record, clock: &Clock) -> Value {
    json!({
        "name": record.exit_kind.to_string(),
        "cat": "run",
        "ph": "X",
        "ts": clock.at(record.entry_tsc),
        "dur": clock.microseconds(record.cycles),
        "pid": record.vp,
        "tid": record.vm,
        "args": {
            "sequence": record.sequence,
            "status": word(record.status.raw()),
            "qualification": word(record.qualification),
            "rip": word(record.rip),
            "thread": record.thread,
        },
    })
}

/// VTL2 has the processor between two runs.
fn between(before: &Record, after: &Record, clock: &Clock) -> Value {
    let exit_tsc = before.entry_tsc.saturating_add(before.cycles);
    let (name, category) = match after.entry_reason {
        EntryReason::Userspace => (format!("userspace: {}", before.exit_kind), "userspace"),
        EntryReason::After(kind) => (format!("kernel: {kind}"), "kernel"),
    };
    json!({
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": clock.at(exit_tsc),
        "dur": clock.microseconds(after.entry_tsc.saturating_sub(exit_tsc)),
        "pid": before.vp,
        "tid": before.vm,
    })
}

/// What a viewer calls the tracks of a VM.
fn names(vp: u16, vm: u8) -> [Value; 2] {
    let name = |what, text: String| json!({ "name": what, "ph": "M", "pid": vp, "tid": vm, "args": { "name": text } });
    [
        name("process_name", format!("VP {vp}")),
        name(
            "thread_name",
            format!("VTL{} (VM {vm})", vm.saturating_sub(1)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl::audit::ExitKind;

    fn step(sequence: u64, entry_tsc: u64, entry_reason: EntryReason) -> Step {
        Step::Record(Record {
            sequence,
            entry_tsc,
            entry_reason,
            cycles: 2000,
            exit_kind: ExitKind(12),
            vp: 3,
            vm: 1,
            ..Record::from_words([0; 8])
        })
    }

    fn parsed(seen: &[Step], tsc_khz: u64) -> Vec<Value> {
        let mut text = Vec::new();
        write(&mut text, seen, tsc_khz).expect("memory");
        let file: Value = serde_json::from_slice(&text).expect("JSON");
        file["traceEvents"].as_array().expect("a list").clone()
    }

    fn of_category<'a>(events: &'a [Value], category: &str) -> Vec<&'a Value> {
        let is_it = |event: &&Value| event["cat"] == category;
        events.iter().filter(is_it).collect()
    }

    #[test]
    fn runs_alternate_with_whoever_had_the_processor_in_between() {
        let seen = [
            step(7, 1_000_000, EntryReason::Userspace),
            step(8, 1_005_000, EntryReason::After(ExitKind(12))),
            step(9, 1_010_000, EntryReason::Userspace),
        ];
        let events = parsed(&seen, 1_000_000);
        let runs = of_category(&events, "run");
        let times: Vec<_> = runs.iter().map(|run| (&run["ts"], &run["dur"])).collect();
        assert_eq!(
            times,
            [
                (&json!(0.0), &json!(2.0)),
                (&json!(5.0), &json!(2.0)),
                (&json!(10.0), &json!(2.0))
            ]
        );
        assert_eq!(
            (&runs[0]["name"], &runs[0]["pid"]),
            (&json!("HLT"), &json!(3))
        );
        let kernel = of_category(&events, "kernel");
        assert_eq!(
            (&kernel[0]["ts"], &kernel[0]["dur"]),
            (&json!(2.0), &json!(3.0))
        );
        let userspace = of_category(&events, "userspace");
        assert_eq!((userspace.len(), &userspace[0]["ts"]), (1, &json!(7.0)));
        let names = events.iter().filter(|event| event["ph"] == "M");
        assert_eq!(names.count(), 2);
    }

    #[test]
    fn nobody_is_said_to_have_had_the_processor_across_a_gap() {
        let seen = [
            step(1, 1000, EntryReason::Userspace),
            Step::Missed(5),
            step(7, 9000, EntryReason::Userspace),
        ];
        let events = parsed(&seen, 0);
        assert_eq!(of_category(&events, "run").len(), 2);
        assert!(of_category(&events, "userspace").is_empty());
        assert_eq!(seen.iter().map(missed).sum::<u64>(), 5);
    }

    #[test]
    fn whatever_a_record_holds_the_file_is_one() {
        let worst = Record::from_words([u64::MAX; 8]);
        let seen = [
            Step::Record(worst),
            step(1, 0, EntryReason::Userspace),
            Step::Record(worst),
        ];
        assert!(!parsed(&seen, u64::MAX).is_empty());
        assert!(parsed(&[], 0).is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let arguments = Arguments {
            cpu: None,
            from_oldest: false,
            duration: 0,
            file: PathBuf::from("/dev/null/trace.json"),
        };
        let failure = main(&arguments).expect_err("no file");
        assert_eq!(failure.status, ExitStatus::File);
        assert!(format!("{:#}", failure.error).contains("/dev/null/trace.json"));
    }
}
