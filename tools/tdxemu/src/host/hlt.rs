// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.HLT>: sleep until something is pending for L1.

use crate::run::not_modelled;
use crate::vp::Vp;
use svm::SvmExit;

/// Sleeps. An interrupt stays pending in the local APIC, where L1 finds it.
pub fn sleep(vp: &mut Vp) {
    loop {
        match vp.sleep() {
            SvmExit::Intr => return,
            SvmExit::Nmi if vp.take_nmi() => return vp.inject_nmi(),
            // A kick: nothing of L1 was in use here.
            SvmExit::Nmi => {}
            other => not_modelled(vp, format_args!("exit {other:x?} while asleep")),
        }
    }
}
