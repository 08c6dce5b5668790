// SPDX-License-Identifier: GPL-2.0
//! Speculation defences of a switch: asks what `pure::mitigation` chooses from, and writes the
//! barrier. The rest of them is in `run/vp_enter.S`, next to the switch itself.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::cpu::fpu::Section;
use crate::cpu::msr::{self, Msr};
use crate::glue::abi::safe_in_c;
use crate::glue::ffi;
use crate::pure::field::VmIndex;
use crate::pure::mitigation::{Facts, Mitigations, Mode, Owner, Scrub};

/// IA32_PRED_CMD: indirect branch predictor barrier.
const IBPB: u64 = 1;

// Constants since boot, and since the module's parameters were parsed.
safe_in_c! {
    fn vtl_mitigation_mode() -> u32;
    fn vtl_mitigation_facts() -> u32;
}

/// The choice for this processor.
pub(crate) fn choose(has_spec_ctrl: bool) -> Mitigations {
    let mode = Mode::from_number(vtl_mitigation_mode());
    let mut facts = Facts(vtl_mitigation_facts());
    if has_spec_ctrl {
        facts.0 |= Facts::HAS_SPEC_CTRL.0;
    }
    Mitigations::choose(mode, facts)
}

/// Keeps what one owner has trained in the branch predictors from the next one on this VP.
pub(crate) fn change_owner(
    owner: &mut Option<Owner>,
    vm: VmIndex,
    mitigations: &Mitigations,
    section: &Section,
) {
    if !mitigations.ibpb {
        return;
    }
    let next = Owner {
        process: ffi::process(),
        vm: vm.get(),
    };
    if owner.replace(next) != Some(next) {
        msr::write(Msr::PredCmd, IBPB, section);
    }
}

/// Keeps what the lower VTL has trained from VTL2's userspace and other tasks, where the barrier of each
/// exit has not done so already.
pub(crate) fn end_ownership(mitigations: &Mitigations, section: &Section) {
    // One with each exit is enough.
    if mitigations.ibpb && !mitigations.scrub.does(Scrub::TARGETS) {
        msr::write(Msr::PredCmd, IBPB, section);
    }
}
