// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl bench`: what a path costs, in ticks of the time-stamp counter.
//!
//! On a machine that counts instructions with the time-stamp counter (QEMU
//! with `-icount`, and an emulator that hides its own time) the ticks are
//! instructions of this level, and repeat exactly. The markers let the
//! counting plugin (tools/checks/insn_count) find the paths.

mod floor;

use anyhow::{Context as _, bail};
use vtl::{Exit, Extension, GpaRange, LowerMemory, Mode, Mshv, PageRights, Vm, Vp};

use crate::asm::{CPUID_LOOP, mark, marker};
use crate::{ExitStatus, Failure, options};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// CPU whose virtual processor runs the guest
    #[arg(long, value_name = "N", default_value_t = 0)]
    cpu: u32,
    /// Passages per path; the cheapest counts
    #[arg(long, value_name = "COUNT", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// VTL0's memory [default: the largest range of the module's vtl0_mem]
    #[arg(long, value_name = "BASE,SIZE", value_parser = options::range)]
    memory: Option<GpaRange>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Passages before counting starts: caches, lazy mappings, branch predictors.
const WARM_UP: u32 = 20;
const PAGE: u64 = 4096;

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let usage = |error| Failure::new(ExitStatus::Usage, error);
    let memory = options::vtl0_memory(arguments.memory).map_err(usage)?;
    let mshv = Mshv::open()?;
    let vtl = mshv.create_vtl()?;
    let page = GpaRange::new(memory.base(), PAGE)?;
    vtl.accept(&page).context("cannot accept VTL0's memory")?;
    vtl.set_rights(&page, Vm::VTL0, PageRights::ALL)
        .context("cannot give VTL0 its memory")?;
    LowerMemory::map(page)?.write(0, &CPUID_LOOP)?;
    let mut vp = vtl.bind(arguments.cpu, Vm::VTL0)?;
    vp.reset(Mode::Protected32, page.base())?;

    let null_ioctl = cheapest(arguments.iterations, || null_ioctl(&mshv))?;
    let round_trip = cheapest(arguments.iterations, || user_round_trip(&mut vp))?;
    let paths = [("null_ioctl", null_ioctl), ("user_round_trip", round_trip)];
    let has_floor = floor::run(&vp, WARM_UP + arguments.iterations)? == floor::Outcome::Done;
    if arguments.json {
        println!("{}", to_json(&paths, arguments.iterations));
        return Ok(ExitStatus::Success);
    }
    for (name, ticks) in paths {
        let iterations = arguments.iterations;
        println!("BENCH name={name} l1_instructions={ticks} iterations={iterations}");
    }
    if !has_floor {
        println!("BENCH name=floor left out: the test module vtl_floor is not loaded");
    }
    Ok(ExitStatus::Success)
}

fn to_json(paths: &[(&str, u64)], iterations: u32) -> serde_json::Value {
    let paths: serde_json::Map<_, _> = paths
        .iter()
        .map(|(name, ticks)| ((*name).to_owned(), (*ticks).into()))
        .collect();
    serde_json::json!({ "iterations": iterations, "ticks": paths })
}

/// The fewest ticks of `iterations` passages: an interrupt may fall into any
/// single one, but not into the cheapest.
fn cheapest(
    iterations: u32,
    mut passage: impl FnMut() -> anyhow::Result<Option<u64>>,
) -> anyhow::Result<u64> {
    for _ in 0..WARM_UP {
        passage()?;
    }
    let mut best = None;
    for _ in 0..iterations {
        best = [best, passage()?].into_iter().flatten().min();
    }
    best.context("no passage went through undisturbed")
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
    fn the_cheapest_undisturbed_passage_counts() -> anyhow::Result<()> {
        let mut passages = (0..WARM_UP)
            .map(|_| Some(1))
            .chain([Some(9), None, Some(7), Some(8)]);
        let best = cheapest(4, || Ok(passages.next().flatten()))?;
        assert_eq!(best, 7);
        Ok(())
    }

    #[test]
    fn the_object_has_the_ticks_of_each_path() {
        let json = to_json(&[("null_ioctl", 7), ("user_round_trip", 9)], 3);
        assert_eq!(json["ticks"]["user_round_trip"], 9);
        assert_eq!(json["iterations"], 3);
    }

    #[test]
    fn no_undisturbed_passage_is_an_error() {
        assert!(cheapest(3, || Ok(None)).is_err());
    }
}
