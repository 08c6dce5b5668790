// SPDX-License-Identifier: GPL-2.0
//! Commands of our own that only tell: `MSHV_VTL_INFO`, `MSHV_VTL_POLICY` and `MSHV_VTL_STATS`.
//!
//! Their structures begin with the size that the caller gives them, and may grow: a caller with an
//! older structure gets as much as it has room for, one with a newer structure gets what this
//! module knows, and is refused only when it set what this module does not know.

use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::cpu::tdcall;
use crate::pure::audit::ExitKind;
use crate::pure::field::FieldId;
use crate::pure::hv_policy;
use crate::pure::policy::POLICY;
use crate::pure::status::Status;
use crate::pure::tdcall::{tdg_sys_rd, tdg_vm_rd};
use crate::pure::uapi::{self, info, policy, stats};
use crate::vp::machine::Machine;

/// No structure is longer.
const MAX_BYTES: usize = 4096;

/// Major, minor and patch number, 16 bits each.
const VERSION: u64 = 1 << 16;
/// TSC_FREQUENCY counts these.
const TSC_UNIT_KHZ: u64 = 25_000;

/// `MSHV_VTL_INFO`.
pub(crate) fn info(machine: &Machine, argument: UserPtr) -> Result<isize> {
    answer(argument, info::SIZE, |flags, words| {
        if flags != 0 {
            return Err(EINVAL);
        }
        let vm = |field| known(tdg_vm_rd(&mut tdcall::Instruction, field));
        let num_l2_vms = machine.features().limits.num_l2_vms;
        let records = machine.audit_records();
        for word in [
            VERSION,
            uapi::OWN_CAPABILITIES,
            known(tdg_sys_rd(&mut tdcall::Instruction, FieldId::TDX_FEATURES0)),
            vm(FieldId::ATTRIBUTES),
            vm(FieldId::XFAM),
            vm(FieldId::TSC_FREQUENCY) * TSC_UNIT_KHZ,
            pair(u32::from(num_l2_vms), machine.num_cpus()),
            pair(records, ExitKind::COUNT as u32), // CAST: a small number
        ] {
            words.push(word, GFP_KERNEL)?;
        }
        Ok(())
    })
}

/// `MSHV_VTL_POLICY`.
///
/// # Errors
///
/// ENXIO for a line that there is not.
pub(crate) fn policy(argument: UserPtr) -> Result<isize> {
    answer(argument, policy::SIZE, |selector, words| {
        let line = (selector & !policy::HVCALLS) as usize; // CAST: u32 fits
        let (number, lines, name, reason) = if selector & policy::HVCALLS == 0 {
            let entry = POLICY.get(line).ok_or(ENXIO)?;
            (entry.leaf, POLICY.len(), entry.name, entry.reason)
        } else {
            let entry = hv_policy::POLICY.get(line).ok_or(ENXIO)?;
            let lines = hv_policy::POLICY.len();
            (u64::from(entry.code), lines, entry.name, entry.reason)
        };
        words.push(number, GFP_KERNEL)?;
        words.push(lines as u64, GFP_KERNEL)?; // CAST: a small number
        push_text(words, name, policy::REASON - policy::NAME)?;
        push_text(words, reason, policy::SIZE - policy::REASON)
    })
}

/// Adds a field of `len_bytes` with a text in it; a NUL is behind it at least.
fn push_text(words: &mut KVec<u64>, text: &str, len_bytes: usize) -> Result {
    let mut rest = text.bytes().take(len_bytes - 1);
    for _ in 0..len_bytes / size_of::<u64>() {
        let word = [(); 8].map(|()| rest.next().unwrap_or(0));
        words.push(u64::from_le_bytes(word), GFP_KERNEL)?;
    }
    Ok(())
}

/// What the TDX module says, or 0 where it does not tell.
fn known(answer: Result<u64, Status>) -> u64 {
    answer.unwrap_or(0)
}

/// `MSHV_VTL_STATS`.
///
/// # Errors
///
/// ENXIO for a CPU without a VP.
pub(crate) fn stats(machine: &Machine, argument: UserPtr) -> Result<isize> {
    answer(argument, stats::REFUSED_HVCALLS, |cpu, words| {
        let stats = &machine.vp(cpu).ok_or(ENXIO)?.stats;
        for count in stats.refusals() {
            words.push(count, GFP_KERNEL)?;
        }
        words.push(ExitKind::COUNT as u64, GFP_KERNEL)?; // CAST: a small number
        for exits in stats.exits() {
            for word in [exits.count, exits.handled, exits.cycles] {
                words.push(word, GFP_KERNEL)?;
            }
        }
        words.push(stats.refused_hypercalls(), GFP_KERNEL)?;
        words.push(stats.stalls(), GFP_KERNEL)?;
        let storms = stats.storms();
        for word in [storms.count, storms.ticks, storms.shortest_ticks] {
            words.push(word, GFP_KERNEL)?;
        }
        Ok(())
    })
}

/// Two u32 that are neighbours in memory.
fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | (u64::from(second) << 32)
}

/// Reads the head of a structure, has the rest made from its second half, and writes as much as the
/// caller has room for. `min_bytes` is the size of the structure's first version.
///
/// # Errors
///
/// EINVAL: too small. E2BIG: something set that this module does not know, or far too large.
fn answer(
    argument: UserPtr,
    min_bytes: usize,
    make: impl FnOnce(u32, &mut KVec<u64>) -> Result,
) -> Result<isize> {
    let head: u64 = UserSlice::new(argument, size_of::<u64>()).reader().read()?;
    let (size, selector) = (head as u32 as usize, (head >> 32) as u32); // CAST: the two halves
    if size < min_bytes {
        return Err(EINVAL);
    }
    if size > MAX_BYTES {
        return Err(E2BIG);
    }
    let mut words = KVec::with_capacity(min_bytes / size_of::<u64>(), GFP_KERNEL)?;
    words.push(head, GFP_KERNEL)?;
    make(selector, &mut words)?;

    let (mut reader, mut writer) = UserSlice::new(argument, size).reader_writer();
    let known_bytes = size.min(words.len() * size_of::<u64>());
    reader.skip(known_bytes)?;
    for _ in known_bytes..size {
        if reader.read::<u8>()? != 0 {
            return Err(E2BIG);
        }
    }
    words[0] = pair(known_bytes as u32, selector); // CAST: at most `MAX_BYTES`
    for word in words.iter().take(known_bytes / size_of::<u64>()) {
        writer.write(word)?;
    }
    Ok(0)
}
