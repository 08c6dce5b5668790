// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counters in the text format of Prometheus.

use std::fmt::Write as _;

use vtl::stats::{ExitStats, REFUSALS};
use vtl::{Info, Stats};

use super::{Vps, seconds};

pub(super) fn text(vps: &Vps, info: &Info) -> String {
    let mut text = String::new();
    family(
        &mut text,
        "mshv_vtl_exits_total",
        "Exits of lower VTLs.",
        vps,
        |exit| Some(exit.count.to_string()),
    );
    family(
        &mut text,
        "mshv_vtl_exits_handled_total",
        "Exits that the kernel dealt with itself.",
        vps,
        |exit| Some(exit.handled.to_string()),
    );
    family(
        &mut text,
        "mshv_vtl_run_seconds_total",
        "Time from entry to exit.",
        vps,
        |exit| seconds(exit.cycles, info).map(|seconds| format!("{seconds:.9}")),
    );
    let storms = |stats: &Stats| Some(stats.storms.count.to_string());
    vp_family(
        &mut text,
        "mshv_vtl_exit_storms_total",
        "Times that the host took a lower VTL out 1024 times in a row.",
        vps,
        storms,
    );
    let storm_seconds =
        |stats: &Stats| seconds(stats.storms.ticks, info).map(|seconds| format!("{seconds:.9}"));
    vp_family(
        &mut text,
        "mshv_vtl_exit_storm_seconds_total",
        "Time that these took.",
        vps,
        storm_seconds,
    );
    let name = "mshv_vtl_refused_total";
    let _ = writeln!(text, "# HELP {name} Commands that were refused.");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (cpu, stats) in vps {
        for (reason, count) in REFUSALS.iter().zip(stats.refused) {
            let _ = writeln!(text, "{name}{{vp=\"{cpu}\",reason=\"{reason}\"}} {count}");
        }
    }
    let name = "mshv_vtl_stalls_total";
    let help = "Exits handed over because a lower VTL made no progress.";
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (cpu, stats) in vps {
        let _ = writeln!(text, "{name}{{vp=\"{cpu}\"}} {}", stats.stalls);
    }
    let name = "mshv_vtl_switches_total";
    let help = "Switches between VTL0 and VTL1 in the kernel, and what goes with them.";
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (cpu, stats) in vps {
        for (event, count) in stats.vtl.named() {
            let _ = writeln!(text, "{name}{{vp=\"{cpu}\",event=\"{event}\"}} {count}");
        }
    }
    text
}

/// One metric for each virtual processor.
fn vp_family(
    text: &mut String,
    name: &str,
    help: &str,
    vps: &Vps,
    value: impl Fn(&Stats) -> Option<String>,
) {
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (cpu, stats) in vps {
        if let Some(value) = value(stats) {
            let _ = writeln!(text, "{name}{{vp=\"{cpu}\"}} {value}");
        }
    }
}

/// One metric for each virtual processor and kind of exit.
fn family(
    text: &mut String,
    name: &str,
    help: &str,
    vps: &Vps,
    value: impl Fn(&ExitStats) -> Option<String>,
) {
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (cpu, stats) in vps {
        for exit in &stats.exits {
            if let Some(value) = value(exit) {
                let kind = exit.kind;
                let _ = writeln!(text, "{name}{{vp=\"{cpu}\",exit=\"{kind}\"}} {value}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{info, vps};

    #[test]
    fn prometheus_text_has_a_type_for_each_metric() {
        let text = super::text(&vps(), &info(1_000_000));
        assert!(text.contains("mshv_vtl_exits_total{vp=\"1\",exit=\"CPUID\"} 4\n"));
        assert!(text.contains("mshv_vtl_exit_storms_total{vp=\"1\"} 3\n"));
        assert!(text.contains("mshv_vtl_exit_storm_seconds_total{vp=\"1\"} 0.007672500\n"));
        assert!(
            text.contains("mshv_vtl_run_seconds_total{vp=\"1\",exit=\"CPUID\"} 0.000008000\n"),
            "{text}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('{').next().unwrap_or_default();
            assert!(text.contains(&format!("# TYPE {name} counter\n")), "{line}");
        }
        let unknown = super::text(&vps(), &info(0));
        assert!(
            !unknown.contains("run_seconds_total{"),
            "no frequency, no time"
        );
    }
}
