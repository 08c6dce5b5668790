// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VEINFO.GET (leaf 3): details of the last #VE, which also allows the next one.

use super::{Call, Done, Leaf, SUCCESS, Stop};
use crate::machine::Machine;
use crate::status::{Operand, Status};
use crate::ve::VeInfo;

/// Version 0, and in the 2.0 line version 1, which has the category of the #VE besides.
pub(crate) fn tdg_vp_veinfo_get<M: Machine>(call: Call<'_, '_, M>, version: u64) -> Leaf {
    let pending = if version > 1 {
        None
    } else {
        call.vcpu.ve.take()
    };
    let VeInfo {
        reason,
        qualification,
        gla,
        gpa,
        instruction_length,
        instruction_info,
        category,
    } = pending.unwrap_or_default();
    let category = if version == 0 { 0 } else { category as u64 };
    call.gprs.rcx = u64::from(reason) | category << 32;
    call.gprs.rdx = qualification;
    call.gprs.r8 = gla;
    call.gprs.r9 = gpa;
    call.gprs.r10 = u64::from(instruction_length) | u64::from(instruction_info) << 32;
    match pending {
        Some(_) => SUCCESS,
        None if version > 1 => Err(Stop::invalid(Operand::Rax)),
        None => Ok(Done::Status(Status::NO_VALID_VE_INFO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gprs::Gprs;
    use crate::td::FeatureLevel;
    use crate::testing::{complete, with_td};
    use crate::ve::{Category, VeDelivery};

    #[test]
    fn information_is_given_once() {
        with_td(|td, vcpu, m| {
            let info = VeInfo {
                reason: 30,
                qualification: 0x3f8_0008,
                gla: 1,
                gpa: 2,
                instruction_length: 2,
                instruction_info: 5,
                category: Category::NonConfigParavirt,
            };
            assert_eq!(vcpu.raise_ve(info), VeDelivery::InjectVe);
            let mut g = Gprs::ZERO;
            assert_eq!(complete(td, vcpu, m, 3, &mut g), 0);
            assert_eq!(
                (g.rcx, g.rdx, g.r8, g.r9, g.r10),
                (30, 0x3f8_0008, 1, 2, 5 << 32 | 2)
            );
            assert_eq!(complete(td, vcpu, m, 3, &mut g), Status::NO_VALID_VE_INFO.0);
            assert_eq!((g.rcx, g.rdx, g.r8, g.r9, g.r10), (0, 0, 0, 0, 0));
            assert_eq!(vcpu.raise_ve(info), VeDelivery::InjectVe);
        });
    }

    #[test]
    fn version_1_tells_the_category_in_the_2_0_line() {
        with_td(|td, vcpu, m| {
            let info = VeInfo {
                reason: 31,
                category: Category::ConfigParavirt,
                ..VeInfo::default()
            };
            assert_eq!(vcpu.raise_ve(info), VeDelivery::InjectVe);
            let mut g = Gprs::ZERO;
            let refused = Status::invalid(Operand::Rax).0;
            assert_eq!(complete(td, vcpu, m, 1 << 16 | 3, &mut g), refused);
            td.config.feature_level = FeatureLevel::Second;
            // A version that does not exist clears the outputs and leaves the information.
            g.rcx = 5;
            assert_eq!(complete(td, vcpu, m, 2 << 16 | 3, &mut g), refused);
            assert_eq!(g.rcx, 0);
            assert_eq!(complete(td, vcpu, m, 1 << 16 | 3, &mut g), 0);
            assert_eq!(g.rcx, 0x10_0000_001f);
        });
    }
}
