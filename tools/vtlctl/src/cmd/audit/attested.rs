// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit verify` of a log that events attest: what its evidence proves. The crate
//! `vtl_audit` decides; this reads files and prints.

mod print;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use vtl_audit::{BootLog, Contents, Evidence, Finding, Policy, Verdict, verify};

use super::read_short;
use crate::options::{self, EventName};
use crate::{ExitStatus, Failure};

/// What a log is held against.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Quote of the trust domain; have its signature checked first
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    quote: Option<PathBuf>,
    /// TDREPORT of the trust domain; its MAC is not checked
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Nonce that the evidence has to be for: 64 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = options::hex::<32>)]
    nonce: Option<[u8; 32]>,
    /// Highest event that is known: a log that ends before is refused
    #[arg(long, value_name = "SESSION:NUMBER", value_parser = options::event_name)]
    at_least: Option<EventName>,
    /// What the register held when the module was loaded, if not zeros: 96 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = options::hex::<48>)]
    open_register: Option<[u8; 48]>,
    /// Register that the module was told to extend (attest_rtmr=): 2, or 3 if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..4))]
    rtmr: Option<u32>,
    /// Event log of the boot, if not the one in the file
    #[arg(long, value_name = "FILE")]
    boot_log: Option<PathBuf>,
}

/// What the event log of the boot says.
enum Kernel {
    /// There is no log.
    NoLog,
    /// It is damaged, has no command line, or is of another boot.
    NotProved(String),
    /// The command line that the registers vouch for as they were when the module was loaded.
    CommandLine {
        line: String,
        /// The evidence vouches for it, too: the register is still so.
        is_in_evidence: bool,
    },
}

impl Arguments {
    /// Returns true if somebody wants to know what is proved. Then a file of an older version, which
    /// anybody can make, must not be looked at as if nobody had asked.
    pub(super) fn is_given(&self) -> bool {
        let Self {
            quote,
            report,
            nonce,
            at_least,
            open_register,
            rtmr,
            boot_log,
        } = self;
        let files = [quote, report, boot_log];
        files.into_iter().any(Option::is_some)
            || nonce.is_some()
            || at_least.is_some()
            || open_register.is_some()
            || rtmr.is_some()
    }

    fn policy(&self) -> Policy {
        Policy {
            nonce: self.nonce,
            register: self.rtmr.unwrap_or(Policy::DEFAULT.register),
            open_register: self.open_register.unwrap_or([0; 48]),
            at_least: self
                .at_least
                .map(|EventName(session, number)| (session, number)),
        }
    }

    /// The evidence that is named, or else the newest in the file.
    fn evidence(&self, contents: Option<&Contents<'_>>) -> Result<Evidence, Failure> {
        let named = |path: &Path, parse: Parse| -> Result<_, Failure> {
            let bytes = read_short(path)?;
            evidence(&bytes, parse)
                .with_context(|| format!("cannot use {}", path.display()))
                .map_err(|error| Failure::new(ExitStatus::File, error))
        };
        if let Some(path) = &self.quote {
            return named(path, Evidence::from_quote);
        }
        if let Some(path) = &self.report {
            return named(path, Evidence::from_report);
        }
        let quote = contents.and_then(|contents| contents.quotes.last());
        let report = contents.and_then(|contents| contents.reports.last());
        let found = match (quote, report) {
            (Some(quote), _) => evidence(quote, Evidence::from_quote),
            (None, Some(report)) => evidence(report, Evidence::from_report),
            (None, None) => Err(anyhow::anyhow!(
                "there is no quote and no report in the file: give one with --quote or --report"
            )),
        };
        found.map_err(|error| Failure::new(ExitStatus::File, error))
    }

    fn kernel(
        &self,
        contents: Option<&Contents<'_>>,
        evidence: &Evidence,
        finding: &Finding,
    ) -> Result<Kernel, Failure> {
        let bytes = match &self.boot_log {
            Some(path) => Some(read_short(path)?),
            None => contents
                .and_then(|contents| contents.boot_logs.last())
                .map(|log| log.to_vec()),
        };
        let Some(bytes) = bytes else {
            return Ok(Kernel::NoLog);
        };
        let not_proved = |why: &str| Ok(Kernel::NotProved(why.to_owned()));
        let log = match BootLog::parse(&bytes) {
            Err(why) => return not_proved(&why.to_string()),
            Ok(log) => log,
        };
        let Some(registers) = &finding.boot_registers else {
            return not_proved("what was measured before the module was loaded is not proved");
        };
        // What the events have made of their own register follows from what it was.
        let policy = self.policy();
        let mut now = evidence.rtmr;
        if let Some(register) = usize::try_from(policy.register)
            .ok()
            .and_then(|index| now.get_mut(index))
        {
            *register = policy.open_register;
        }
        match (log.proved_cmdline(registers), log.cmdline) {
            (Some(line), _) => Ok(Kernel::CommandLine {
                line: line.to_owned(),
                is_in_evidence: log.proved_cmdline(&now).is_some(),
            }),
            (None, Some(_)) => not_proved("the boot log is of another boot"),
            (None, None) => not_proved("the boot log has no command line"),
        }
    }
}

type Parse = fn(&[u8]) -> Result<Evidence, vtl_audit::evidence::BadEvidence>;

fn evidence(bytes: &[u8], parse: Parse) -> anyhow::Result<Evidence> {
    parse(bytes).map_err(|why| anyhow::anyhow!("this is no such evidence: {why}"))
}

/// Verifies a file and prints what was found.
pub(super) fn main(
    file: &[u8],
    arguments: &Arguments,
    is_json: bool,
) -> Result<ExitStatus, Failure> {
    // A file that cannot be read has a verdict, too.
    let contents = Contents::read(file).ok();
    let evidence = arguments.evidence(contents.as_ref())?;
    let finding = verify(file, &evidence, &arguments.policy());
    let kernel = arguments.kernel(contents.as_ref(), &evidence, &finding)?;
    if is_json {
        println!("{}", print::object(&finding, &evidence, &kernel));
    } else {
        print!("{}", print::text(&finding, &evidence, &kernel));
    }
    Ok(status(&finding))
}

fn status(finding: &Finding) -> ExitStatus {
    match finding.verdict {
        Verdict::Attested => ExitStatus::Success,
        Verdict::WithGaps => ExitStatus::WithGaps,
        Verdict::SuffixOnly => ExitStatus::SuffixOnly,
        Verdict::NotAttested => ExitStatus::NotAttested,
    }
}

#[cfg(test)]
mod tests;
