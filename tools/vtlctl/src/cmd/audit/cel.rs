// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit cel`: the events of a saved log, for tools that read Canonical Event Logs.

use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::json;
use vtl_audit::{Contents, cel};

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File that `save` made
    file: PathBuf,
    /// File to write
    output: PathBuf,
}

pub(super) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let bytes = super::read(&arguments.file)?;
    let contents = Contents::read(&bytes).map_err(|why| {
        let error = anyhow!("cannot read {}: {why}", arguments.file.display());
        Failure::new(ExitStatus::File, error)
    })?;
    let exported = cel::export(&contents.events);
    super::write_other(&arguments.file, &arguments.output, &exported)?;
    let events = &contents.events;
    // Only then does a replay lead to the register.
    let is_whole = !events.is_empty() && events.iter().zip(0..).all(|(e, n)| e.number == n);
    if arguments.json {
        println!("{}", json!({ "events": events.len(), "whole": is_whole }));
    } else {
        println!("{} events written", events.len());
    }
    if !is_whole {
        eprintln!("vtlctl: events are missing: a replay does not lead to the register");
        return Ok(ExitStatus::Incomplete);
    }
    Ok(ExitStatus::Success)
}
