// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl reset`: resets virtual processors, so that the next guest sees nothing of an earlier
//! one.

use anyhow::bail;
use vtl::{Error, Info, Mshv, Vm, Vtl};

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What became of a virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResetOutcome {
    Reset,
    Offline,
}

impl ResetOutcome {
    fn words(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Offline => "offline, left as it is",
        }
    }
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let mshv = Mshv::open()?;
    let info = mshv.info()?;
    let vtl = mshv.create_vtl()?;
    let only = arguments.cpu;
    let cpus = only.map_or(0..info.num_cpus, |cpu| cpu..cpu.saturating_add(1));
    let mut outcomes = Vec::new();
    for cpu in cpus {
        // A CPU that was never online has no virtual processor.
        if vtl.stats(cpu)?.is_some() {
            let outcome = reset(&vtl, cpu, &info, only.is_some())?;
            if !arguments.json {
                println!("cpu {cpu}: {}", outcome.words());
            }
            outcomes.push((cpu, outcome));
        }
    }
    if arguments.json {
        println!("{}", to_json(&outcomes));
    }
    if !outcomes
        .iter()
        .any(|(_, outcome)| *outcome == ResetOutcome::Reset)
    {
        return Err(nothing(only).into());
    }
    Ok(ExitStatus::Success)
}

fn to_json(outcomes: &[(u32, ResetOutcome)]) -> serde_json::Value {
    let vps: Vec<_> = outcomes
        .iter()
        .map(|(cpu, outcome)| {
            let is_reset = *outcome == ResetOutcome::Reset;
            serde_json::json!({ "vp": cpu, "reset": is_reset })
        })
        .collect();
    serde_json::json!({ "vps": vps })
}

fn nothing(only: Option<u32>) -> anyhow::Error {
    match only {
        Some(cpu) => anyhow::anyhow!("cpu {cpu} has no virtual processor"),
        None => anyhow::anyhow!("no virtual processor was reset"),
    }
}

/// A CPU that is offline is an error only if it was named.
fn reset(vtl: &Vtl, cpu: u32, info: &Info, is_named: bool) -> anyhow::Result<ResetOutcome> {
    let mut vp = match vtl.bind(cpu, Vm::VTL0) {
        Ok(vp) => vp,
        Err(Error::Bind { .. }) if !is_named => return Ok(ResetOutcome::Offline),
        Err(error) => bail!(error),
    };
    vp.renew(info.num_l2_vms)?;
    Ok(ResetOutcome::Reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_tells_which_were_reset() {
        let json = to_json(&[(0, ResetOutcome::Reset), (2, ResetOutcome::Offline)]);
        assert_eq!(json["vps"][0]["reset"], true);
        assert_eq!(
            (&json["vps"][1]["vp"], &json["vps"][1]["reset"]),
            (&2.into(), &false.into())
        );
    }
}
