// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.INVEPT (leaf 26): flushes translations of L2 VMs on this logical processor.

use super::{Call, Leaf, SUCCESS, must_be_zero};
use crate::gpa::VmIndex;
use crate::machine::{FlushScope, Machine};
use crate::status::Operand;

pub(crate) fn tdg_vp_invept<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let vms = call.gprs.rcx;
    let existing = (2_u64 << call.td.config.num_l2_vms) - 2;
    must_be_zero(vms & !existing, Operand::Rcx)?;
    // checks passed
    for vm in VmIndex::ALL {
        if vms >> vm.number() & 1 != 0 {
            call.flush_l2(vm, FlushScope::Ept);
        }
    }
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{Event, complete, with_td};

    #[test]
    fn selected_vms_are_flushed_and_others_refused() {
        with_td(|td, vcpu, m| {
            assert_eq!(complete(td, vcpu, m, 26, &mut Gprs::ZERO.clone()), 0);
            let mut g = Gprs {
                rcx: 4,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 26, &mut g), 0);
            assert_eq!(m.events, [Event::Flush(VmIndex::Vm2, FlushScope::Ept)]);
            for rcx in [1, 8, 1 << 52] {
                let mut g = Gprs { rcx, ..Gprs::ZERO };
                assert_eq!(
                    complete(td, vcpu, m, 26, &mut g),
                    Status::invalid(Operand::Rcx).0
                );
            }
        });
    }
}
