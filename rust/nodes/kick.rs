// SPDX-License-Identifier: GPL-2.0
//! `MSHV_KICK_CPUS` and `MSHV_SET_POLL_FILE`: one VP's thread reaches another's.

use kernel::fs::File;
use kernel::prelude::*;

use crate::glue::abi::{mshv_kick_cpus, mshv_set_poll_file};
use crate::glue::ffi;
use crate::nodes::args::Argument;
use crate::nodes::device::VtlFile;
use crate::pure::place::Place;
use crate::pure::uapi::{KICK_CANCEL, KICK_WAIT};
use crate::vp::machine::Machine;
use crate::vp::Vp;

/// `MSHV_KICK_CPUS`.
///
/// # Errors
///
/// EFAULT, EINVAL (an unknown flag), ENOMEM before anything was done; EINTR when killed while waiting.
pub(crate) fn kick_cpus(machine: &Machine, argument: Argument) -> Result<isize> {
    let request: mshv_kick_cpus = argument.read()?;
    if request.flags & !(KICK_WAIT | KICK_CANCEL) != 0 {
        return Err(EINVAL);
    }
    let mask = read_mask(machine, &request)?;
    let mut kicked = KVec::new();
    if request.flags & KICK_WAIT != 0 {
        kicked.reserve(cpus(&mask).count(), GFP_KERNEL)?;
    }
    for vp in cpus(&mask).filter_map(|cpu| machine.vp(cpu)) {
        if request.flags & KICK_CANCEL != 0 {
            vp.run_page.set_cancel();
        }
        let stay = vp.wake.kick();
        if request.flags & KICK_WAIT != 0 {
            kicked.push((vp, stay), GFP_KERNEL)?;
        }
    }
    wait(&kicked)?;
    Ok(0)
}

/// Reads as many bytes as hold the bits of CPUs that can exist: the last CPU's byte may be the last
/// one of the caller's memory, and further bits mean nothing.
fn read_mask(machine: &Machine, request: &mshv_kick_cpus) -> Result<KVec<u8>> {
    let len_bits = request.len_bits.min(machine.num_cpus().into());
    let len_bytes = len_bits.div_ceil(8) as usize; // CAST: as many as there are CPUs
    let mut mask = Argument::pointer(request.cpu_mask).read_list(len_bytes)?;
    let unused_bits = (len_bytes as u64) * 8 - len_bits; // CAST: usize fits
    if let Some(last) = mask.last_mut() {
        *last &= 0xff_u8 >> unused_bits;
    }
    Ok(mask)
}

/// Numbers of the bits that are set.
fn cpus(mask: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let bits = mask.iter().zip(0_u32..);
    bits.flat_map(|(byte, index)| {
        (0..8)
            .filter(move |bit| byte >> bit & 1 != 0)
            .map(move |bit| index * 8 + bit)
    })
}

/// Waits until none of the stays goes on. They end within the time of an interrupt, so looking
/// around is quicker than sleeping; but a host that holds interrupts back must not hang the caller.
fn wait(kicked: &[(&Vp, Place)]) -> Result {
    for (vp, stay) in kicked {
        while vp.wake.place().is_still(*stay) {
            ffi::relax_or_yield()?;
        }
    }
    Ok(())
}

/// `MSHV_SET_POLL_FILE`.
///
/// # Errors
///
/// EFAULT, and those of `VtlFile::set_poll_file`.
pub(crate) fn set_poll_file(vtl: &VtlFile, file: &File, argument: Argument) -> Result<isize> {
    let request: mshv_set_poll_file = argument.read()?;
    vtl.set_poll_file(file, request.cpu, request.fd)?;
    Ok(0)
}
