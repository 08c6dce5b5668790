// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of TDG.MEM.PAGE.ATTR.WR: words, their combinations, and what becomes of the alias.

use super::*;
use crate::dispatch::Outcome;
use crate::gprs::Gprs;
use crate::td::Td;
use crate::testing::{Event, FakeMachine, call, complete, with_td};
use crate::vcpu::Vcpu;
use crate::ve::TdExit;

const PAGE: u64 = 0x1000;

fn vm1(word: u64) -> u64 {
    word << 16
}

#[test]
fn rights_are_granted_changed_and_taken_away() {
    with_td(|td, vcpu, m| {
        let mut set = |rdx, r8| {
            let mut g = Gprs {
                rcx: PAGE,
                rdx: vm1(rdx),
                r8: vm1(r8),
                ..Gprs::ZERO
            };
            let status = complete(td, vcpu, m, 24, &mut g);
            (status, g.rcx, g.rdx)
        };
        assert_eq!(set(0x8007, 0x0f), (0, PAGE, vm1(0x8007)));
        assert_eq!(set(0x8000, 0x02), (0, PAGE, vm1(0x8005)));
        assert_eq!(set(0x8000, 0x807f), (0, PAGE, vm1(0x8000)));
        let (vm, gpa, level) = (VmIndex::Vm1, Gpa(PAGE), Level::Size4K);
        let want = [
            Event::L2(vm, gpa, level, Some(Rights::from_bits(7))),
            Event::L2(vm, gpa, level, Some(Rights::from_bits(5))),
            Event::L2(vm, gpa, level, None),
            Event::Flush(vm, FlushScope::Ept),
        ];
        assert_eq!(m.events, want);
        assert_eq!(td.pages.l2_rights(vm, gpa), None);
    });
}

#[test]
fn illegal_result_reports_collected_words_and_changes_nothing() {
    with_td(|td, vcpu, m| {
        td.pages
            .set_rights(Gpa(PAGE), Level::Size4K, VmIndex::Vm2, Rights::R);
        let rdx = 0x8002 << 32 | vm1(0x8001);
        let mut g = Gprs {
            rcx: PAGE,
            rdx,
            r8: 0x7f << 32 | vm1(0x7f),
            ..Gprs::ZERO
        };
        assert_eq!(
            complete(td, vcpu, m, 24, &mut g),
            Status::PAGE_ATTR_INVALID.0
        );
        assert_eq!((g.rcx, g.rdx), (0, 0x8001 << 32 | vm1(0x8001)));
        // An offender without an alias has no word; the VMs after it are described too.
        (g.rcx, g.rdx) = (PAGE, 0x8004 << 32 | vm1(0x8002));
        let status = complete(td, vcpu, m, 24, &mut g);
        assert_eq!(status, Status::PAGE_ATTR_INVALID.0);
        assert_eq!((g.rcx, g.rdx), (0, 0x8004 << 32));
        assert!(m.events.is_empty());
        assert_eq!(td.pages.l2_rights(VmIndex::Vm1, Gpa(PAGE)), None);
    });
}

#[test]
fn bits_outside_the_mask_do_not_count_and_come_back_where_there_is_no_alias() {
    with_td(|td, vcpu, m| {
        let mut set = |td: &mut Td<'_>, rdx, r8| {
            let mut g = Gprs {
                rcx: PAGE,
                rdx: vm1(rdx),
                r8: vm1(r8),
                ..Gprs::ZERO
            };
            let status = complete(td, vcpu, m, 24, &mut g);
            (status, g.rdx >> 16)
        };
        // No alias and nothing to set: the word comes back, no alias is created.
        assert_eq!(set(td, 0xff87, 0), (0, 0xff87));
        assert_eq!(td.pages.l2_rights(VmIndex::Vm1, Gpa(PAGE)), None);
        // Reserved bits and SVE are refused only if the mask has them.
        assert_eq!(set(td, 0xff83, 0x0f), (0, 0x8003));
        assert_eq!(set(td, 0x8083, 0x8f).0, Status::PAGE_ATTR_INVALID.0);
        let reserved = (Status::PAGE_ATTR_INVALID.0, 0x8003);
        assert_eq!(set(td, 0x8103, 0x10f), reserved);
        // A result that is no alias is not checked any further.
        assert_eq!(set(td, 0x8080, 0x8f), (0, 0x8000));
        assert_eq!(td.pages.l2_rights(VmIndex::Vm1, Gpa(PAGE)), None);
        assert_eq!(m.events.len(), 2);
    });
}

#[test]
fn entry_that_the_host_holds_is_busy_before_its_state_is_known() {
    with_td(|td, vcpu, m| {
        m.busy_page = Some(Gpa(PAGE));
        let g = Gprs {
            rcx: PAGE,
            rdx: vm1(0x8002),
            r8: vm1(2),
            ..Gprs::ZERO
        };
        let busy = Status::OPERAND_BUSY.with(1).0;
        for (leaf, outputs) in [(6, (PAGE, vm1(0x8002))), (23, (0, 0)), (24, (0, 0))] {
            let mut g = g;
            assert_eq!(complete(td, vcpu, m, leaf, &mut g), busy, "{leaf}");
            assert_eq!((g.rcx, g.rdx), outputs, "{leaf}");
        }
        // The walk that ends in a larger page does not get as far as the lock.
        let rcx = 0x20_1000;
        m.busy_page = Some(Gpa(rcx));
        assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size2M));
        let outcome = call(td, vcpu, m, 24, &mut Gprs { rcx, ..g });
        assert!(matches!(outcome, Outcome::TdExit(_)));
    });
}

#[test]
fn words_of_other_vms_are_checked_before_the_address() {
    with_td(|td, vcpu, m| {
        let mut refuse = |rcx, rdx, r8| {
            let mut g = Gprs {
                rcx,
                rdx,
                r8,
                ..Gprs::ZERO
            };
            let status = complete(td, vcpu, m, 24, &mut g);
            assert_eq!((g.rcx, g.rdx), (0, 0));
            Status(status)
        };
        assert_eq!(refuse(7, 1, 0), Status::invalid(Operand::Rdx));
        assert_eq!(refuse(7, 0, 1), Status::invalid(Operand::R8));
        assert_eq!(refuse(7, 0x8001 << 48, 0), Status::invalid(Operand::Rdx));
        assert_eq!(refuse(7, vm1(1), 0), Status::invalid(Operand::Rdx));
        assert_eq!(
            refuse(7, vm1(0x8001), vm1(1)),
            Status::invalid(Operand::Rcx)
        );
    });
}

#[test]
fn alias_of_a_pending_page_is_created_blocked() {
    with_td(|td, vcpu, m| {
        let gpa = 0x20_0000;
        assert!(td.pages.host_aug_pending(Gpa(gpa), Level::Size4K));
        let mut g = Gprs {
            rcx: gpa,
            rdx: vm1(0x8007),
            r8: vm1(7),
            ..Gprs::ZERO
        };
        assert_eq!(complete(td, vcpu, m, 24, &mut g), 0);
        assert_eq!(g.rcx, gpa | PENDING);
        assert_eq!(
            m.events,
            [Event::L2(VmIndex::Vm1, Gpa(gpa), Level::Size4K, None)]
        );
    });
}

#[test]
fn level_must_be_that_of_the_mapping() {
    with_td(|td, vcpu, m| {
        let words = Gprs {
            rdx: vm1(0x8001),
            r8: vm1(1),
            ..Gprs::ZERO
        };
        let mut table = Gprs { rcx: 1, ..words };
        assert_eq!(
            complete(td, vcpu, m, 24, &mut table),
            Status::PAGE_SIZE_MISMATCH.with(1).0
        );
        assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size2M));
        let mut small = Gprs {
            rcx: 0x20_1000,
            ..words
        };
        let exit = TdExit::EptViolation {
            gpa: Gpa(0x20_1000),
            vm: None,
            qualification: 0,
            eeq: Eeq::AttrWr {
                level: Level::Size4K,
            },
        };
        assert_eq!(call(td, vcpu, m, 24, &mut small), Outcome::TdExit(exit));
        assert_eq!((small.rcx, small.rdx), (0x20_1000, vm1(0x8001)));
    });
}

#[test]
fn missing_table_of_an_l2_is_a_status_that_names_vm_and_level() {
    with_td(|td, vcpu, m| {
        td.config.l2_tables = L2Tables::Withheld;
        let grant = Gprs {
            rcx: PAGE,
            rdx: 0x8007 << 32 | vm1(0x8000),
            r8: 7 << 32,
            ..Gprs::ZERO
        };
        let mut g = grant;
        let status = Status(complete(td, vcpu, m, 24, &mut g));
        assert_eq!(status, Status::L2_SEPT_WALK_FAILED.with(2 << 16 | 1));
        assert_eq!((g.rcx, g.rdx), (0, 0));
        assert!(m.events.is_empty());
        // An illegal combination needs no table, but the next VM's is looked for.
        let mut illegal = Gprs {
            rdx: 0x8002 << 32,
            ..grant
        };
        let status = complete(td, vcpu, m, 24, &mut illegal);
        assert_eq!(status, Status::PAGE_ATTR_INVALID.0);
        let mut both = Gprs {
            rdx: 0x8007 << 32 | vm1(0x8002),
            r8: 7 << 32 | vm1(7),
            ..grant
        };
        let status = Status(complete(td, vcpu, m, 24, &mut both));
        assert_eq!(status, Status::L2_SEPT_WALK_FAILED.with(2 << 16 | 1));
        // A large page needs no table of this kind.
        assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size2M));
        let mut large = Gprs {
            rcx: 0x20_0001,
            ..grant
        };
        assert_eq!(complete(td, vcpu, m, 24, &mut large), 0);
    });
}

#[test]
fn host_that_wants_to_know_gives_the_table_and_the_call_is_repeated() {
    with_td(|td, vcpu, m| {
        td.config.l2_tables = L2Tables::OnDemand;
        let mut g = Gprs {
            rcx: PAGE,
            rdx: vm1(0x8007),
            r8: vm1(7),
            ..Gprs::ZERO
        };
        let (vm, level) = (VmIndex::Vm1, Level::Size2M);
        let exit = TdExit::EptViolation {
            gpa: Gpa(PAGE),
            vm: None,
            qualification: 0,
            eeq: Eeq::L2Walk { vm, level },
        };
        assert_eq!(call(td, vcpu, m, 24, &mut g), Outcome::TdExit(exit));
        td.pages.host_add_l2_table(vm, Gpa(PAGE));
        assert_eq!(complete(td, vcpu, m, 24, &mut g), 0);
        // The table covers exactly its 2 MiB, for its VM.
        assert!(td.has_l2_table(vm, Gpa(0x1f_f000), Level::Size4K));
        assert!(!td.has_l2_table(vm, Gpa(0x20_0000), Level::Size4K));
        assert!(!td.has_l2_table(VmIndex::Vm2, Gpa(PAGE), Level::Size4K));
    });
}

/// Removes all rights of VM 1 to the page; `flags` is bit 15 of its flag word.
fn take(td: &mut Td<'_>, vcpu: &mut Vcpu, m: &mut FakeMachine, flags: u64) {
    let mut g = Gprs {
        rcx: PAGE,
        rdx: vm1(0x8000),
        r8: vm1(flags | 0x7f),
        ..Gprs::ZERO
    };
    assert_eq!(complete(td, vcpu, m, 24, &mut g), 0);
}

#[test]
fn rights_taken_without_a_flush_are_held_by_processors_that_ran_the_vm() {
    with_td(|td, vcpu, m| {
        let (vm, gpa, level) = (VmIndex::Vm1, Gpa(PAGE), Level::Size4K);
        let old = |td: &Td<'_>, vcpu| td.stale.find(vcpu, vm, gpa).map(|old| old.rights);
        td.pages.set_rights(gpa, level, vm, Rights::RWX);
        td.stale.run(0, vm);
        td.stale.run(1, vm);
        // With INVEPT: on the processor of the call only.
        take(td, vcpu, m, 0x8000);
        assert_eq!((old(td, 0), old(td, 1)), (Some(Rights::RWX), None));
        td.pages.set_rights(gpa, level, vm, Rights::R);
        td.stale.run(1, vm);
        take(td, vcpu, m, 0);
        assert_eq!(old(td, 1), Some(Rights::R));
        // INVVPID does not reach it, INVEPT does.
        let mut linear = Gprs {
            rcx: 1 << 52,
            ..Gprs::ZERO
        };
        assert_eq!(complete(td, vcpu, m, 27, &mut linear), 0);
        assert_eq!(old(td, 1), Some(Rights::R));
        let mut all = Gprs {
            rcx: 2,
            ..Gprs::ZERO
        };
        assert_eq!(complete(td, vcpu, m, 26, &mut all), 0);
        assert_eq!((old(td, 0), old(td, 1)), (Some(Rights::RWX), None));
    });
}

#[test]
fn flush_is_done_for_vms_without_valid_words() {
    with_td(|td, vcpu, m| {
        let mut g = Gprs {
            rcx: PAGE,
            r8: 0x8000 << 32,
            ..Gprs::ZERO
        };
        assert_eq!(complete(td, vcpu, m, 24, &mut g), 0);
        assert_eq!(m.events, [Event::Flush(VmIndex::Vm2, FlushScope::Ept)]);
    });
}
