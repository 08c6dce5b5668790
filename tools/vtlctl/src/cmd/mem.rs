// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl mem`: memory of the lower VTLs. What the TDX module knows about it, its contents, and the rights
//! of each VTL.

mod rights;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use vtl::{GpaRange, LowerMemory, Mshv, Vm, Vtl};

use crate::json::word;
use crate::{ExitStatus, Failure, options};
use rights::Rights;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show which pages are accepted, and who has which rights on them.
    Map(Map),
    /// Print what stands at an address.
    Read(Read),
    /// Write a file's contents to an address.
    Write(Write),
    /// Set a VTL's rights on pages.
    #[command(after_help = RIGHTS_HELP)]
    Rights(SetRights),
}

const RIGHTS_HELP: &str =
    "Rights are letters: r read, w write, x execute, or s and u to execute in supervisor
and in user mode only; - for none.

Example:
  vtlctl mem rights 0x200000 2M rx";

#[derive(clap::Args)]
struct Map {
    /// Only this part [default: all of the module's vtl0_mem]
    #[arg(long, value_name = "BASE,SIZE", value_parser = options::range)]
    range: Option<GpaRange>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Read {
    /// Guest-physical address
    #[arg(value_parser = options::number)]
    address: u64,
    /// Bytes
    #[arg(value_parser = options::number, default_value = "256")]
    length: u64,
    /// Print the bytes as they are
    #[arg(long)]
    raw: bool,
}

#[derive(clap::Args)]
struct Write {
    /// Guest-physical address
    #[arg(value_parser = options::number)]
    address: u64,
    /// File; - is standard input
    file: PathBuf,
}

#[derive(clap::Args)]
struct SetRights {
    /// Guest-physical address of the first page
    #[arg(value_parser = options::number)]
    address: u64,
    /// Bytes, whole pages
    #[arg(value_parser = options::number)]
    length: u64,
    /// What the VTL may do
    #[arg(allow_hyphen_values = true)]
    rights: Rights,
    /// VTL 0 or 1; 2 is VM 3, where there is one
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    vtl: u8,
}

const PAGE: u64 = 4096;

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let mshv = Mshv::open()?;
    let vtl = mshv.create_vtl()?;
    match &arguments.command {
        Command::Map(arguments) => map(&vtl, arguments)?,
        Command::Read(arguments) => read(&vtl, arguments)?,
        Command::Write(arguments) => write(&vtl, arguments)?,
        Command::Rights(arguments) => {
            let usage = |error: vtl::Error| Failure::new(ExitStatus::Usage, error);
            let range = GpaRange::new(arguments.address, arguments.length).map_err(usage)?;
            let vm = Vm::ALL[usize::from(arguments.vtl)];
            vtl.set_rights(&range, vm, arguments.rights.0)?;
            forget_translations(&vtl, mshv.info()?.num_cpus)?;
            println!("{range}: VTL{} has {}", arguments.vtl, arguments.rights);
        }
    }
    Ok(ExitStatus::Success)
}

/// No virtual processor uses rights of before when this returns.
fn forget_translations(vtl: &Vtl, num_cpus: u32) -> anyhow::Result<()> {
    let mut pages = Vec::new();
    for cpu in 0..num_cpus {
        // A CPU that was never online has no virtual processor.
        if vtl.stats(cpu)?.is_some() {
            pages.push(vtl.map_run_page(cpu)?);
        }
    }
    Ok(vtl.flush(&pages)?)
}

/// Pages that follow each other and are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    end: u64,
    state: State,
}

/// What is told of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    page_bytes: u64,
    is_accepted: bool,
    vtl0: Rights,
    vtl1: Rights,
}

fn map(vtl: &Vtl, arguments: &Map) -> anyhow::Result<()> {
    let ranges = match arguments.range {
        Some(range) => vec![range],
        None => options::lower_memory()?,
    };
    let mut runs = Vec::new();
    for range in ranges {
        let mut at = range.base();
        while at < range.end() {
            let page = vtl.page_attributes(at)?;
            let end = (page.gpa + page.size).min(range.end());
            let state = State {
                page_bytes: page.size,
                is_accepted: !page.is_pending,
                vtl0: Rights(page.rights(Vm::VTL0)),
                vtl1: Rights(page.rights(Vm::VTL1)),
            };
            add(
                &mut runs,
                Run {
                    start: at,
                    end,
                    state,
                },
            );
            // Even if the TDX module named another page.
            at = end.max(at + PAGE);
        }
    }
    let text = if arguments.json {
        format!("{}\n", to_json(&runs))
    } else {
        table(&runs)
    };
    print(text.as_bytes())
}

fn add(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.end == run.start && last.state == run.state => last.end = run.end,
        _ => runs.push(run),
    }
}

fn table(runs: &[Run]) -> String {
    let mut text = format!(
        "{:<28} {:>8} {:<9} {:<5} VTL1\n",
        "range", "pages of", "state", "VTL0"
    );
    for Run { start, end, state } in runs {
        let range = format!("{start:#x}..{end:#x}");
        let size = format!("{}K", state.page_bytes >> 10);
        let (vtl0, vtl1) = (state.vtl0, state.vtl1);
        let word = state_word(state);
        text += &format!("{range:<28} {size:>8} {word:<9} {vtl0:<5} {vtl1}\n");
    }
    text
}

const fn state_word(state: &State) -> &'static str {
    if state.is_accepted {
        "accepted"
    } else {
        "pending"
    }
}

fn to_json(runs: &[Run]) -> Value {
    let runs = runs.iter().map(|run| {
        json!({
            "start": word(run.start),
            "end": word(run.end),
            "page_bytes": run.state.page_bytes,
            "state": state_word(&run.state),
            "vtl0": run.state.vtl0.to_string(),
            "vtl1": run.state.vtl1.to_string(),
        })
    });
    json!({ "runs": runs.collect::<Vec<_>>() })
}

/// Maps the pages of some bytes. One that is not accepted can't be touched.
fn mapped(vtl: &Vtl, address: u64, length: u64) -> anyhow::Result<(LowerMemory, u64)> {
    let start = address & !(PAGE - 1);
    let end = address
        .checked_add(length)
        .and_then(|end| end.checked_next_multiple_of(PAGE))
        .context("the range ends beyond the address space")?;
    let range = GpaRange::new(start, end - start)?;
    let mut at = start;
    while at < end {
        let page = vtl.page_attributes(at)?;
        if page.is_pending {
            bail!("the page at {at:#x} is not accepted: no guest has had it yet");
        }
        at = (page.gpa + page.size).max(at + PAGE);
    }
    Ok((LowerMemory::map(range)?, address - start))
}

fn read(vtl: &Vtl, arguments: &Read) -> anyhow::Result<()> {
    const MOST: u64 = 1 << 30;
    if arguments.length == 0 || arguments.length > MOST {
        bail!(
            "{} bytes can't be read (expected 1 to 1G)",
            arguments.length
        );
    }
    let (memory, offset) = mapped(vtl, arguments.address, arguments.length)?;
    // CAST: at most 1 GiB.
    let mut bytes = vec![0; arguments.length as usize];
    memory.read(offset, &mut bytes)?;
    if arguments.raw {
        return print(&bytes);
    }
    print(dump(arguments.address, &bytes).as_bytes())
}

fn write(vtl: &Vtl, arguments: &Write) -> Result<(), Failure> {
    let bytes = contents(&arguments.file)
        .with_context(|| format!("cannot read {}", arguments.file.display()))
        .map_err(|error| Failure::new(ExitStatus::File, error))?;
    if !bytes.is_empty() {
        // CAST: widening.
        let (memory, offset) = mapped(vtl, arguments.address, bytes.len() as u64)?;
        memory.write(offset, &bytes)?;
    }
    println!("{} bytes written to {:#x}", bytes.len(), arguments.address);
    Ok(())
}

fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sixteen bytes a line, with the letters among them.
fn dump(address: u64, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, line) in (address..).step_by(16).zip(bytes.chunks(16)) {
        let hex = line
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!(" {byte:02x}"));
        let letters: String = line
            .iter()
            .map(|byte| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '.',
            })
            .collect();
        text += &format!("{at:012x} {hex:<48}  {letters}\n");
    }
    text
}

/// A reader that went away is no error, as with any filter.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
#[path = "mem/tests.rs"]
mod tests;
