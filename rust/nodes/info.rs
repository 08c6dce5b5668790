// SPDX-License-Identifier: GPL-2.0
//! Commands that only query: `MSHV_VTL_INFO`, `MSHV_VTL_POLICY` and `MSHV_VTL_STATS`.

use kernel::prelude::*;
use pin_init::init_zeroed;

use crate::cpu::tdcall;
use crate::glue::abi::{
    mshv_vtl_exit_stats, mshv_vtl_head, mshv_vtl_info, mshv_vtl_policy, mshv_vtl_stats, VTL_MAJOR,
    VTL_MINOR, VTL_PATCH,
};
use crate::nodes::args::{Argument, Growing};
use crate::pure::audit::ExitKind;
use crate::pure::field::FieldId;
use crate::pure::hv_policy;
use crate::pure::policy::POLICY;
use crate::pure::status::Status;
use crate::pure::tdcall::{tdg_sys_rd, tdg_vm_rd};
use crate::pure::uapi::{self, info, policy, stats};
use crate::vp::machine::Machine;

/// Major, minor and patch number, 16 bits each.
const VERSION: u64 = (VTL_MAJOR as u64) << 32 | (VTL_MINOR as u64) << 16 | VTL_PATCH as u64; // CAST: u32 fits
/// Unit of TSC_FREQUENCY.
const TSC_UNIT_KHZ: u64 = 25_000;

/// `MSHV_VTL_INFO`.
pub(crate) fn info(machine: &Machine, argument: Argument) -> Result<isize> {
    let request = Growing::<mshv_vtl_info>::read(argument, info::SIZE)?;
    if request.selector != 0 {
        return Err(EINVAL);
    }
    let vm = |field| known(tdg_vm_rd(&mut tdcall::Instruction, field));
    request.answer(&mshv_vtl_info {
        head: mshv_vtl_head::default(),
        version: VERSION,
        capabilities: uapi::own_capabilities(machine.features().limits.num_l2_vms),
        tdx_features0: known(tdg_sys_rd(&mut tdcall::Instruction, FieldId::TDX_FEATURES0)),
        attributes: vm(FieldId::ATTRIBUTES),
        xfam: vm(FieldId::XFAM),
        tsc_khz: vm(FieldId::TSC_FREQUENCY) * TSC_UNIT_KHZ,
        num_l2_vms: machine.features().limits.num_l2_vms.into(),
        num_cpus: machine.num_cpus(),
        audit_records: machine.audit_records(),
        exit_kinds: ExitKind::COUNT as u32, // CAST: a small number
    })
}

/// The value that the TDX module returned, or 0 if it refused.
fn known(answer: Result<u64, Status>) -> u64 {
    answer.unwrap_or(0)
}

/// `MSHV_VTL_POLICY`.
///
/// # Errors
///
/// ENXIO if there is no such line.
pub(crate) fn policy(argument: Argument) -> Result<isize> {
    let request = Growing::<mshv_vtl_policy>::read(argument, policy::SIZE)?;
    let line = (request.selector & !policy::HVCALLS) as usize; // CAST: u32 fits
    let (leaf, lines, name, reason) = if request.selector & policy::HVCALLS == 0 {
        let entry = POLICY.get(line).ok_or(ENXIO)?;
        (entry.leaf, POLICY.len(), entry.name, entry.reason)
    } else {
        let entry = hv_policy::POLICY.get(line).ok_or(ENXIO)?;
        let lines = hv_policy::POLICY.len();
        (u64::from(entry.code), lines, entry.name, entry.reason)
    };
    request.answer(&mshv_vtl_policy {
        head: mshv_vtl_head::default(),
        leaf,
        lines: lines as u32, // CAST: a small number
        reserved: 0,
        name: text(name),
        reason: text(reason),
    })
}

/// A text as a C array, with at least one NUL after it.
fn text<const LEN_BYTES: usize>(text: &str) -> [c_char; LEN_BYTES] {
    let mut field = [0; LEN_BYTES];
    let room = field.iter_mut().take(LEN_BYTES - 1);
    for (to, from) in room.zip(text.bytes()) {
        *to = from;
    }
    field
}

/// `MSHV_VTL_STATS`.
///
/// # Errors
///
/// ENXIO if the CPU has no VP. ENOMEM.
pub(crate) fn stats(machine: &Machine, argument: Argument) -> Result<isize> {
    let request = Growing::<mshv_vtl_stats>::read(argument, stats::REFUSED_HVCALLS)?;
    let stats = &machine.vp(request.selector).ok_or(ENXIO)?.stats;
    // Too large for the stack.
    let mut answer = KBox::<mshv_vtl_stats>::init(init_zeroed(), GFP_KERNEL)?;
    for (count, refused) in answer.refused.iter_mut().zip(stats.refusals()) {
        *count = refused;
    }
    answer.exit_kinds = ExitKind::COUNT as u64; // CAST: a small number
    for (to, exits) in answer.exits.iter_mut().zip(stats.exits()) {
        *to = mshv_vtl_exit_stats {
            count: exits.count,
            handled: exits.handled,
            cycles: exits.cycles,
        };
    }
    answer.refused_hvcalls = stats.refused_hypercalls();
    answer.stalls = stats.stalls();
    let storms = stats.storms();
    answer.exit_storms = storms.count;
    answer.storm_ticks = storms.ticks;
    answer.shortest_storm_ticks = storms.shortest_ticks;
    let [calls, returns, fast_returns, left, flushes, proxied] = stats.vtl_counts();
    answer.vtl_calls = calls;
    answer.vtl_returns = returns;
    answer.vtl_fast_returns = fast_returns;
    answer.vtl_left = left;
    answer.vtl_flushes = flushes;
    answer.vtl_proxied = proxied;
    request.answer(&answer)
}
