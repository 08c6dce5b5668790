// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl`: inspects the VTL devices and runs guests at VTL0.
//!
//! This file has argument parsing and exit statuses; the commands are in `cmd`, what a guest sees
//! of its paravisor in `services`, its memory in `layout` and `image`. Everything that calls the
//! kernel is in the crate `vtl`.

mod asm;
mod cmd;
#[cfg(test)]
mod documents;
mod dump;
mod image;
mod json;
mod layout;
mod options;
mod services;
mod tally;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Run lower virtual trust levels of an Intel TDX trust domain.
#[derive(Parser)]
#[command(version, after_help = STATUS_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is here, what is missing, and why.
    Probe(cmd::probe::Arguments),
    /// Run a flat binary, or the built-in demo, at VTL0.
    Run(cmd::run::Arguments),
    /// Boot a kernel at VTL0, with its console on this terminal.
    Boot(cmd::boot::Arguments),
    /// Measure the cost of an ioctl and of one round trip to VTL0.
    Bench(cmd::bench::Arguments),
    /// Show what each virtual processor did so far.
    Stats(cmd::stats::Arguments),
    /// Watch what each virtual processor does now.
    Top(cmd::top::Arguments),
    /// Make virtual processors new: nothing of an earlier guest stays with them.
    Reset(cmd::reset::Arguments),
    /// Follow, save, show or verify the record of every switch.
    Audit(cmd::audit::Arguments),
    /// Show and set registers of VTL0.
    Regs(cmd::regs::Arguments),
    /// Show and change memory of the lower VTLs.
    Mem(cmd::mem::Arguments),
    /// Write the switches of some seconds to a file for a trace viewer.
    Trace(cmd::trace::Arguments),
    /// Write the manual pages.
    Man(cmd::manual::Man),
    /// Print what a shell needs to complete commands and options.
    Completions(cmd::manual::Completions),
}

const STATUS_HELP: &str = "Exit status:
  0  success: the guest halted, powered itself off or reported 0, or nothing required is missing
  1  the kernel or the TDX module refused something, or something is missing
  2  the command line is wrong
  3  a file is missing, unreadable, empty, too large, or not of the kind that is needed
  4  the guest failed: triple fault, forbidden access, unsupported exit, or it reported a failure
  5  the guest was stopped by --max-exits, --timeout or Ctrl-A X
  6  a file of audit records is not as the kernel wrote it
  7  a file of audit records is incomplete
  8  an audit log is attested with gaps
  9  of an audit log only the end is attested
 10  an audit log is not attested
 11  the guest was stopped by --monitor-stop";

/// Exit status of the process; the numbers are those of [`STATUS_HELP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    Success = 0,
    Failure = 1,
    Usage = 2,
    File = 3,
    GuestFailed = 4,
    Limit = 5,
    Tampered = 6,
    Incomplete = 7,
    WithGaps = 8,
    SuffixOnly = 9,
    NotAttested = 10,
    Violated = 11,
}

/// An error with the exit status it ends the process with.
#[derive(Debug)]
struct Failure {
    status: ExitStatus,
    error: anyhow::Error,
}

impl Failure {
    fn new(status: ExitStatus, error: impl Into<anyhow::Error>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(ExitStatus::Failure, error)
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Probe(arguments) => cmd::probe::main(&arguments),
        Command::Run(arguments) => cmd::run::main(&arguments),
        Command::Boot(arguments) => cmd::boot::main(&arguments),
        Command::Bench(arguments) => cmd::bench::main(&arguments),
        Command::Stats(arguments) => cmd::stats::main(&arguments),
        Command::Top(arguments) => cmd::top::main(&arguments),
        Command::Reset(arguments) => cmd::reset::main(&arguments),
        Command::Audit(arguments) => cmd::audit::main(&arguments),
        Command::Regs(arguments) => cmd::regs::main(&arguments),
        Command::Mem(arguments) => cmd::mem::main(&arguments),
        Command::Trace(arguments) => cmd::trace::main(&arguments),
        Command::Man(arguments) => cmd::manual::man(&arguments, Arguments::command()),
        Command::Completions(arguments) => {
            cmd::manual::completions(&arguments, Arguments::command())
        }
    };
    let status = outcome.unwrap_or_else(|failure| {
        // Even if nobody can read it, the status says it.
        let _ = writeln!(std::io::stderr(), "vtlctl: {:#}", failure.error);
        failure.status
    });
    // CAST: the discriminants are below 12.
    ExitCode::from(status as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// In the guide `vtlctl VTL0` is what CPUID tells a guest.
    #[test]
    fn the_pages_and_the_command_line_say_the_same() {
        assert_eq!(documents::compare(&Arguments::command(), &["VTL0"]), Ok(()));
    }
}
