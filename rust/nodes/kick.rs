// SPDX-License-Identifier: GPL-2.0
//! `MSHV_KICK_CPUS` and `MSHV_SET_POLL_FILE`: how other threads end the run of a VP.

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
/// EFAULT, EINVAL (an unknown flag) and ENOMEM before anything is done; EINTR if killed while
/// waiting.
#[inline(never)]
pub(crate) fn kick_cpus(machine: &Machine, argument: Argument) -> Result {
    let request: mshv_kick_cpus = argument.read()?;
    if request.flags & !(KICK_WAIT | KICK_CANCEL) != 0 {
        return Err(EINVAL);
    }
    let len_bits = request.len_bits.min(machine.num_cpus().into());
    let len_words = len_bits.div_ceil(64) as usize; // CAST: as many as there are CPUs
    let mut few = [0; FEW_WORDS];
    let mut many;
    let mask = match few.get_mut(..len_words) {
        Some(words) => words,
        None => {
            many = KVec::from_elem(0, len_words, GFP_KERNEL)?;
            &mut *many
        }
    };
    read_mask(&request, len_bits, mask)?;
    if request.flags & KICK_WAIT != 0 {
        kick_and_wait(machine, mask, request.flags)
    } else {
        for_each_vp(machine, mask, |vp| {
            kick(vp, request.flags);
            Ok(())
        })
    }
}

/// A mask of up to this many words of 64 CPUs is kept on the stack.
const FEW_WORDS: usize = 16;

/// Reads only the bytes with bits of possible CPUs: the byte of the last one may be the last of the
/// caller's memory. Further bits are ignored. `mask` has as many words as `len_bits` fill.
fn read_mask(request: &mshv_kick_cpus, len_bits: u64, mask: &mut [u64]) -> Result {
    let len_bytes = len_bits.div_ceil(8) as usize; // CAST: as many as there are CPUs
    if len_bytes == 0 {
        return Ok(());
    }
    let bytes = mask.as_mut_bytes().get_mut(..len_bytes).ok_or(EINVAL)?; // never: it has room
    let given = Argument::pointer(request.cpu_mask).bytes(len_bytes);
    given.reader().read_slice(bytes)?;
    if let Some(last) = mask.last_mut() {
        *last &= u64::MAX >> (len_bits.wrapping_neg() % 64);
    }
    Ok(())
}

/// Calls `act` for each VP in a mask, lowest first, until it fails.
#[inline]
fn for_each_vp<'m>(
    machine: &'m Machine,
    mask: &[u64],
    mut act: impl FnMut(&'m Vp) -> Result,
) -> Result {
    for (word, first) in mask.iter().zip((0..).step_by(64)) {
        let mut left = *word;
        while left != 0 {
            if let Some(vp) = machine.vp(first + left.trailing_zeros()) {
                act(vp)?;
            }
            left &= left - 1;
        }
    }
    Ok(())
}

/// Kicks a VP, and cancels its run if the flags say so. Returns where its thread was.
#[inline]
fn kick(vp: &Vp, flags: u64) -> Place {
    if flags & KICK_CANCEL != 0 {
        vp.run_page.set_cancel();
    }
    vp.wake.kick()
}

#[inline(never)]
fn kick_and_wait(machine: &Machine, mask: &[u64], flags: u64) -> Result {
    let count = mask.iter().map(|word| word.count_ones() as usize).sum(); // CAST: u32 fits
    let mut kicked = KVec::with_capacity(count, GFP_KERNEL)?;
    for_each_vp(machine, mask, |vp| {
        kicked.push((vp, kick(vp, flags)), GFP_KERNEL)?;
        Ok(())
    })?;
    wait(&kicked)
}

/// Takes every VP out of the lower VTL, and returns when it has left: the switch is recorded.
///
/// # Errors
///
/// ENOMEM. EINTR when killed while waiting.
pub(super) fn all(machine: &Machine) -> Result {
    let mut kicked = KVec::new();
    for vp in (0..machine.num_cpus()).filter_map(|cpu| machine.vp(cpu)) {
        kicked.push((vp, vp.wake.kick()), GFP_KERNEL)?;
    }
    wait(&kicked)
}

/// Spins until every kicked VP has left the lower VTL. That takes about one IPI, so spinning is
/// quicker than sleeping; but a host that delays interrupts must not hang the caller, so it can be
/// killed.
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
