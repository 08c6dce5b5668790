// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.RD (leaf 9) and TDG.VP.WR (leaf 10): metadata of the calling virtual processor.

use super::{Call, Done, Leaf, SUCCESS, must_be_zero};
use crate::machine::Machine;
use crate::metadata::{self, Request, vp};
use crate::status::Operand;

pub(crate) fn tdg_vp_rd<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let id = core::mem::replace(&mut call.gprs.rdx, u64::MAX);
    call.gprs.r8 = 0;
    must_be_zero(call.gprs.rcx, Operand::Rcx)?;
    let table = vp::VpTable {
        config: &call.td.config,
        vcpu: call.vcpu,
    };
    let out = metadata::read(&table, id);
    call.gprs.rdx = out.next_id;
    call.gprs.r8 = out.value;
    Ok(Done::Status(out.status))
}

pub(crate) fn tdg_vp_wr<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let request = Request {
        value: call.gprs.r8,
        mask: call.gprs.r9,
    };
    call.gprs.r8 = 0;
    must_be_zero(call.gprs.rcx, Operand::Rcx)?;
    let now = call.machine.virtual_tsc();
    call.gprs.r8 = vp::write(&call.td.config, call.vcpu, now, call.gprs.rdx, request)?;
    SUCCESS
}

#[cfg(test)]
mod tests {
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{complete, with_td};

    const RIP_VM1: u64 = 0x2424_0003_0000_681e;

    #[test]
    fn write_returns_the_old_value_and_read_the_new_one() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rdx: RIP_VM1,
                r8: 0x7000,
                r9: u64::MAX,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 10, &mut g), 0);
            assert_eq!((g.rdx, g.r8), (RIP_VM1, 0xffff_fff0));
            assert_eq!(complete(td, vcpu, m, 9, &mut g), 0);
            assert_eq!((g.rdx, g.r8), (0x2424_0003_0000_6820, 0x7000));
        });
    }

    #[test]
    fn refused_write_clears_r8_and_keeps_the_field() {
        with_td(|td, vcpu, m| {
            let id = 0x2424_0003_0000_6802;
            let mut g = Gprs {
                rdx: id,
                r8: 1 << 63,
                r9: u64::MAX,
                ..Gprs::ZERO
            };
            let status = complete(td, vcpu, m, 10, &mut g);
            assert_eq!(
                (status, g.r8),
                (Status::METADATA_FIELD_VALUE_NOT_VALID.0, 0)
            );
            g.rdx = id;
            assert_eq!(complete(td, vcpu, m, 9, &mut g), 0);
            assert_eq!(g.r8, 0);
        });
    }
}
