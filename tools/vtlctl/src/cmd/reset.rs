// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl reset`: makes virtual processors new, so that nothing of an earlier guest
//! is there for the next one.

use anyhow::bail;
use vtl::{Error, Info, Mshv, Vm, Vtl};

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let mshv = Mshv::open()?;
    let info = mshv.info()?;
    let vtl = mshv.create_vtl()?;
    let only = arguments.cpu;
    let cpus = only.map_or(0..info.num_cpus, |cpu| cpu..cpu.saturating_add(1));
    let mut count = 0;
    for cpu in cpus {
        // A CPU that was never online has none.
        if vtl.stats(cpu)?.is_some() {
            count += u32::from(reset(&vtl, cpu, &info, only.is_some())?);
        }
    }
    if count == 0 {
        return Err(nothing(only).into());
    }
    Ok(ExitStatus::Success)
}

fn nothing(only: Option<u32>) -> anyhow::Error {
    match only {
        Some(cpu) => anyhow::anyhow!("cpu {cpu} has no virtual processor"),
        None => anyhow::anyhow!("no virtual processor was reset"),
    }
}

/// Returns true if it is done. A CPU that is offline is an error only if it was named.
fn reset(vtl: &Vtl, cpu: u32, info: &Info, is_named: bool) -> anyhow::Result<bool> {
    let mut vp = match vtl.bind(cpu, Vm::VTL0) {
        Ok(vp) => vp,
        Err(Error::Bind { .. }) if !is_named => {
            println!("cpu {cpu}: offline, left as it is");
            return Ok(false);
        }
        Err(error) => bail!(error),
    };
    vp.renew(info.num_l2_vms)?;
    println!("cpu {cpu}: reset");
    Ok(true)
}
