// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit`: follows the audit rings, saves them to a file, verifies
//! such a file.

mod file;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;
use vtl::audit::{EntryReason, Follower, Record, Step};
use vtl::{Mshv, Vtl};

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print each switch as it happens, until interrupted.
    Follow(Follow),
    /// Write what the rings hold, and what is added meanwhile, to a file.
    Save(Save),
    /// Look for gaps and contradictions in a saved file.
    Verify {
        /// File that `save` made
        file: PathBuf,
    },
}

#[derive(clap::Args)]
struct Follow {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Begin with the oldest record that is there, not with the next one
    #[arg(long)]
    from_oldest: bool,
    /// Stop after so many records
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Save {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Go on for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    duration: u64,
    /// File to write
    file: PathBuf,
}

/// How long nothing is looked at when nothing was found.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    match &arguments.command {
        Command::Follow(arguments) => follow(arguments),
        Command::Save(arguments) => save(arguments),
        Command::Verify { file } => verify(file),
    }
}

/// A follower for each virtual processor that is asked for.
fn followers(only: Option<u32>, from_oldest: bool) -> anyhow::Result<Vec<Follower>> {
    let mshv = Mshv::open()?;
    let info = mshv.info()?;
    let vtl: Vtl = mshv.create_vtl()?;
    let cpus = only.map_or(0..info.num_cpus, |cpu| cpu..cpu.saturating_add(1));
    let mut followers = Vec::new();
    for cpu in cpus {
        // Only a virtual processor has counters, and a ring.
        if vtl.stats(cpu)?.is_some() {
            let ring = vtl.map_audit_ring(cpu, &info)?;
            followers.push(if from_oldest {
                Follower::from_oldest(ring)
            } else {
                Follower::from_now(ring)
            });
        }
    }
    if followers.is_empty() {
        bail!("no virtual processor to follow");
    }
    Ok(followers)
}

fn follow(arguments: &Follow) -> Result<ExitStatus, Failure> {
    let mut followers = followers(arguments.cpu, arguments.from_oldest)?;
    let mut out = std::io::stdout().lock();
    let mut left = arguments.count.unwrap_or(u64::MAX);
    loop {
        let mut is_idle = true;
        for follower in &mut followers {
            while let Some(step) = follower.step() {
                is_idle = false;
                let line = match (step, arguments.json) {
                    (Step::Record(record), true) => json_line(&record),
                    (Step::Record(record), false) => text_line(&record),
                    (Step::Missed(count), true) => json!({ "missed": count }).to_string(),
                    (Step::Missed(count), false) => format!("... {count} switches missed"),
                };
                // A reader that went away ends this, as with any filter.
                if writeln!(out, "{line}").is_err() {
                    return Ok(ExitStatus::Success);
                }
                left -= u64::from(matches!(step, Step::Record(_)));
                if left == 0 {
                    return Ok(ExitStatus::Success);
                }
            }
        }
        if is_idle {
            out.flush()?;
            std::thread::sleep(PAUSE);
        }
    }
}

fn text_line(record: &Record) -> String {
    let why = match record.entry_reason {
        EntryReason::Userspace => "USERSPACE".to_owned(),
        EntryReason::After(kind) => kind.to_string(),
    };
    format!(
        "{:>4} {:>10} vm {} {why:<16} -> {:<24} rip {:016x} qualification {:#x} ticks {} thread {}",
        record.vp,
        record.sequence,
        record.vm,
        record.exit_kind,
        record.rip,
        record.qualification,
        record.cycles,
        record.thread
    )
}

fn json_line(record: &Record) -> String {
    let after = match record.entry_reason {
        EntryReason::Userspace => serde_json::Value::Null,
        EntryReason::After(kind) => kind.to_string().into(),
    };
    json!({
        "vp": record.vp,
        "sequence": record.sequence,
        "vm": record.vm,
        "entered_after": after,
        "exit": record.exit_kind.to_string(),
        "status": record.status.raw(),
        "qualification": record.qualification,
        "rip": record.rip,
        "entry_tsc": record.entry_tsc,
        "cycles": record.cycles,
        "thread": record.thread,
        "flags": record.flags,
    })
    .to_string()
}

fn save(arguments: &Save) -> Result<ExitStatus, Failure> {
    let mut followers = followers(arguments.cpu, true)?;
    let mut writer = file::Writer::create(&arguments.file)?;
    let end = Instant::now() + Duration::from_secs(arguments.duration);
    let (mut saved, mut missed) = (0u64, 0u64);
    loop {
        let is_last = Instant::now() >= end;
        for follower in &mut followers {
            // A ring that is written faster than this must not keep it here.
            for _ in 0..1 << 17 {
                match follower.step() {
                    Some(Step::Record(record)) => {
                        writer.write(&record)?;
                        saved += 1;
                    }
                    Some(Step::Missed(count)) => missed += count,
                    None => break,
                }
            }
        }
        if is_last {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    writer.finish()?;
    println!("{saved} records saved, {missed} missed while saving");
    Ok(ExitStatus::Success)
}

fn verify(path: &std::path::Path) -> Result<ExitStatus, Failure> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report = file::verify(&bytes).with_context(|| path.display().to_string())?;
    print!("{report}");
    Ok(if report.is_good() {
        ExitStatus::Success
    } else {
        ExitStatus::Failure
    })
}
