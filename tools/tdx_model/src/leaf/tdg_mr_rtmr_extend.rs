// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MR.RTMR.EXTEND (leaf 2): extends a run-time measurement register by a digest.

use sha2::{Digest, Sha384};

use super::{Call, Leaf, SUCCESS, Stop, private_operand};
use crate::machine::Machine;
use crate::status::Operand;

pub(crate) fn tdg_mr_rtmr_extend<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let buffer = private_operand(call.gprs.rcx, 64, Operand::Rcx)?;
    let index = usize::try_from(call.gprs.rdx).ok().filter(|i| *i < 4);
    let index = index.ok_or(Stop::invalid(Operand::Rdx))?;
    call.walk_private(buffer)?;
    // checks passed
    let mut digest = [0; 48];
    call.machine.read_memory(buffer, &mut digest);
    if let Some(rtmr) = call.td.measurements.rtmr.get_mut(index) {
        *rtmr = Sha384::new()
            .chain_update(*rtmr)
            .chain_update(digest)
            .finalize()
            .into();
    }
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{call, complete, with_td};

    #[test]
    fn register_becomes_the_hash_of_itself_and_the_digest() {
        with_td(|td, vcpu, m| {
            m.memory[0x1040..0x1070].fill(0xab);
            let mut g = Gprs {
                rcx: 0x1040,
                rdx: 2,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 2, &mut g), 0);
            let want: [u8; 48] = Sha384::new()
                .chain_update([0; 48])
                .chain_update([0xab; 48])
                .finalize()
                .into();
            assert_eq!(td.measurements.rtmr[2], want);
            assert_eq!(td.measurements.rtmr[1], [0; 48]);
        });
    }

    #[test]
    fn address_is_checked_before_index_and_page_last() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 0x1001,
                rdx: 4,
                ..Gprs::ZERO
            };
            assert_eq!(
                complete(td, vcpu, m, 2, &mut g),
                Status::invalid(Operand::Rcx).0
            );
            g.rcx = 0x90_0000;
            assert_eq!(
                complete(td, vcpu, m, 2, &mut g),
                Status::invalid(Operand::Rdx).0
            );
            g.rdx = 3;
            assert!(matches!(call(td, vcpu, m, 2, &mut g), Outcome::TdExit(_)));
        });
    }
}
