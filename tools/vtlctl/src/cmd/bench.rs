// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl bench`: what a path costs, in ticks of the time-stamp counter.
//!
//! On hardware the median says what a path costs, and the 99th percentile what disturbs it. On a
//! machine whose time-stamp counter counts instructions (QEMU with `-icount`) the ticks say little;
//! there the counting plugin (tools/checks/insn_count) finds the paths by their markers.

mod floor;
mod switch;

use anyhow::{Context as _, bail};
use vtl::{Exit, Extension, GpaRange, Mode, Mshv, PageRights, Vm, Vp};

use crate::asm::{CPUID_LOOP, mark, marker};
use crate::{ExitStatus, Failure, options};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// CPU whose virtual processor runs the guest
    #[arg(long, value_name = "N", default_value_t = 0)]
    cpu: u32,
    /// Passages per path
    #[arg(long, value_name = "COUNT", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// VTL0's memory [default: 64 MiB of the largest range of the module's vtl0_mem]
    #[arg(long, value_name = "BASE,SIZE", value_parser = options::range)]
    memory: Option<GpaRange>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Passages before counting starts: caches, lazy mappings, branch predictors.
const WARM_UP: u32 = 20;
const LARGE_PAGE: u64 = 2 << 20;

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let memory = options::vtl0_memory(arguments.memory)?;
    let mshv = Mshv::open()?;
    let vtl = mshv.create_vtl()?;
    // A whole large page: the rights of a part would split it for whoever uses it next.
    let piece = GpaRange::new(memory.base(), memory.len().min(LARGE_PAGE))?;
    let code = vtl
        .accept_zeroed(piece)
        .context("cannot accept VTL0's memory")?;
    vtl.set_rights(&piece, Vm::VTL0, PageRights::ALL)
        .context("cannot give VTL0 its memory")?;
    code.write(0, &CPUID_LOOP)?;
    let mut vp = vtl.bind(arguments.cpu, Vm::VTL0)?;
    vp.reset(Mode::Protected32, piece.base())?;
    vp.canceller().clear();

    let null_ioctl = measure(arguments.iterations, || null_ioctl(&mshv))?;
    let round_trip = measure(arguments.iterations, || user_round_trip(&mut vp))?;
    let mut paths = vec![("null_ioctl", null_ioctl), ("user_round_trip", round_trip)];
    let has_floor = floor::run(&vp, WARM_UP + arguments.iterations)? == floor::FloorOutcome::Done;
    let has_vtl1 = mshv.info()?.num_l2_vms > 1;
    if has_vtl1 {
        drop(vp);
        let mut pair = switch::start(&vtl, arguments.cpu, piece)?;
        for (name, by) in [
            ("vtl_call_return", switch::By::Kernel),
            ("vtl_call_return_user", switch::By::Userspace),
        ] {
            let passage = || switch::call_return(&mut pair, by);
            paths.push((name, measure(arguments.iterations, passage)?));
        }
        drop(pair);
        vtl.set_rights(&piece, Vm::VTL1, PageRights::NONE)?;
    }
    if arguments.json {
        println!("{}", to_json(&paths));
        return Ok(ExitStatus::Success);
    }
    for (name, ticks) in &paths {
        println!("{}", line(name, ticks));
    }
    if !has_floor {
        println!("BENCH name=floor left out: the test module vtl_floor is not loaded");
    }
    if !has_vtl1 {
        println!("BENCH name=vtl_call_return left out: the TD has one L2 VM");
    }
    Ok(ExitStatus::Success)
}

/// Ticks of the passages of one path, sorted; never empty.
struct Ticks(Vec<u64>);

impl Ticks {
    /// The value that this percentage of the passes does not exceed.
    fn percentile(&self, percent: usize) -> u64 {
        let Self(ticks) = self;
        let rank = (ticks.len() * percent).div_ceil(100).max(1);
        ticks.get(rank - 1).copied().unwrap_or_default()
    }
}

fn to_json(paths: &[(&str, Ticks)]) -> serde_json::Value {
    let paths = paths.iter().map(|(name, ticks)| {
        let figures = serde_json::json!({
            "passages": ticks.0.len(),
            "tsc_min": ticks.percentile(0),
            "tsc_median": ticks.percentile(50),
            "tsc_p99": ticks.percentile(99),
        });
        ((*name).to_owned(), figures)
    });
    paths.collect::<serde_json::Map<_, _>>().into()
}

fn line(name: &str, ticks: &Ticks) -> String {
    format!(
        "BENCH name={name} passages={} tsc_min={} tsc_median={} tsc_p99={}",
        ticks.0.len(),
        ticks.percentile(0),
        ticks.percentile(50),
        ticks.percentile(99)
    )
}

/// The ticks of those of `iterations` passages that nothing else ended.
fn measure(
    iterations: u32,
    mut passage: impl FnMut() -> anyhow::Result<Option<u64>>,
) -> anyhow::Result<Ticks> {
    for _ in 0..WARM_UP {
        passage()?;
    }
    let mut ticks = Vec::new();
    for _ in 0..iterations {
        ticks.extend(passage()?);
    }
    if ticks.is_empty() {
        bail!("no passage went through undisturbed");
    }
    ticks.sort_unstable();
    Ok(Ticks(ticks))
}

/// One ioctl that does next to nothing.
fn null_ioctl(mshv: &Mshv) -> anyhow::Result<Option<u64>> {
    let begin = vtl::tsc();
    mark::<{ marker::NULL_IOCTL_BEGIN }>();
    let answer = mshv.check_extension(Extension::Dr6Shared);
    mark::<{ marker::NULL_IOCTL_END }>();
    let end = vtl::tsc();
    answer?;
    Ok(Some(end - begin))
}

/// One entry into VTL0, one CPUID exit to this level, and its answer.
/// `None` if something else ended the run; then the passage has no end marker,
/// because an aborted one may be cheaper than any whole one.
fn user_round_trip(vp: &mut Vp) -> anyhow::Result<Option<u64>> {
    let begin = vtl::tsc();
    mark::<{ marker::USER_ROUND_TRIP_BEGIN }>();
    match vp.run()? {
        Exit::Cpuid(cpuid) => {
            cpuid.answer([0; 4]);
            mark::<{ marker::USER_ROUND_TRIP_END }>();
            Ok(Some(vtl::tsc() - begin))
        }
        Exit::Interrupted | Exit::NotEntered(_) => Ok(None),
        other => bail!("expected a CPUID exit, found {}", other.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undisturbed_passages_count_and_the_warm_up_does_not() -> anyhow::Result<()> {
        let mut passages = (0..WARM_UP)
            .map(|_| Some(1))
            .chain([Some(9), None, Some(7), Some(8)]);
        let ticks = measure(4, || Ok(passages.next().flatten()))?;
        assert_eq!(
            line("path", &ticks),
            "BENCH name=path passages=3 tsc_min=7 tsc_median=8 tsc_p99=9"
        );
        Ok(())
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let ticks = Ticks((1..=200).collect());
        assert_eq!(ticks.percentile(0), 1);
        assert_eq!(ticks.percentile(50), 100);
        assert_eq!(ticks.percentile(99), 198);
        assert_eq!(Ticks(vec![5]).percentile(99), 5);
    }

    #[test]
    fn the_object_has_the_ticks_of_each_path() {
        let json = to_json(&[
            ("null_ioctl", Ticks(vec![7])),
            ("user_round_trip", Ticks(vec![8, 9, 10])),
        ]);
        assert_eq!(json["null_ioctl"]["passages"], 1);
        assert_eq!(json["user_round_trip"]["tsc_min"], 8);
        assert_eq!(json["user_round_trip"]["tsc_median"], 9);
        assert_eq!(json["user_round_trip"]["tsc_p99"], 10);
    }

    #[test]
    fn no_undisturbed_passage_is_an_error() {
        assert!(measure(3, || Ok(None)).is_err());
    }
}
