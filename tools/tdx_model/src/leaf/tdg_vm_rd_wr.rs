// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VM.RD (leaf 7, versions 0 and 1) and TDG.VM.WR (leaf 8): TD-scope metadata.

use super::{Call, Done, Leaf, SUCCESS, must_be_zero};
use crate::machine::Machine;
use crate::metadata::{self, Request, vm};
use crate::status::{Operand, Status};

/// Version 0 does not iterate: RDX is unchanged, and the null id is invalid.
pub(crate) fn tdg_vm_rd_v0<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    call.gprs.r8 = 0;
    must_be_zero(call.gprs.rcx, Operand::Rcx)?;
    let mut out = metadata::read(&vm::VmTable(call.td), call.gprs.rdx);
    if out.status == Status::METADATA_FIRST_FIELD_ID_IN_CONTEXT {
        out.status = Status::METADATA_FIELD_ID_INCORRECT;
    }
    call.gprs.r8 = out.value;
    Ok(Done::Status(out.status))
}

/// Version 1 also returns the next id in RDX.
pub(crate) fn tdg_vm_rd_v1<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let id = core::mem::replace(&mut call.gprs.rdx, u64::MAX);
    call.gprs.r8 = 0;
    must_be_zero(call.gprs.rcx, Operand::Rcx)?;
    let out = metadata::read(&vm::VmTable(call.td), id);
    call.gprs.rdx = out.next_id;
    call.gprs.r8 = out.value;
    Ok(Done::Status(out.status))
}

pub(crate) fn tdg_vm_wr<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let request = Request {
        value: call.gprs.r8,
        mask: call.gprs.r9,
    };
    call.gprs.r8 = 0;
    must_be_zero(call.gprs.rcx, Operand::Rcx)?;
    call.gprs.r8 = vm::write(call.td, call.gprs.rdx, request)?;
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gprs::Gprs;
    use crate::testing::{complete, with_td};

    const XFAM: u64 = 0x1110_0003_0000_0001;

    #[test]
    fn only_version_one_returns_the_next_id() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rdx: XFAM,
                r8: 5,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 7, &mut g), 0);
            assert_eq!((g.rdx, g.r8), (XFAM, 0x207));
            assert_eq!(complete(td, vcpu, m, 1 << 16 | 7, &mut g), 0);
            assert_eq!((g.rdx, g.r8), (0x1110_0002_0000_0002, 0x207));
            g.rdx = u64::MAX;
            let null = complete(td, vcpu, m, 7, &mut g);
            assert_eq!(null, Status::METADATA_FIELD_ID_INCORRECT.0);
        });
    }

    #[test]
    fn handle_must_be_zero_and_results_are_cleared_on_refusal() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 1,
                rdx: XFAM,
                r8: 5,
                ..Gprs::ZERO
            };
            let rd = complete(td, vcpu, m, 1 << 16 | 7, &mut g);
            assert_eq!(
                (rd, g.rdx, g.r8),
                (Status::invalid(Operand::Rcx).0, u64::MAX, 0)
            );
            let mut g = Gprs {
                rdx: XFAM,
                r8: 5,
                r9: 5,
                ..Gprs::ZERO
            };
            let wr = complete(td, vcpu, m, 8, &mut g);
            assert_eq!((wr, g.r8), (Status::METADATA_FIELD_NOT_WRITABLE.0, 0));
        });
    }
}
