// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MR.RTMR.EXTEND (leaf 2): extends a run-time measurement register by a digest.

use super::{Call, Leaf, SUCCESS, Stop, private_operand};
use crate::machine::Machine;
use crate::status::Operand;

pub(crate) fn tdg_mr_rtmr_extend<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let buffer = private_operand(call.gprs.rcx, 64, Operand::Rcx)?;
    call.walk_private(buffer)?;
    let index = usize::try_from(call.gprs.rdx).ok().filter(|i| *i < 4);
    let index = index.ok_or(Stop::invalid(Operand::Rdx))?;
    call.lock_rtmrs()?;
    // checks passed
    let mut digest = [0; 48];
    call.machine.read_memory(buffer, &mut digest);
    call.td.measurements.extend(index, &digest);
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{call, complete, with_td};
    use sha2::{Digest as _, Sha384};

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
    fn a_busy_register_is_not_extended_and_names_itself() {
        with_td(|td, vcpu, m| {
            m.busy_rtmrs = 1;
            let mut g = Gprs {
                rcx: 0x1040,
                rdx: 3,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 2, &mut g), 0x8000_0200_0000_00a8);
            assert_eq!(td.measurements.rtmr[3], [0; 48]);
            assert_eq!(complete(td, vcpu, m, 2, &mut g), 0);
            assert_ne!(td.measurements.rtmr[3], [0; 48]);
        });
    }

    #[test]
    fn pending_page_is_a_ve_of_l1_where_the_td_wants_that() {
        with_td(|td, vcpu, m| {
            use crate::gpa::{Gpa, Level};
            use crate::ve::{Category, VeInfo};
            assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size4K));
            let mut g = Gprs {
                rcx: 0x20_0040,
                ..Gprs::ZERO
            };
            assert!(matches!(call(td, vcpu, m, 2, &mut g), Outcome::TdExit(_)));
            td.td_ctls = 0;
            assert_eq!(call(td, vcpu, m, 2, &mut g), Outcome::InjectVe);
            let want = VeInfo {
                reason: 48,
                gpa: 0x20_0040,
                category: Category::Pending,
                ..VeInfo::default()
            };
            assert_eq!(vcpu.ve, Some(want));
            assert_eq!(call(td, vcpu, m, 2, &mut g), Outcome::InjectDf);
            assert_eq!((g.rax, g.rcx), (2, 0x20_0040));
            // The entry of an L2 is the host's business.
            m.prepare_l2(vcpu);
            (g.rcx, g.rdx) = (1 << 52, 0x20_0000);
            assert!(matches!(call(td, vcpu, m, 25, &mut g), Outcome::TdExit(_)));
        });
    }

    #[test]
    fn address_and_page_are_checked_before_the_index() {
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
            g.rcx = 0x20_0000;
            assert!(matches!(call(td, vcpu, m, 2, &mut g), Outcome::TdExit(_)));
            g.rcx = 0x1000;
            assert_eq!(
                complete(td, vcpu, m, 2, &mut g),
                Status::invalid(Operand::Rdx).0
            );
        });
    }
}
