// SPDX-License-Identifier: GPL-2.0
//! Files in `/sys/kernel/debug/mshv_vtl_tdx`, for people to read. `stats`: the counters of every
//! VP; programs use `MSHV_VTL_STATS`. `policy`: the TDCALLs and hypercalls that userspace may make,
//! one per line. `mitigations`: the speculation defences of every switch.

use kernel::debugfs::{Dir, File};
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::observe::stats::Storms;
use crate::pure::hv_policy;
use crate::pure::mitigation::Scrub;
use crate::pure::policy::{LeafRule, POLICY};
use crate::vp::machine::Machine;
use crate::vp::Vp;

/// The directory, removed on drop.
pub(crate) struct Debugfs {
    _stats: Pin<KBox<File<Arc<Machine>>>>,
    _policy: Pin<KBox<File<()>>>,
    _mitigations: Pin<KBox<File<Arc<Machine>>>>,
}

impl Debugfs {
    /// Creates the directory. A kernel without debugfs has none, which is no error.
    pub(crate) fn new(machine: Arc<Machine>) -> Result<Self> {
        let folder = Dir::new(c"mshv_vtl_tdx");
        let stats = folder.read_callback_file(c"stats", machine.clone(), &show);
        let policy = folder.read_callback_file(c"policy", (), &show_policy);
        let mitigations = folder.read_callback_file(c"mitigations", machine, &show_mitigations);
        Ok(Self {
            _stats: KBox::pin_init(stats, GFP_KERNEL)?,
            _policy: KBox::pin_init(policy, GFP_KERNEL)?,
            _mitigations: KBox::pin_init(mitigations, GFP_KERNEL)?,
        })
    }
}

fn show_policy(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    POLICY.iter().try_for_each(|entry| {
        let version = entry.leaf >> 16;
        let leaf = entry.leaf & 0xffff;
        let LeafRule { name, reason, .. } = entry;
        writeln!(f, "{leaf} {version} {name} {reason}")
    })?;
    hv_policy::POLICY.iter().try_for_each(|entry| {
        let hv_policy::HvCallRule { name, reason, .. } = entry;
        writeln!(f, "hvcall {:#x} {name} {reason}", entry.code)
    })
}

fn show_mitigations(machine: &Arc<Machine>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mitigations = &machine.features().mitigations;
    write!(f, "{}:", mitigations.mode.name())?;
    if mitigations.scrub.does(Scrub::SPEC_CTRL) {
        write!(f, " spec_ctrl")?;
    }
    mitigations
        .names()
        .try_for_each(|name| write!(f, " {name}"))?;
    writeln!(f)
}

fn show(machine: &Arc<Machine>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    (0..machine.num_cpus())
        .filter_map(|cpu| machine.vp(cpu))
        .try_for_each(|vp| show_vp(vp, f))
}

fn show_vp(vp: &Vp, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "vp {} refused", vp.cpu)?;
    for count in vp.stats.refusals() {
        write!(f, " {count}")?;
    }
    writeln!(f, " {}", vp.stats.refused_hypercalls())?;
    writeln!(f, "vp {} stalls {}", vp.cpu, vp.stats.stalls())?;
    let Storms {
        count,
        ticks,
        shortest_ticks,
    } = vp.stats.storms();
    writeln!(
        f,
        "vp {} storms {count} ticks {ticks} shortest {shortest_ticks}",
        vp.cpu
    )?;
    let [calls, returns, fast, left, flushes, proxied] = vp.stats.vtl_counts();
    writeln!(
        f,
        "vp {} vtl calls {calls} returns {returns} fast {fast} left {left} flushes {flushes} proxied {proxied}",
        vp.cpu
    )?;
    for exits in vp.stats.exits().filter(|exits| exits.count != 0) {
        writeln!(
            f,
            "vp {} exit {} count {} handled {} cycles {}",
            vp.cpu, exits.kind, exits.count, exits.handled, exits.cycles
        )?;
    }
    Ok(())
}
