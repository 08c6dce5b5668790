// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MEM.PAGE.RELEASE (leaf 30, later modules): makes an accepted page pending again, so that the
//! host may take it. Aliases of L2 VMs are blocked until the page is accepted anew.

use super::tdg_mem_page_accept::mapping_operand;
use super::{Call, Leaf, SUCCESS, Stop};
use crate::gpa::{Level, Rights, VmIndex};
use crate::machine::{L1Mapping, Machine};
use crate::page_state::{PageState, Walk};
use crate::status::Status;

/// RCX after EPT_ENTRY_STATE_INCORRECT: the page is not accepted.
const PENDING: u64 = 1 << 62;

pub(crate) fn tdg_mem_page_release<M: Machine>(call: Call<'_, '_, M>) -> Leaf {
    let (gpa, level) = mapping_operand(call.gprs.rcx, Level::Size2M)?;
    let entry = match call.td.pages.walk(gpa, level) {
        Walk::Leaf(entry) if entry.level() == level => entry,
        Walk::Leaf(entry) => return Err(size_mismatch(call, entry.level())),
        Walk::Table => return Err(size_mismatch(call, Level::Size4K)),
        Walk::Missing => return Err(Status::EPT_ENTRY_FREE.into()),
    };
    if entry.state() != PageState::Mapped {
        call.gprs.rcx = PENDING;
        return Err(Status::EPT_ENTRY_STATE_INCORRECT.into());
    }
    // checks passed
    call.td.pages.release(gpa, level);
    call.machine
        .l1_mapping_changed(gpa, level, L1Mapping::Absent);
    for vm in VmIndex::ALL {
        let old = entry.rights(vm);
        if old.is_present() {
            call.td.stale.reduce(vm, gpa, level, old, Rights::default());
            call.machine.l2_mapping_changed(vm, gpa, level, None);
        }
    }
    SUCCESS
}

/// The page is mapped at another level, which is reported in RCX.
fn size_mismatch<M: Machine>(call: Call<'_, '_, M>, level: Level) -> Stop {
    call.gprs.rcx = u64::from(level.number());
    Status::PAGE_SIZE_MISMATCH.with(level.number()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpa::Gpa;
    use crate::gprs::Gprs;
    use crate::status::Operand;
    use crate::td::{FeatureLevel, Td, config_flags};
    use crate::testing::{Event, FakeMachine, complete, with_td};
    use crate::vcpu::Vcpu;

    fn with_release(test: impl FnOnce(&mut Td<'_>, &mut Vcpu, &mut FakeMachine)) {
        with_td(|td, vcpu, m| {
            td.config.config_flags |= config_flags::PAGE_RELEASE;
            test(td, vcpu, m);
        });
    }

    /// Status and RCX.
    fn release(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, rcx: u64) -> (Status, u64) {
        let mut g = Gprs { rcx, ..Gprs::ZERO };
        (Status(complete(td, vcpu, m, 30, &mut g)), g.rcx)
    }

    #[test]
    fn released_page_is_pending_with_its_aliases_blocked_until_accepted() {
        with_release(|td, vcpu, m| {
            let (gpa, level) = (Gpa(0x5000), Level::Size4K);
            td.pages.set_rights(gpa, level, VmIndex::Vm2, Rights::RWX);
            assert_eq!(release(td, vcpu, m, 0x5000), (Status::SUCCESS, 0x5000));
            assert_eq!(td.pages.state(gpa), PageState::Pending);
            assert_eq!(td.pages.l2_rights(VmIndex::Vm2, gpa), None);
            let want = [
                Event::L1(gpa, level, L1Mapping::Absent),
                Event::L2(VmIndex::Vm2, gpa, level, None),
            ];
            assert_eq!(m.events, want);
            let again = release(td, vcpu, m, 0x5000);
            assert_eq!(again, (Status::EPT_ENTRY_STATE_INCORRECT, PENDING));
            let mut g = Gprs {
                rcx: 0x5000,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 6, &mut g), 0);
            assert_eq!(td.pages.l2_rights(VmIndex::Vm2, gpa), Some(Rights::RWX));
        });
    }

    #[test]
    fn level_must_be_that_of_the_mapping_and_is_told() {
        with_release(|td, vcpu, m| {
            assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size2M));
            td.pages.accept(Gpa(0x20_0000), Level::Size2M);
            let (status, rcx) = release(td, vcpu, m, 0x20_1000);
            assert_eq!((status, rcx), (Status::PAGE_SIZE_MISMATCH.with(1), 1));
            let (status, rcx) = release(td, vcpu, m, 1);
            assert_eq!((status, rcx), (Status::PAGE_SIZE_MISMATCH, 0));
            assert_eq!(release(td, vcpu, m, 0x20_0001).0, Status::SUCCESS);
        });
    }

    #[test]
    fn malformed_and_free_addresses_are_refused() {
        with_release(|td, vcpu, m| {
            for rcx in [2, 0x1008, 1 << 47, 1 << 52, 0x20_1001] {
                let refused = (Status::invalid(Operand::Rcx), rcx);
                assert_eq!(release(td, vcpu, m, rcx), refused);
            }
            let free = release(td, vcpu, m, 0x40_0000);
            assert_eq!(free, (Status::EPT_ENTRY_FREE, 0x40_0000));
            assert!(m.events.is_empty());
        });
    }

    #[test]
    fn leaf_is_unknown_without_the_flag_and_below_the_level() {
        with_td(|td, vcpu, m| {
            let unknown = Status::invalid(Operand::Rax);
            assert_eq!(release(td, vcpu, m, 0x5000).0, unknown);
            td.config.config_flags |= config_flags::PAGE_RELEASE;
            td.config.feature_level = FeatureLevel::Base;
            assert_eq!(release(td, vcpu, m, 0x5000).0, unknown);
        });
    }
}
