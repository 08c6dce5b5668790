// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit`: follows the audit rings, saves them to a file, shows and
//! verifies such a file.

mod attest;
mod attested;
mod boot;
mod cel;
mod file;
mod identity;
mod log;
mod print;
mod quote;
mod show;
mod verify;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;
use vtl::attest::{Attestation, State};
use vtl::audit::{Follower, Record, Step};
use vtl::{Info, Mshv, Vtl};

use verify::Verdict;

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(clap::Subcommand)]
enum AuditCommand {
    /// Print each switch as it happens, until interrupted.
    Follow(Follow),
    /// Write the contents of the rings, and what is added while it runs, to a file.
    Save(Save),
    /// Have the running module make an event with a nonce, save the log, and add a quote of it.
    Attest(attest::Arguments),
    /// Print the records of a saved file.
    Show(Show),
    /// Look for gaps and contradictions in a saved file, or say what evidence proves of it.
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
    /// Write the newest quote in a saved file to a file of its own, for who checks its signature.
    Quote(quote::Arguments),
    /// Write the events of a saved file as a Canonical Event Log (CEL-TLV).
    Cel(cel::Arguments),
    /// Hold the event log of this boot against the measurement registers, and say what the
    /// kernel's command line leaves open to root.
    Boot(boot::Arguments),
}

const VERIFY_HELP: &str = "Exit status:
  0  no switch is missing, and no record contradicts itself or another
  3  the file cannot be read
  6  it is not as the kernel wrote it
  7  it is incomplete: switches are missing, or its end

With any option but --json, and of a file that has events:
  0  ATTESTED
  3  a file cannot be read, or there is no evidence
  8  ATTESTED WITH GAPS
  9  SUFFIX ONLY
 10  NOT ATTESTED";

#[derive(clap::Args)]
struct Show {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u16>,
    /// Print one JSON object per line, the first about the file
    #[arg(long)]
    json: bool,
    /// File that `save` made
    file: PathBuf,
}

#[derive(clap::Args)]
struct Verify {
    #[command(flatten)]
    attested: attested::Arguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File that `save` made
    file: PathBuf,
}

#[derive(clap::Args)]
struct Follow {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Begin with the oldest record in the ring, not with the next one
    #[arg(long)]
    from_oldest: bool,
    /// Stop after this many records
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
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File to write
    file: PathBuf,
}

/// How long to sleep when no ring has a new record.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    match &arguments.command {
        AuditCommand::Follow(arguments) => follow(arguments),
        AuditCommand::Save(arguments) => save(arguments),
        AuditCommand::Attest(arguments) => attest::main(arguments),
        AuditCommand::Show(arguments) => show(arguments),
        AuditCommand::Verify(arguments) => verify(arguments),
        AuditCommand::Quote(arguments) => quote::main(arguments),
        AuditCommand::Cel(arguments) => cel::main(arguments),
        AuditCommand::Boot(arguments) => boot::main(arguments),
    }
}

/// Makes a follower for each requested virtual processor.
pub(super) fn followers(
    only: Option<u32>,
    from_oldest: bool,
) -> anyhow::Result<(Info, Vec<Follower>)> {
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
    Ok((info, followers))
}

fn follow(arguments: &Follow) -> Result<ExitStatus, Failure> {
    let (_, mut followers) = followers(arguments.cpu, arguments.from_oldest)?;
    let mut out = std::io::stdout().lock();
    let mut left = arguments.count.unwrap_or(u64::MAX);
    loop {
        let mut is_idle = true;
        for follower in &mut followers {
            while let Some(step) = follower.step() {
                is_idle = false;
                let line = match (step, arguments.json) {
                    (Step::Record(record), is_json) => print::line(&record, is_json),
                    (Step::Missed(count), true) => json!({ "missed": count }).to_string(),
                    (Step::Missed(count), false) => format!("... {count} switches missed"),
                };
                // If the reader of the output has gone away, end without an error, as filters do.
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

fn save(arguments: &Save) -> Result<ExitStatus, Failure> {
    let mshv = Mshv::open()?;
    let (info, vtl) = (mshv.info()?, mshv.create_vtl()?);
    if let (Some(attestation), None) = (vtl.attestation()?, arguments.cpu) {
        return save_attested(arguments, &vtl, &info, &attestation);
    }
    let (info, mut followers) = followers(arguments.cpu, true)?;
    let identity = identity::of_this_machine(&info);
    let mut writer = file::Writer::create(&arguments.file, &identity)?;
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
    if arguments.json {
        println!("{}", json!({ "saved": saved, "missed": missed }));
    } else {
        println!("{saved} records saved, {missed} missed while saving");
    }
    Ok(ExitStatus::Success)
}

/// With attestation there is more to save, in a file that goes on.
fn save_attested(
    arguments: &Save,
    vtl: &Vtl,
    info: &Info,
    attestation: &Attestation,
) -> Result<ExitStatus, Failure> {
    let mut saver = log::Saver::open(vtl, info, attestation, &arguments.file)?;
    let end = Instant::now() + Duration::from_secs(arguments.duration);
    let state = loop {
        let is_last = Instant::now() >= end;
        let state = saver.pass()?;
        if is_last {
            break state;
        }
        std::thread::sleep(PAUSE);
    };
    let log::Counts {
        records,
        missed,
        leaves,
        events,
    } = saver.counts;
    if arguments.json {
        let state = match state {
            State::Open => "open",
            State::Broken => "broken",
            State::Closed => "closed",
            _ => "unknown",
        };
        let counts = json!({
            "saved": records, "missed": missed, "leaves": leaves, "events": events, "state": state,
        });
        println!("{counts}");
    } else {
        println!(
            "{records} records saved, {missed} missed while saving, {leaves} leaves, {events} events"
        );
        match state {
            State::Broken => println!("attestation is broken: no event is made any more"),
            State::Closed => println!("attestation is closed: the last event is made"),
            _ => {}
        }
    }
    Ok(ExitStatus::Success)
}

/// A file of records. What is none is not read beyond its first bytes, however long it is.
///
/// A file that can't be read has an exit status of its own: it says nothing about the records.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    const START: u64 = 12;
    let all = || {
        let mut file = std::fs::File::open(path)?;
        let mut bytes = Vec::new();
        std::io::Read::by_ref(&mut file)
            .take(START)
            .read_to_end(&mut bytes)?;
        if vtl_audit::file::version(&bytes).is_some() {
            file.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    or_status(path, all())
}

/// Writes what was taken from a log to a file of its own: a log is evidence, and is not overwritten.
fn write_other(log: &Path, other: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    if let (Ok(log), Ok(found)) = (place(log), place(other)) {
        if log == found {
            bail!("{}: this is the log itself", other.display());
        }
    }
    std::fs::write(other, bytes).with_context(|| format!("cannot write {}", other.display()))
}

/// A quote, a report or an event log of a boot, which are short.
fn read_short(path: &Path) -> Result<Vec<u8>, Failure> {
    const LIMIT: u64 = 16 << 20;
    let all = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        match file.take(LIMIT + 1).read_to_end(&mut bytes)? as u64 {
            len if len <= LIMIT => Ok(bytes),
            _ => Err(std::io::Error::other("it has more than 16 MiB")),
        }
    };
    or_status(path, all())
}

fn or_status(path: &Path, bytes: std::io::Result<Vec<u8>>) -> Result<Vec<u8>, Failure> {
    bytes
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(|error| Failure::new(ExitStatus::File, error))
}

fn saved<'a>(path: &Path, bytes: &'a [u8]) -> Result<file::Saved<'a>, Failure> {
    file::Saved::new(bytes)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(|error| Failure::new(ExitStatus::File, error))
}

fn show(arguments: &Show) -> Result<ExitStatus, Failure> {
    let bytes = read(&arguments.file)?;
    if vtl_audit::file::version(&bytes) == Some(vtl_audit::file::VERSION) {
        return show::main(&arguments.file, &bytes, arguments.cpu, arguments.json);
    }
    let saved = saved(&arguments.file, &bytes)?;
    let mut out = std::io::stdout().lock();
    let head = if arguments.json {
        format!("{}\n", json!({ "file": saved.identity }))
    } else {
        identity::lines(&saved.identity)
    };
    let records = saved
        .records()
        .map(|placed| Record::from_words(placed.words));
    let lines = records
        .filter(|record| arguments.cpu.is_none_or(|cpu| cpu == record.vp))
        .map(|record| print::line(&record, arguments.json) + "\n");
    for line in std::iter::once(head).chain(lines) {
        // If the reader of the output has gone away, end without an error, as filters do.
        if out.write_all(line.as_bytes()).is_err() {
            return Ok(ExitStatus::Success);
        }
    }
    // Trailing bytes are no complete record; tell the user.
    if saved.odd_bytes() != 0 {
        eprintln!("vtlctl: the file ends with {} odd bytes", saved.odd_bytes());
        return Ok(ExitStatus::Incomplete);
    }
    Ok(ExitStatus::Success)
}

fn verify(arguments: &Verify) -> Result<ExitStatus, Failure> {
    let bytes = read(&arguments.file)?;
    let is_attested = vtl_audit::file::version(&bytes) == Some(vtl_audit::file::VERSION);
    if is_attested || arguments.attested.is_given() {
        return attested::main(&bytes, &arguments.attested, arguments.json);
    }
    let report = verify::verify(&saved(&arguments.file, &bytes)?);
    if arguments.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(match report.verdict() {
        Verdict::Good => ExitStatus::Success,
        Verdict::Incomplete => ExitStatus::Incomplete,
        Verdict::Tampered => ExitStatus::Tampered,
    })
}
