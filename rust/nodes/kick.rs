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
pub(crate) fn kick_cpus(machine: &Machine, argument: Argument) -> Result<isize> {
    let request: mshv_kick_cpus = argument.read()?;
    if request.flags & !(KICK_WAIT | KICK_CANCEL) != 0 {
        return Err(EINVAL);
    }
    let mask = Mask::read(machine, &request)?;
    let mut kicked = KVec::new();
    if request.flags & KICK_WAIT != 0 {
        kicked.reserve(mask.count(), GFP_KERNEL)?;
    }
    mask.for_each(|cpu| {
        let Some(vp) = machine.vp(cpu) else {
            return Ok(());
        };
        if request.flags & KICK_CANCEL != 0 {
            vp.run_page.set_cancel();
        }
        let stay = vp.wake.kick();
        if request.flags & KICK_WAIT != 0 {
            kicked.push((vp, stay), GFP_KERNEL)?;
        }
        Ok(())
    })?;
    wait(&kicked)?;
    Ok(0)
}

const WORD_BYTES: usize = size_of::<u64>();
/// A mask of up to this many CPUs is kept on the stack.
const FEW_CPUS: usize = 1024;

/// A bit for each CPU to be kicked.
enum Mask {
    Few([u8; FEW_CPUS / 8], usize),
    Many(KVec<u8>),
}

impl Mask {
    /// Reads only the bytes with bits of possible CPUs: the byte of the last one may be the last of
    /// the caller's memory. Further bits are ignored.
    fn read(machine: &Machine, request: &mshv_kick_cpus) -> Result<Self> {
        let len_bits = request.len_bits.min(machine.num_cpus().into());
        let len_bytes = len_bits.div_ceil(8) as usize; // CAST: as many as there are CPUs
        let len_words_bytes = len_bytes.next_multiple_of(WORD_BYTES);
        let mut mask = if len_words_bytes <= FEW_CPUS / 8 {
            Self::Few([0; FEW_CPUS / 8], len_words_bytes)
        } else {
            Self::Many(KVec::from_elem(0, len_words_bytes, GFP_KERNEL)?)
        };
        let Some(bytes) = mask.bytes_mut().get_mut(..len_bytes) else {
            return Err(EINVAL); // does not happen: it has room
        };
        if let Some(last_place) = len_bytes.checked_sub(1) {
            let given = Argument::pointer(request.cpu_mask).bytes(len_bytes);
            given.reader().read_slice(bytes)?;
            let unused_bits = (len_bytes as u64) * 8 - len_bits; // CAST: usize fits
            if let Some(last) = bytes.get_mut(last_place) {
                *last &= 0xff_u8 >> unused_bits;
            }
        }
        Ok(mask)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Few(bytes, len_bytes) => bytes.get_mut(..*len_bytes).unwrap_or_default(),
            Self::Many(bytes) => bytes,
        }
    }

    /// Words of 64 CPUs, lowest first.
    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = match self {
            Self::Few(bytes, len_bytes) => bytes.get(..*len_bytes).unwrap_or_default(),
            Self::Many(bytes) => bytes,
        };
        let words = bytes.chunks_exact(WORD_BYTES);
        words
            .filter_map(<[u8]>::first_chunk)
            .map(|word| u64::from_le_bytes(*word))
    }

    /// Number of CPUs in the mask.
    fn count(&self) -> usize {
        let counts = self.words().map(|word| word.count_ones() as usize); // CAST: u32 fits
        counts.sum()
    }

    /// Calls `act` for each CPU, until it fails.
    fn for_each(&self, mut act: impl FnMut(u32) -> Result) -> Result {
        for (word, first) in self.words().zip((0..).step_by(64)) {
            let mut left = word;
            while left != 0 {
                act(first + left.trailing_zeros())?;
                left &= left - 1;
            }
        }
        Ok(())
    }
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
