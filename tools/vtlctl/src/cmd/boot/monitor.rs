// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `--monitor`: what it is to check, and where it tells what it has found.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use vtl::Vtl;
use vtlvmm::monitor::checks::Facts;
use vtlvmm::monitor::watch::{Report, Summary};
use vtlvmm::monitor::{Baseline, Event, Finding, KernelImage, Settings};

use crate::json::word;
use crate::{ExitStatus, Failure};

mod awaited;
mod baseline;
pub(crate) mod note;

use awaited::Awaited;

#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Check the guest's kernel from outside while it runs
    #[arg(long)]
    monitor: bool,
    /// Time between two checks
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1.0,
        value_parser = interval,
        requires = "monitor"
    )]
    monitor_interval: f64,
    /// Compare with what a trusted start has written to this file, or write it if there is none
    #[arg(long, value_name = "FILE", requires = "monitor")]
    monitor_baseline: Option<PathBuf>,
    /// Write what the checks find to a file, too, one JSON object a line
    #[arg(long, value_name = "FILE", requires = "monitor")]
    monitor_log: Option<PathBuf>,
    /// Stop the guest when a check finds something
    #[arg(long, requires = "monitor")]
    monitor_stop: bool,
}

fn interval(text: &str) -> anyhow::Result<f64> {
    const FROM: f64 = 0.1;
    const TO: f64 = 86400.0;
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (FROM..=TO).contains(seconds))
        .with_context(|| format!("'{text}' is no time (expected 0.1 to 86400 seconds)"))
}

/// A monitor for each start of the guest.
pub(super) struct Monitor {
    kernel: PathBuf,
    /// What was read of it, and when the file was written.
    image: Arc<KernelImage>,
    version: Option<Version>,
    trusted: Option<PathBuf>,
    interval: Duration,
    stops: bool,
    is_quiet: bool,
    log: Option<Arc<File>>,
    /// Records findings in the module's audit.
    vtl: Arc<Vtl>,
    begun: Instant,
}

impl Monitor {
    /// Reads the kernel and opens the log, if the command line wants a monitor.
    pub(super) fn new(
        arguments: &Arguments,
        kernel: &Path,
        is_quiet: bool,
    ) -> Result<Option<Self>, Failure> {
        if !arguments.monitor {
            return Ok(None);
        }
        let file = |error| Failure::new(ExitStatus::File, error);
        let version = version(kernel);
        let image = read(kernel).map_err(file)?;
        let log = arguments.monitor_log.as_deref().map(|path| {
            let opened = File::options().append(true).create(true).open(path);
            opened.with_context(|| format!("cannot write the monitor's log {}", path.display()))
        });
        Ok(Some(Self {
            kernel: kernel.to_owned(),
            image: Arc::new(image),
            version,
            trusted: arguments.monitor_baseline.clone(),
            interval: Duration::from_secs_f64(arguments.monitor_interval),
            stops: arguments.monitor_stop,
            is_quiet,
            log: log.transpose().map_err(file)?.map(Arc::new),
            vtl: Arc::new(Vtl::open()?),
            begun: Instant::now(),
        }))
    }

    /// What the machine needs to know. A guest that starts again has the file as it is now.
    pub(super) fn settings(&mut self) -> Result<Settings, Failure> {
        let version = version(&self.kernel);
        if version != self.version {
            let image = read(&self.kernel);
            self.image = Arc::new(image.map_err(|error| Failure::new(ExitStatus::File, error))?);
            self.version = version;
        }
        let file = |error| Failure::new(ExitStatus::File, error);
        let path = self.trusted.as_deref();
        let trusted = path.map(|path| {
            let image = &self.image;
            baseline::read(path, &image.text, |it| it.fits(image))
        });
        let trusted = trusted.transpose().map_err(file)?.flatten();
        Ok(self.for_this_start(trusted))
    }

    fn for_this_start(&self, trusted: Option<Baseline>) -> Settings {
        let (log, is_quiet, begun) = (self.log.clone(), self.is_quiet, self.begun);
        let vtl = Arc::clone(&self.vtl);
        let path = self.trusted.clone().filter(|_| trusted.is_none());
        let awaited = Awaited::new(path);
        let learned = awaited
            .at_begin()
            .map(|line| -> Box<dyn FnOnce(Baseline) + Send> {
                say(&line);
                let (image, writer) = (Arc::clone(&self.image), awaited.clone());
                Box::new(move |learned| writer.write(&image, &learned, is_quiet))
            });
        Settings {
            image: Arc::clone(&self.image),
            trusted,
            learned,
            interval: self.interval,
            stops: self.stops,
            // The record that can't be lost first, the terminal, which may be slow, last.
            report: Box::new(move |report| {
                let mut object = object(&report);
                object["seconds"] = begun.elapsed().as_secs_f64().into();
                let text = object.to_string();
                if let Report::Event(Event::Finding(finding)) = &report {
                    // An older module does not have it.
                    let _ = vtl.note(note::words(finding, &text));
                }
                if let Some(log) = &log {
                    // One write, so that a line is whole. A full disk must not end the guest.
                    let _ = (&**log).write_all(format!("{text}\n").as_bytes());
                }
                if let Some(line) = line(&report, is_quiet) {
                    say(&line);
                }
                let is_end = matches!(report, Report::End(_));
                if let Some(line) = awaited.at_end().filter(|_| is_end) {
                    say(&line);
                }
            }),
        }
    }
}

/// Says something to a person, if the terminal takes it: the guest can fill a disk that it goes to.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "vtlctl: monitor: {line}");
}

/// What tells a file from what replaces it.
type Version = (u64, u64, SystemTime);

fn version(path: &Path) -> Option<Version> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), about.modified().ok()?))
}

fn read(kernel: &Path) -> anyhow::Result<KernelImage> {
    let bytes = std::fs::read(kernel)
        .with_context(|| format!("cannot read the kernel {}", kernel.display()))?;
    KernelImage::from_bzimage(&bytes).map_err(|problem| {
        anyhow!(
            "cannot monitor the kernel {}: it {problem}",
            kernel.display()
        )
    })
}

/// For a person.
fn line(report: &Report<'_>, is_quiet: bool) -> Option<String> {
    match report {
        Report::Event(Event::Finding(finding)) => Some(finding.to_string()),
        Report::Event(Event::Silenced) => Some("further findings are not reported".to_owned()),
        _ if is_quiet => None,
        Report::Event(Event::Baseline(facts)) => {
            let Facts {
                text,
                text_len,
                sites,
                adopted,
                constants,
            } = facts;
            Some(format!(
                "baseline: {} KiB of text at {:#x}, {sites} places in it may change, {adopted} bytes \
                 were patched at boot; {} KiB of constants",
                text_len / 1024,
                text.linear,
                constants * 4
            ))
        }
        Report::End(summary) => {
            let Summary {
                rounds,
                busy,
                longest,
                baseline,
                findings,
            } = summary;
            Some(format!(
                "{rounds} checks, {findings} findings; {:.1} ms a check on average, at most {:.1} ms, \
                 the baseline {:.1} ms",
                busy.as_secs_f64() * 1000.0 / (*rounds).max(1) as f64,
                longest.as_secs_f64() * 1000.0,
                baseline.as_secs_f64() * 1000.0
            ))
        }
    }
}

/// For a program.
fn object(report: &Report<'_>) -> Value {
    match report {
        Report::Event(Event::Finding(finding)) => {
            let Finding {
                key,
                place,
                expected,
                found,
            } = finding;
            json!({
                "event": "finding",
                "kind": key.kind.name(),
                "vp": key.processor,
                "place": place,
                "expected": expected,
                "found": found,
            })
        }
        Report::Event(Event::Silenced) => json!({ "event": "silenced" }),
        Report::Event(Event::Baseline(facts)) => json!({
            "event": "baseline",
            "text": word(facts.text.linear),
            "text_gpa": word(facts.text.gpa),
            "text_bytes": facts.text_len,
            "sites": facts.sites,
            "patched_bytes": facts.adopted,
            "constant_pages": facts.constants,
        }),
        Report::End(summary) => json!({
            "event": "end",
            "checks": summary.rounds,
            "findings": summary.findings,
            "busy_seconds": summary.busy.as_secs_f64(),
            "baseline_seconds": summary.baseline.as_secs_f64(),
            "longest_seconds": summary.longest.as_secs_f64(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtlvmm::monitor::Kind;
    use vtlvmm::monitor::finding::Key;

    fn event() -> Event {
        Event::Finding(Finding {
            key: Key {
                kind: Kind::Register,
                place: 0,
                processor: Some(1),
                name: "LSTAR",
                gpa: None,
            },
            place: "LSTAR".to_owned(),
            expected: "0x1".to_owned(),
            found: "0x2".to_owned(),
        })
    }

    #[test]
    fn a_finding_is_one_line_and_one_object() {
        let event = event();
        let report = Report::Event(&event);
        let expected = "register: VP 1: LSTAR: expected 0x1, found 0x2";
        assert_eq!(line(&report, true).as_deref(), Some(expected));
        let object = object(&report);
        assert_eq!(object["kind"], "register");
        assert_eq!(object["vp"], 1);
        assert_eq!(object["found"], "0x2");
    }

    #[test]
    fn quiet_leaves_out_everything_but_findings() {
        let end = Report::End(Summary::default());
        assert_eq!(line(&end, true), None);
        let text = line(&end, false).unwrap_or_default();
        assert!(text.starts_with("0 checks, 0 findings"), "{text}");
    }

    #[test]
    fn an_interval_is_a_time_that_is_not_too_short() {
        assert_eq!(interval("0.5").ok(), Some(0.5));
        for text in ["0", "-1", "NaN", "inf", "1s", "0.001", "86401"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
