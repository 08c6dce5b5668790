// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MEM.PAGE.ATTR.WR (leaf 24): changes what L2 VMs may do with a page.

use super::tdg_mem_page_accept::mapping_operand;
use super::{Call, Leaf, SUCCESS, Stop};
use crate::gpa::{Gpa, Level, Rights, VmIndex};
use crate::machine::{FlushScope, Machine};
use crate::page_state::{PageEntry, PageState, Walk};
use crate::status::{Operand, Status};
use crate::td::{L2Tables, TdConfig};
use crate::ve::Eeq;

/// Attribute word: the word is to be applied.
const VALID: u16 = 1 << 15;
/// Flag word: flush the VM's translations on this logical processor.
const INVEPT: u16 = 1 << 15;
/// Attribute and flag words: bits that must be 0.
const RESERVED: u16 = 0x7f00;
/// Attribute word: suppress #VE, not supported.
const SVE: u16 = 1 << 7;
/// Mapping word: the page is not yet accepted.
const PENDING: u64 = 1 << 62;

/// The 16-bit word of a VM in a register with one word per VM, VM 0 in the lowest.
const fn word_of(register: u64, vm: u8) -> u16 {
    // CAST: the shift brings the word into the low 16 bits.
    (register >> (16 * vm)) as u16
}

pub(super) const fn put_word(register: u64, vm: VmIndex, word: u16) -> u64 {
    register | (word as u64) << (16 * vm.number())
}

pub(super) const fn attribute_word(rights: Rights) -> u16 {
    VALID | rights.bits() as u16
}

pub(super) fn mapping_word(gpa: Gpa, entry: PageEntry) -> u64 {
    let pending = if entry.state() == PageState::Pending {
        PENDING
    } else {
        0
    };
    gpa.0 | u64::from(entry.level().number()) | pending
}

/// What a call does after all its checks have passed.
struct Change {
    gpa: Gpa,
    entry: PageEntry,
    /// New rights of the VMs whose word is valid.
    rights: [Option<Rights>; 3],
}

pub(crate) fn tdg_mem_page_attr_wr<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let flags = call.gprs.r8;
    let outputs = match check(&call) {
        Err(refusal) => refusal,
        Ok(change) => {
            // checks passed
            commit(&mut call, &change, flags);
            let mut words = 0;
            for (rights, vm) in change.rights.into_iter().zip(VmIndex::ALL) {
                words = put_word(words, vm, rights.map_or(0, attribute_word));
            }
            call.gprs.rcx = mapping_word(change.gpa, change.entry);
            call.gprs.rdx = words;
            return SUCCESS;
        }
    };
    if let Stop::Refused(_) = outputs.stop {
        call.gprs.rcx = 0;
        call.gprs.rdx = outputs.rdx;
    }
    Err(outputs.stop)
}

/// A refusal and what RDX becomes with it.
struct Refusal {
    stop: Stop,
    rdx: u64,
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self { stop, rdx: 0 }
    }
}

fn check<M: Machine>(call: &Call<'_, '_, M>) -> Result<Change, Refusal> {
    let (attributes, flags) = (call.gprs.rdx, call.gprs.r8);
    check_words(&call.td.config, attributes, flags)?;
    let (gpa, level) = mapping_operand(call.gprs.rcx, Level::Size1G)?;
    let entry = match call.td.pages.walk(gpa, level) {
        Walk::Leaf(entry) if entry.level() == level => entry,
        Walk::Table => {
            let mismatch = Status::PAGE_SIZE_MISMATCH.with(level.number());
            return Err(Stop::from(mismatch).into());
        }
        // Nothing there, or a larger page: the host has to map or demote.
        Walk::Leaf(_) | Walk::Missing => {
            return Err(Stop::ept_violation(gpa, Eeq::AttrWr { level }).into());
        }
    };
    let mut rights = [None; 3];
    let mut collected = 0;
    for (slot, vm) in rights.iter_mut().zip(VmIndex::ALL) {
        let new = word_of(attributes, vm.number());
        if new & VALID == 0 {
            continue;
        }
        let current = entry.rights(vm);
        let Some(merged) = merge(current, new, word_of(flags, vm.number())) else {
            let rdx = put_word(collected, vm, attribute_word(current));
            return Err(Refusal {
                stop: Status::PAGE_ATTR_INVALID.into(),
                rdx,
            });
        };
        *slot = Some(merged);
        collected = put_word(collected, vm, attribute_word(merged));
    }
    for (rights, vm) in rights.into_iter().zip(VmIndex::ALL) {
        let is_new = rights.is_some_and(Rights::is_present) && !entry.rights(vm).is_present();
        if is_new && !call.td.has_l2_table(vm, gpa, level) {
            return Err(table_missing(&call.td.config, vm, gpa).into());
        }
    }
    Ok(Change { gpa, entry, rights })
}

/// The L2's secure EPT ends above the level of the page. Details: VM and level of the missing table.
fn table_missing(config: &TdConfig, vm: VmIndex, gpa: Gpa) -> Stop {
    let level = Level::Size2M;
    if config.l2_tables == L2Tables::OnDemand {
        return Stop::ept_violation(gpa, Eeq::L2Walk { vm, level });
    }
    let details = u32::from(vm.number()) << 16 | level.number();
    Stop::Refused(Status::L2_SEPT_WALK_FAILED.with(details))
}

/// Words of VM 0 and of VMs that the TD does not have must be 0; another word that is not 0 must be
/// valid.
fn check_words(config: &TdConfig, attributes: u64, flags: u64) -> Result<(), Stop> {
    for vm in 0..4 {
        let (attribute, flag) = (word_of(attributes, vm), word_of(flags, vm));
        let exists = config.l2_vm(u64::from(vm)).is_some();
        let is_attribute_bad = if exists {
            attribute != 0 && attribute & VALID == 0
        } else {
            attribute != 0
        };
        if is_attribute_bad {
            return Err(Stop::invalid(Operand::Rdx));
        }
        let is_flag_bad = if exists {
            flag & RESERVED != 0
        } else {
            flag != 0
        };
        if is_flag_bad {
            return Err(Stop::invalid(Operand::R8));
        }
    }
    Ok(())
}

/// The rights after the change; `None` if they are not a legal combination.
fn merge(current: Rights, new: u16, flags: u16) -> Option<Rights> {
    if new & (RESERVED | (SVE & flags)) != 0 {
        return None;
    }
    let mask = flags & 0x7f;
    let old = if current.is_present() {
        u16::from(current.bits())
    } else {
        0
    };
    let merged = (old & !mask) | (new & mask);
    // CAST: only the low seven bits are set.
    let rights = Rights::from_bits(merged as u8);
    if !rights.is_present() {
        return Some(Rights::default());
    }
    rights.is_legal().then_some(rights)
}

fn commit<M: Machine>(call: &mut Call<'_, '_, M>, change: &Change, flags: u64) {
    let Change { gpa, entry, rights } = *change;
    let level = entry.level();
    for (rights, vm) in rights.into_iter().zip(VmIndex::ALL) {
        if let Some(rights) = rights {
            let old = call.td.pages.l2_rights(vm, gpa).unwrap_or_default();
            call.td.pages.set_rights(gpa, level, vm, rights);
            let visible = call.td.pages.l2_rights(vm, gpa);
            let new = visible.unwrap_or_default();
            call.td.stale.reduce(vm, gpa, level, old, new);
            call.machine.l2_mapping_changed(vm, gpa, level, visible);
        }
        if word_of(flags, vm.number()) & INVEPT != 0 {
            call.flush_l2(vm, FlushScope::Ept);
        }
    }
}

#[cfg(test)]
mod tests {
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
            assert!(m.events.is_empty());
            assert_eq!(td.pages.l2_rights(VmIndex::Vm1, Gpa(PAGE)), None);
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
            assert_eq!(refuse(7, 0, vm1(0x100)), Status::invalid(Operand::R8));
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
            // An illegal combination is refused before the walk.
            let mut illegal = Gprs {
                rdx: 0x8002 << 32,
                ..grant
            };
            let status = complete(td, vcpu, m, 24, &mut illegal);
            assert_eq!(status, Status::PAGE_ATTR_INVALID.0);
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
}
