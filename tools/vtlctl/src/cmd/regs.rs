// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl regs`: registers of VTL0 on a virtual processor that does not run, by name.

use core::str::FromStr;

use anyhow::anyhow;
use serde_json::{Map, Value};
use vtl::{Mshv, Vm, Vp};

use crate::json::word;
use crate::{ExitStatus, Failure, dump, options};

#[derive(clap::Args)]
#[command(
    after_help = "With =VALUE a register is set. Of a virtual processor that runs at this moment, the
values are those of some moment or other, and what is set may be lost.

Examples:
  vtlctl regs
  vtlctl regs --cpu 1 rip rax=0x10"
)]
pub(crate) struct Arguments {
    /// CPU of the virtual processor
    #[arg(long, value_name = "N", default_value_t = 0)]
    cpu: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Registers [default: all]
    #[arg(value_name = "NAME[=VALUE]")]
    registers: Vec<Wanted>,
}

/// A register, and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    value: Option<u64>,
}

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(options::number(value)?)),
            None => (text, None),
        };
        let name = name.to_ascii_lowercase();
        Ok(Self { name, value })
    }
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let usage = |error| Failure::new(ExitStatus::Usage, error);
    let vp = Mshv::open()?.create_vtl()?.bind(arguments.cpu, Vm::VTL0)?;
    let there = dump::registers(&vp);
    // All names are looked at before anything changes.
    for wanted in &arguments.registers {
        let is_there = there.iter().any(|(name, _)| *name == wanted.name);
        if !is_there || wanted.value.is_some() && !dump::is_settable(&wanted.name) {
            return Err(usage(refused(wanted, &there)));
        }
    }
    for wanted in &arguments.registers {
        if let Some(value) = wanted.value {
            set(&vp, &wanted.name, value)?;
        }
    }
    let registers = chosen(dump::registers(&vp), &arguments.registers);
    if arguments.json {
        println!("{}", to_json(&registers));
    } else {
        println!("{}", dump::table(&registers));
    }
    Ok(ExitStatus::Success)
}

fn set(vp: &Vp, name: &str, value: u64) -> anyhow::Result<()> {
    dump::set(vp, name, value).map_err(|error| anyhow!(error).context(format!("cannot set {name}")))
}

fn refused(wanted: &Wanted, there: &[(&str, u64)]) -> anyhow::Error {
    let names = there.iter().map(|(name, _)| *name);
    let (what, names): (_, Vec<_>) = match wanted.value {
        Some(_) => (
            "can be set",
            names.filter(|name| dump::is_settable(name)).collect(),
        ),
        None => ("is there", names.collect()),
    };
    anyhow!(
        "no register '{}' {what} (expected one of {})",
        wanted.name,
        names.join(", ")
    )
}

/// Those that are asked for, or all.
fn chosen(registers: Vec<(&'static str, u64)>, wanted: &[Wanted]) -> Vec<(&'static str, u64)> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it.name == name);
    registers
        .into_iter()
        .filter(|(name, _)| is_wanted(name))
        .collect()
}

fn to_json(registers: &[(&'static str, u64)]) -> Value {
    let members: Map<_, _> = registers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), word(*value)))
        .collect();
    members.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Wanted {
        text.parse().expect("a register")
    }

    #[test]
    fn names_come_with_and_without_a_value() {
        let plain = wanted("RIP");
        assert_eq!((plain.name.as_str(), plain.value), ("rip", None));
        assert_eq!(wanted("rax=0x10").value, Some(16));
        assert!("rax=".parse::<Wanted>().is_err());
        assert!("rax=a".parse::<Wanted>().is_err());
    }

    #[test]
    fn those_asked_for_are_shown_and_nothing_else() {
        let all = vec![("rip", 1), ("rax", 2)];
        assert_eq!(chosen(all.clone(), &[]), all);
        assert_eq!(chosen(all.clone(), &[wanted("rax")]), [("rax", 2)]);
        assert_eq!(to_json(&all)["rax"], "0x2");
    }

    #[test]
    fn a_refusal_lists_what_there_is() {
        let there = [("rip", 1), ("mxcsr", 2)];
        let text = refused(&wanted("rpi"), &there).to_string();
        assert!(
            text.contains("'rpi' is there (expected one of rip, mxcsr)"),
            "{text}"
        );
        let text = refused(&wanted("mxcsr=1"), &there).to_string();
        assert!(
            text.contains("'mxcsr' can be set (expected one of rip)"),
            "{text}"
        );
    }
}
