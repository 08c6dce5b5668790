// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl stats`: what each virtual processor did since the module was
//! loaded, for people, for programs, for Prometheus; or what it does now.

mod prometheus;
mod watch;

use std::fmt::Write as _;

use anyhow::bail;
use serde_json::{Value, json};
use vtl::stats::{ExitStats, REFUSALS};
use vtl::{Info, Mshv, Stats, Vtl};

pub(crate) use self::watch::added;
use crate::json::word;
use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Print one JSON object instead of a table
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// Print the text format of Prometheus instead of a table
    #[arg(long)]
    prometheus: bool,
    /// Print what is added in each interval, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          conflicts_with = "prometheus", value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
    /// With --watch: end after this many intervals
    #[arg(long, value_name = "COUNT", requires = "watch")]
    times: Option<u64>,
}

/// Counters of each virtual processor, by its CPU.
pub(crate) type Vps = Vec<(u32, Stats)>;

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let mshv = Mshv::open()?;
    let info = mshv.info()?;
    let vtl = mshv.create_vtl()?;
    if let Some(seconds) = arguments.watch {
        let mut watch = watch::Watch::new(seconds, arguments.times, arguments.json);
        return watch.run(&info, || read(&vtl, &info, arguments.cpu));
    }
    let vps = read(&vtl, &info, arguments.cpu)?;
    if arguments.json {
        println!("{}", to_json(&vps, &info));
    } else if arguments.prometheus {
        print!("{}", prometheus::text(&vps, &info));
    } else {
        print!("{}", to_table(&vps, &info));
    }
    Ok(ExitStatus::Success)
}

pub(crate) fn read(vtl: &Vtl, info: &Info, only: Option<u32>) -> anyhow::Result<Vps> {
    let cpus = only.map_or(0..info.num_cpus, |cpu| cpu..cpu.saturating_add(1));
    let mut vps = Vps::new();
    for cpu in cpus {
        if let Some(stats) = vtl.stats(cpu)? {
            vps.push((cpu, stats));
        }
    }
    if let (Some(cpu), true) = (only, vps.is_empty()) {
        bail!("cpu {cpu} has no virtual processor");
    }
    Ok(vps)
}

/// Ticks as seconds; `None` when the frequency is not known.
fn seconds(cycles: u64, info: &Info) -> Option<f64> {
    // CAST: 53 bits of precision are enough for a time.
    (info.tsc_khz != 0).then(|| cycles as f64 / (info.tsc_khz as f64 * 1000.0))
}

/// Mean length in microseconds, or in ticks when the frequency is not known.
fn mean(exit: &ExitStats, info: &Info) -> f64 {
    // CAST: as above.
    let count = exit.count.max(1) as f64;
    match seconds(exit.cycles, info) {
        Some(seconds) => seconds * 1e6 / count,
        None => exit.cycles as f64 / count,
    }
}

/// Microseconds, or ticks when the frequency is not known.
fn time(ticks: u64, info: &Info) -> f64 {
    // CAST: as above.
    seconds(ticks, info).map_or(ticks as f64, |seconds| seconds * 1e6)
}

fn to_table(vps: &Vps, info: &Info) -> String {
    let unit = if info.tsc_khz == 0 { "ticks" } else { "us" };
    let mut text = format!(
        "{:>4} {:<28}{:>14}{:>14}{:>14}\n",
        "vp",
        "exit",
        "count",
        "in kernel",
        format!("mean {unit}")
    );
    for (cpu, stats) in vps {
        for exit in &stats.exits {
            let mean = mean(exit, info);
            // Writing to a string never fails.
            let _ = writeln!(
                text,
                "{cpu:>4} {:<28}{:>14}{:>14}{mean:>14.1}",
                exit.kind, exit.count, exit.handled
            );
        }
    }
    for (cpu, stats) in vps {
        if let Some(spacing) = stats.storms.spacing_ticks() {
            let count = stats.storms.count;
            let spacing = time(spacing, info);
            let _ = writeln!(
                text,
                "{cpu:>4} exit storms{:>31}{:>14}{spacing:>14.1}",
                count, ""
            );
        }
        for (name, count) in REFUSALS.iter().zip(stats.refused) {
            if count != 0 {
                let _ = writeln!(text, "{cpu:>4} refused: {name:<19}{count:>14}");
            }
        }
        if stats.stalls != 0 {
            let _ = writeln!(text, "{cpu:>4} {:<28}{:>14}", "stalls", stats.stalls);
        }
        for (name, count) in stats.vtl.named() {
            if count != 0 {
                let _ = writeln!(text, "{cpu:>4} vtl: {name:<23}{count:>14}");
            }
        }
    }
    text
}

fn to_json(vps: &Vps, info: &Info) -> Value {
    let vps: Vec<_> = vps
        .iter()
        .map(|(cpu, stats)| {
            let refused: serde_json::Map<_, _> = REFUSALS
                .iter()
                .zip(stats.refused)
                .map(|(name, count)| ((*name).to_owned(), count.into()))
                .collect();
            let exits: Vec<_> = stats
                .exits
                .iter()
                .map(|exit| {
                    json!({
                        "kind": exit.kind.0,
                        "name": exit.kind.to_string(),
                        "count": exit.count,
                        "handled": exit.handled,
                        "cycles": word(exit.cycles),
                    })
                })
                .collect();
            let storms = json!({
                "count": stats.storms.count,
                "cycles": word(stats.storms.ticks),
                "shortest_cycles": word(stats.storms.shortest_ticks),
            });
            let vtl: serde_json::Map<_, _> = stats
                .vtl
                .named()
                .map(|(name, count)| (name.replace(' ', "_"), count.into()))
                .into_iter()
                .collect();
            json!({
                "vp": cpu, "exits": exits, "refused": refused, "stalls": stats.stalls,
                "storms": storms, "vtl": vtl,
            })
        })
        .collect();
    json!({ "tsc_khz": info.tsc_khz, "vps": vps })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vtl::audit::ExitKind;
    use vtl::stats::{Storms, VtlSwitches};

    pub(crate) fn info(tsc_khz: u64) -> Info {
        with_rate(Info::default(), tsc_khz)
    }

    fn with_rate(mut info: Info, tsc_khz: u64) -> Info {
        info.tsc_khz = tsc_khz;
        info
    }

    pub(crate) fn vps() -> Vps {
        let exit = ExitStats {
            kind: ExitKind(10),
            count: 4,
            handled: 1,
            cycles: 8000,
        };
        let stats = Stats {
            refused: [0, 0, 3, 0, 0, 0, 0, 9],
            stalls: 2,
            exits: vec![exit],
            storms: Storms {
                count: 3,
                ticks: 3 * 1023 * 2500,
                shortest_ticks: 1023 * 2000,
            },
            vtl: VtlSwitches {
                calls: 12,
                ..VtlSwitches::default()
            },
        };
        vec![(1, stats)]
    }

    #[test]
    fn the_table_shows_times_in_microseconds_where_it_can() {
        let table = to_table(&vps(), &info(1_000_000));
        assert!(table.contains("mean us"), "{table}");
        let line = table.lines().find(|line| line.contains("CPUID"));
        assert!(line.is_some_and(|line| line.ends_with(" 2.0")), "{table}");
        assert!(table.contains("refused: EINVAL"), "{table}");
        assert!(table.contains("refused: HVCALL"), "{table}");
        assert!(table.contains("stalls"), "{table}");
        assert!(table.contains("vtl: call"), "{table}");
        assert!(!table.contains("vtl: return"), "{table}");
        let line = table.lines().find(|line| line.contains("exit storms"));
        assert!(line.is_some_and(|line| line.ends_with(" 2.5")), "{table}");
        let mut calm = vps();
        calm[0].1.storms = Storms::default();
        assert!(!to_table(&calm, &info(0)).contains("storm"));
        assert!(to_table(&vps(), &info(0)).contains("mean ticks"));
    }

    #[test]
    fn json_names_kinds_and_refusals() {
        let json = to_json(&vps(), &info(1_000_000));
        assert_eq!(json["vps"][0]["exits"][0]["name"], "CPUID");
        assert_eq!(json["vps"][0]["exits"][0]["cycles"], "0x1f40");
        assert_eq!(json["vps"][0]["refused"]["EINVAL"], 3);
        assert_eq!(json["vps"][0]["refused"]["HVCALL"], 9);
        assert_eq!(json["vps"][0]["stalls"], 2);
        assert_eq!(json["vps"][0]["storms"]["count"], 3);
    }
}
