// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit boot`: the event log of the boot against the registers of this trust domain, and
//! what its command line leaves open to root.

use std::path::PathBuf;

use serde_json::json;
use vtl::{Vtl, field};
use vtl_audit::BootLog;
use vtl_audit::cmdline::openings;
use vtl_audit::hash::Digest;

use super::read_short;
use crate::options::{digits, one_line};
use crate::{ExitStatus, Failure};

/// Where Linux shows the log.
pub(super) const LOG: &str = "/sys/firmware/acpi/tables/data/CCEL";
/// RTMR0 to 2 are the boot's; RTMR3 is extended by whoever runs later.
const REGISTERS: usize = 3;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print only what this measurement register holds, 0 to 3
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u8).range(0..4))]
    register: Option<u8>,
    /// Event log, if not that of this boot
    file: Option<PathBuf>,
}

pub(super) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    if let Some(index) = arguments.register {
        let register = digits(&register(&Vtl::open()?, index.into())?);
        match arguments.json {
            true => println!("{}", json!({ "rtmr": index, "value": register })),
            false => println!("{register}"),
        }
        return Ok(ExitStatus::Success);
    }
    let path = arguments.file.clone().unwrap_or_else(|| LOG.into());
    let bytes = read_short(&path)?;
    let log = BootLog::parse(&bytes).map_err(|why| {
        let error = anyhow::anyhow!("cannot use {}: {why}", path.display());
        Failure::new(ExitStatus::File, error)
    })?;
    let registers = registers(&Vtl::open()?)?;
    let told = Told::new(&log, &registers);
    if arguments.json {
        println!("{}", told.object());
    } else {
        print!("{}", told.text());
    }
    Ok(match told.is_proved() {
        true => ExitStatus::Success,
        false => ExitStatus::NotAttested,
    })
}

/// As the TDX module has them now, without a signature.
fn registers(vtl: &Vtl) -> Result<[Digest; 4], vtl::Error> {
    let mut registers = [[0; 48]; 4];
    for (to, index) in registers.iter_mut().zip(0..) {
        *to = register(vtl, index)?;
    }
    Ok(registers)
}

fn register(vtl: &Vtl, index: u64) -> Result<Digest, vtl::Error> {
    let mut register = [0; 48];
    for (bytes, word) in register.chunks_exact_mut(8).zip(0..) {
        let value = vtl.read_vm(field::rtmr(index, word))?;
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    Ok(register)
}

/// What the log tells.
struct Told<'a> {
    log: &'a BootLog<'a>,
    registers: &'a [Digest; 4],
    cmdline: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn new(log: &'a BootLog<'a>, registers: &'a [Digest; 4]) -> Self {
        Self {
            log,
            registers,
            cmdline: log.proved_cmdline(registers),
        }
    }

    fn is_proved(&self) -> bool {
        self.log.is_of(self.registers, REGISTERS)
    }

    fn text(&self) -> String {
        let pairs = self.log.rtmr.iter().zip(self.registers).take(REGISTERS);
        let registers = pairs.enumerate().map(|(index, (log, register))| {
            let verdict = match log == register {
                true => "as the log says",
                false => "NOT as the log says",
            };
            format!("RTMR{index} {}: {verdict}\n", digits(register))
        });
        let line = match self.cmdline {
            Some(line) => format!("command line: {}\n", one_line(line)),
            None => "command line: not proved\n".to_owned(),
        };
        let open = self.cmdline.map(openings).into_iter().flatten();
        let open = open.map(|opening| format!("root can become the kernel: {opening}\n"));
        registers.chain([line]).chain(open).collect()
    }

    fn object(&self) -> serde_json::Value {
        let open = self.cmdline.map(openings).into_iter().flatten();
        json!({
            "proved": self.is_proved(),
            "rtmr": self.registers.iter().map(|rtmr| digits(rtmr)).collect::<Vec<_>>(),
            "log_rtmr": self.log.rtmr.iter().map(|rtmr| digits(rtmr)).collect::<Vec<_>>(),
            "command_line": self.cmdline,
            "open_to_root": open.map(|opening| opening.to_string()).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl_audit::testing::boot_log;

    #[test]
    fn a_log_of_this_boot_is_proved_and_another_is_not() -> anyhow::Result<()> {
        let bytes = boot_log("quiet");
        let log = BootLog::parse(&bytes).map_err(|why| anyhow::anyhow!("{why}"))?;
        // What was extended after the boot does not matter.
        let mut registers = log.rtmr;
        registers[3] = [1; 48];
        let told = Told::new(&log, &registers);
        let text = told.text();
        assert!(
            told.is_proved() && text.contains("command line: quiet\n"),
            "{text}"
        );
        assert!(
            text.contains("root can become the kernel: it is not locked down"),
            "{text}"
        );
        registers[2] = [2; 48];
        let told = Told::new(&log, &registers);
        let text = told.text();
        assert!(
            !told.is_proved() && text.contains("command line: not proved"),
            "{text}"
        );
        assert!(text.contains("RTMR2 0202"), "{text}");
        assert_eq!(text.matches("NOT as the log says").count(), 1, "{text}");
        assert_eq!(told.object()["command_line"], serde_json::Value::Null);
        Ok(())
    }
}
