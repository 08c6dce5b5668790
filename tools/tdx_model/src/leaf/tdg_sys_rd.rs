// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.SYS.RD (leaf 11): metadata of the module.

use super::{Call, Done, Leaf};
use crate::machine::Machine;
use crate::metadata::{self, sys::SysTable};

pub(crate) fn tdg_sys_rd<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let out = metadata::read(&SysTable(call.td.config.feature_level), call.gprs.rdx);
    call.gprs.rdx = out.next_id;
    call.gprs.r8 = out.value;
    Ok(Done::Status(out.status))
}

#[cfg(test)]
mod tests {
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{complete, with_td};

    #[test]
    fn null_id_gives_the_first_field_and_no_error() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rdx: u64::MAX,
                r8: 5,
                ..Gprs::ZERO
            };
            let status = complete(td, vcpu, m, 11, &mut g);
            assert_eq!(status, Status::METADATA_FIRST_FIELD_ID_IN_CONTEXT.0);
            assert_eq!((g.rdx, g.r8), (0x0800_0002_0000_0000, 0));
            assert_eq!(complete(td, vcpu, m, 11, &mut g), 0);
            assert_eq!((g.rdx, g.r8), (0x0800_0001_0000_0003, 0x8086));
        });
    }
}
