// SPDX-License-Identifier: GPL-2.0
//! Speculation defences of a switch: collects the facts from which `pure::mitigation` chooses, and
//! issues the IBPB on a change of owner. `run/vp_enter.S` has the others, around the switch itself.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::cpu::fpu::Section;
use crate::cpu::msr::{self, Msr};
use crate::glue::abi::{self, safe_in_c, Valid};
use crate::pure::mitigation::{Facts, Mitigations, Mode, PredictorOwner, Scrub, Set};

/// IA32_PRED_CMD: indirect branch predictor barrier.
const IBPB: u64 = 1;

// These read constants since boot, and the parameter, which nothing else accesses while the module
// loads.
safe_in_c! {
    fn vtl_mitigations_given(at: u32) -> u8;
    fn vtl_mitigations_show(text: Valid<'_, c_char> as *const c_char);
    fn vtl_mitigation_facts() -> u32;
}

/// Parses the parameter, and replaces its value by the canonical list of names for sysfs.
///
/// # Errors
///
/// EINVAL, after a line in the log, if it is neither a mode nor a list. ENOMEM.
fn mode() -> Result<Mode> {
    let mut given = KVec::new();
    for at in 0..abi::VTL_MITIGATIONS_BYTES {
        match vtl_mitigations_given(at) {
            0 => break,
            byte => given.push(byte, GFP_KERNEL)?,
        }
    }
    let given = core::str::from_utf8(&given).unwrap_or("(no text)");
    let Some(mode) = Mode::parse(given) else {
        pr_err!("not loaded: mitigations={given}: expected auto, full, off, user, or a list of verw, rsb, ibpb-exit, bhb, ibpb\n");
        return Err(EINVAL);
    };
    if let Mode::Only(set) = mode {
        show(set)?;
    }
    Ok(mode)
}

fn show(set: Set) -> Result {
    let mut text = KVec::new();
    for name in set.names() {
        if !text.is_empty() {
            text.push(b',', GFP_KERNEL)?;
        }
        text.extend_from_slice(name.as_bytes(), GFP_KERNEL)?;
    }
    text.push(0, GFP_KERNEL)?;
    let text = CStr::from_bytes_with_nul(&text).map_err(|_| EINVAL)?;
    vtl_mitigations_show(text.into());
    Ok(())
}

/// Chooses the defences for this processor.
///
/// # Errors
///
/// Those of [`mode`].
pub(crate) fn choose(has_spec_ctrl: bool) -> Result<Mitigations> {
    let mode = mode()?;
    let mut facts = Facts(vtl_mitigation_facts());
    if has_spec_ctrl {
        facts.0 |= Facts::HAS_SPEC_CTRL.0;
    }
    Ok(Mitigations::choose(mode, facts))
}

/// Issues an IBPB if the VP enters on behalf of another owner than last time, so that the previous
/// owner's training does not affect the next.
pub(crate) fn change_owner(
    owner: &mut Option<PredictorOwner>,
    next: PredictorOwner,
    mitigations: &Mitigations,
    section: &Section,
) {
    if !mitigations.ibpb {
        return;
    }
    if next.takes_over(owner) {
        msr::write(Msr::PredCmd, IBPB, section);
    }
}

/// Issues an IBPB before other tasks and VTL2's userspace run, so that the lower VTL's training
/// does not affect them; not if each exit does so already.
pub(crate) fn end_ownership(mitigations: &Mitigations, section: &Section) {
    if mitigations.ibpb && !mitigations.scrub.does(Scrub::TARGETS) {
        msr::write(Msr::PredCmd, IBPB, section);
    }
}
