// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL (leaf 0): hands selected registers to the host.

use super::{Call, Done, Leaf, Stop};
use crate::machine::Machine;
use crate::status::{Operand, Status};
use crate::td::{Td, config_flags};

/// RAX, RCX and RSP are never exposed.
const NEVER: u64 = 1 << 0 | 1 << 1 | 1 << 4;
const RBP: u64 = 1 << 5;

pub(crate) fn tdg_vp_vmcall<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    check_mask(call.td, call.gprs.rcx)
        .map(|mask| Done::Vmcall { mask })
        .map_err(Stop::from)
}

/// Checks the register mask in RCX; also used for the same call by an L2.
pub(crate) fn check_mask(td: &Td<'_>, rcx: u64) -> Result<u32, Status> {
    let rbp = if td.config.config_flags & config_flags::NO_RBP_MOD != 0 {
        RBP
    } else {
        0
    };
    match u32::try_from(rcx) {
        Ok(mask) if rcx & (NEVER | rbp) == 0 => Ok(mask),
        _ => Err(Status::invalid(Operand::Rcx)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gprs::Gprs;
    use crate::testing::{call, with_td};

    #[test]
    fn exposed_registers_reach_the_host_and_forbidden_ones_are_refused() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 0xffff_ffcc,
                r10: 7,
                ..Gprs::ZERO
            };
            assert_eq!(
                call(td, vcpu, m, 0, &mut g),
                Outcome::Vmcall { mask: 0xffff_ffcc }
            );
            for rcx in [1, 2, 0x10, 1 << 32, 1 << 63] {
                let mut g = Gprs {
                    rcx: rcx | 0xfc00,
                    ..Gprs::ZERO
                };
                assert_eq!(call(td, vcpu, m, 0, &mut g), Outcome::Complete);
                assert_eq!(g.rax, Status::invalid(Operand::Rcx).0);
            }
        });
    }

    #[test]
    fn rbp_is_refused_only_when_configured() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 0xfc20,
                ..Gprs::ZERO
            };
            td.config.config_flags = 0;
            assert_eq!(
                call(td, vcpu, m, 0, &mut g),
                Outcome::Vmcall { mask: 0xfc20 }
            );
            td.config.config_flags = config_flags::NO_RBP_MOD;
            assert_eq!(call(td, vcpu, m, 0, &mut g), Outcome::Complete);
        });
    }
}
