// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.CPUIDVE.SET (leaf 5): makes every CPUID of L1 a #VE, per privilege.

use super::{Call, Leaf, SUCCESS, must_be_zero};
use crate::machine::Machine;
use crate::status::Operand;

pub(crate) fn tdg_vp_cpuidve_set<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let rcx = call.gprs.rcx;
    must_be_zero(rcx & !3, Operand::Rcx)?;
    // checks passed
    call.vcpu.cpuid_supervisor_ve = u8::from(rcx & 1 != 0);
    call.vcpu.cpuid_user_ve = u8::from(rcx & 2 != 0);
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{complete, with_td};

    #[test]
    fn switches_are_per_privilege() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 2,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 5, &mut g), 0);
            assert!(!vcpu.cpuid_is_ve(0, None) && vcpu.cpuid_is_ve(3, None));
            g.rcx = 4;
            assert_eq!(
                complete(td, vcpu, m, 5, &mut g),
                Status::invalid(Operand::Rcx).0
            );
            assert!(vcpu.cpuid_is_ve(3, None));
        });
    }
}
