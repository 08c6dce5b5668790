// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.INFO (leaf 1): what the TD is.

use super::{Call, Leaf, SUCCESS};
use crate::gpa::GPA_WIDTH;
use crate::machine::Machine;

/// R10: the guest may read module metadata.
const SYS_RD_AVAILABLE: u64 = 1;

pub(crate) fn tdg_vp_info<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    // checks passed
    let config = &call.td.config;
    call.gprs.rcx = GPA_WIDTH;
    call.gprs.rdx = config.attributes;
    call.gprs.r8 = u64::from(config.num_vcpus) | u64::from(config.max_vcpus) << 32;
    call.gprs.r9 = u64::from(call.vcpu.index);
    call.gprs.r10 = SYS_RD_AVAILABLE;
    call.gprs.r11 = 0;
    SUCCESS
}

#[cfg(test)]
mod tests {
    use crate::gprs::Gprs;
    use crate::testing::{complete, with_td};

    #[test]
    fn reports_width_attributes_and_processors() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                r11: 9,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 1, &mut g), 0);
            assert_eq!((g.rcx, g.rdx, g.r8), (48, 1 << 28, 4 << 32 | 2));
            assert_eq!((g.r9, g.r10, g.r11), (1, 1, 0));
        });
    }
}
