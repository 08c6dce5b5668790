// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A finding for people, or for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use vtl_audit::cmdline::openings;
use vtl_audit::event::CONTROL;
use vtl_audit::evidence::Source;
use vtl_audit::{Evidence, Finding, Verdict};

use super::Kernel;
use crate::options::{digits, one_line};

/// More lines of one kind are counted only.
const SHOWN: usize = 20;

pub(super) fn text(finding: &Finding, evidence: &Evidence, kernel: &Kernel) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut out, finding, evidence, kernel);
    out
}

fn write_all(
    out: &mut String,
    finding: &Finding,
    evidence: &Evidence,
    kernel: &Kernel,
) -> std::fmt::Result {
    let verdict = finding.verdict;
    match (verdict, finding.last_event) {
        (Verdict::NotAttested, _) | (_, None) => writeln!(out, "{verdict}")?,
        (_, Some(last)) => {
            let end = match finding.is_closed {
                true => "closed",
                false => "open",
            };
            let first = finding.first_event;
            writeln!(out, "{verdict}: events {first} to {last}, {end}")?;
        }
    }
    lines(out, "", &finding.reasons)?;
    if let Some(session) = &finding.session {
        writeln!(out, "session: {}", digits(session))?;
    }
    writeln!(out, "evidence: {}", describe(evidence))?;
    if let Some(number) = finding.nonce_event {
        writeln!(out, "nonce: carried by event {number}")?;
    }
    if finding.later_events != 0 {
        let count = finding.later_events;
        writeln!(out, "not covered by the evidence: {count} later events")?;
    }
    for stream in &finding.streams {
        let name = name(stream.id);
        let (proved, unproved) = (stream.proved, stream.unproved);
        let last = stream.last;
        writeln!(
            out,
            "{name}: {last} records covered, {proved} of them proved, {unproved} others not"
        )?;
    }
    lines(out, "gap: ", &finding.gaps)?;
    write_kernel(out, kernel)
}

fn lines(out: &mut String, before: &str, items: &[impl std::fmt::Display]) -> std::fmt::Result {
    for item in items.iter().take(SHOWN) {
        writeln!(out, "{before}{item}")?;
    }
    match items.len().checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "{before}... {more} more"),
    }
}

fn write_kernel(out: &mut String, kernel: &Kernel) -> std::fmt::Result {
    let (line, is_in_evidence) = match kernel {
        Kernel::NoLog => {
            return writeln!(
                out,
                "kernel: no event log of the boot: if root can be the kernel is not known"
            );
        }
        Kernel::NotProved(why) => return writeln!(out, "kernel: {why}: nothing is known of it"),
        Kernel::CommandLine {
            line,
            is_in_evidence,
        } => (line, *is_in_evidence),
    };
    writeln!(out, "kernel: measured command line: {}", one_line(line))?;
    if !is_in_evidence {
        writeln!(
            out,
            "kernel: so says the first event; its register has been extended since, and the evidence does not tell"
        )?;
    }
    let mut is_open = false;
    for opening in openings(line) {
        is_open = true;
        writeln!(out, "kernel: root can become the kernel: {opening}")?;
    }
    match is_open {
        true => writeln!(
            out,
            "kernel: from when root did so, the log proves nothing; what a checkpoint covered before, it does"
        ),
        false => writeln!(
            out,
            "kernel: its command line gives root no way to become the kernel"
        ),
    }
}

fn describe(evidence: &Evidence) -> &'static str {
    match evidence.source {
        Source::Report => "TDREPORT, UNSIGNED: it counts where you made it yourself",
        Source::Quote { is_intel: true } => "quote, SIGNATURE NOT CHECKED: have a verifier do that",
        Source::Quote { is_intel: false } => {
            "quote of no quoting enclave of Intel's, SIGNATURE NOT CHECKED"
        }
    }
}

fn name(stream: u32) -> String {
    match stream {
        CONTROL => "control plane".to_owned(),
        cpu => format!("CPU {cpu}"),
    }
}

pub(super) fn object(finding: &Finding, evidence: &Evidence, kernel: &Kernel) -> Value {
    let streams = finding.streams.iter().map(|stream| {
        let id = match stream.id {
            CONTROL => Value::Null,
            cpu => cpu.into(),
        };
        json!({
            "cpu": id,
            "last": stream.last,
            "proved": stream.proved,
            "unproved": stream.unproved,
        })
    });
    let words = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>();
    json!({
        "verdict": match finding.verdict {
            Verdict::Attested => "attested",
            Verdict::WithGaps => "attested_with_gaps",
            Verdict::SuffixOnly => "suffix_only",
            Verdict::NotAttested => "not_attested",
        },
        "reasons": words(&mut finding.reasons.iter().map(ToString::to_string)),
        "session": finding.session.as_ref().map(|session| digits(session)),
        "first_event": finding.first_event,
        "last_event": finding.last_event,
        "later_events": finding.later_events,
        "closed": finding.is_closed,
        "nonce_event": finding.nonce_event,
        "evidence": match evidence.source {
            Source::Report => "report",
            Source::Quote { .. } => "quote",
        },
        "signature": "not checked",
        "mrtd": digits(&evidence.mrtd),
        "rtmr": evidence.rtmr.iter().map(|rtmr| digits(rtmr)).collect::<Vec<_>>(),
        "boot_rtmr": finding.boot_registers.as_ref().map(|boot| {
            boot.iter().map(|rtmr| digits(rtmr)).collect::<Vec<_>>()
        }),
        "streams": streams.collect::<Vec<_>>(),
        "gaps": words(&mut finding.gaps.iter().map(ToString::to_string)),
        "kernel": of_kernel(kernel),
    })
}

fn of_kernel(kernel: &Kernel) -> Value {
    match kernel {
        Kernel::NoLog => Value::Null,
        Kernel::NotProved(why) => json!({ "not_proved": why }),
        Kernel::CommandLine {
            line,
            is_in_evidence,
        } => {
            let open: Vec<_> = openings(line).map(|opening| opening.to_string()).collect();
            json!({ "command_line": line, "open_to_root": open, "in_evidence": is_in_evidence })
        }
    }
}
