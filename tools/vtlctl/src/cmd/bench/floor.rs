// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The floor: TDG.VP.ENTER in a loop in the kernel, by the test module `selftests/bench`, which has
//! its own markers.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use vtl::{Gpr, Vp};

const DEVICE: &str = "/dev/vtl_floor";
/// L2_ENTER_GUEST_STATE: 16 registers, RFLAGS, RIP, SSP, interrupt status.
const GUEST_STATE_WORDS: usize = 20;
const RFLAGS: usize = 16;
const RIP: usize = 17;

/// Makes the kernel enter `vp`'s guest `rounds` times, from its current state.
///
/// # Errors
///
/// The device refuses. A machine without the test module is no error.
pub(super) fn run(vp: &Vp, rounds: u32) -> anyhow::Result<FloorOutcome> {
    let mut device = match OpenOptions::new().write(true).open(DEVICE) {
        Ok(device) => device,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(FloorOutcome::NoDevice),
        Err(error) => return Err(error).context(DEVICE),
    };
    device
        .write_all(&request(vp, rounds))
        .with_context(|| format!("{DEVICE} refused {rounds} rounds"))?;
    Ok(FloorOutcome::Done)
}

/// Result of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloorOutcome {
    Done,
    NoDevice,
}

/// `struct floor_request`: entry RCX, rounds, guest state.
fn request(vp: &Vp, rounds: u32) -> Vec<u8> {
    let page = vp.page();
    let mut state = [0u64; GUEST_STATE_WORDS];
    for (gpr, _) in Gpr::ALL {
        state[gpr as usize] = page.gpr(gpr);
    }
    state[RFLAGS] = page.rflags();
    state[RIP] = page.rip();
    [page.entry_rcx(), u64::from(rounds)]
        .iter()
        .chain(&state)
        .flat_map(|word| word.to_le_bytes())
        .collect()
}
