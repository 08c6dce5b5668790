// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MEM.PAGE.ACCEPT (leaf 6): accepts a pending page, which is zeroed.

use super::{Call, Done, Leaf, SUCCESS, Stop};
use crate::gpa::{Gpa, Level, VmIndex};
use crate::machine::{L1Mapping, Machine};
use crate::page_state::{PageState, Walk};
use crate::status::{Operand, Status};
use crate::ve::Eeq;

pub(crate) fn tdg_mem_page_accept<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let (gpa, level) = mapping_operand(call.gprs.rcx, Level::Size2M)?;
    let not_there = Stop::ept_violation(gpa, Eeq::Accept { level });
    let walk = call.td.pages.walk(gpa, level);
    // A walk that ends above the level asked for takes no lock.
    if !matches!(walk, Walk::Leaf(entry) if entry.level() > level) {
        call.lock_page(gpa)?;
    }
    let entry = match walk {
        Walk::Leaf(entry) => entry,
        Walk::Table => return Err(Status::PAGE_SIZE_MISMATCH.with(level.number()).into()),
        Walk::Missing => return Err(not_there),
    };
    if entry.state() == PageState::Mapped {
        return Err(Status::PAGE_ALREADY_ACCEPTED
            .with(entry.level().number())
            .into());
    }
    if entry.level() != level {
        return Err(not_there);
    }
    // checks passed
    // A large page is cleared piece by piece; what is done stays done.
    let end = gpa.0 + level.len_bytes();
    let first = call.td.pages.next_to_clear(gpa, level);
    let mut page = first.map_or(end, |first| first.0);
    while page < end {
        call.machine
            .zero_memory(Gpa(page), Level::Size4K.len_bytes());
        call.td.pages.set_cleared(Gpa(page));
        page += Level::Size4K.len_bytes();
        if page < end && call.machine.is_interrupted() {
            return Ok(Done::Interrupted);
        }
    }
    call.td.pages.accept(gpa, level);
    call.machine
        .l1_mapping_changed(gpa, level, L1Mapping::Private);
    for vm in VmIndex::ALL {
        let rights = entry.rights(vm);
        if rights.is_present() {
            call.machine
                .l2_mapping_changed(vm, gpa, level, Some(rights));
        }
    }
    SUCCESS
}

/// Decodes a GPA mapping word in RCX: 2:0 level, 51:12 address aligned to it, the rest 0.
pub(crate) fn mapping_operand(word: u64, largest: Level) -> Result<(Gpa, Level), Stop> {
    const REFUSED: Stop = Stop::invalid(Operand::Rcx);
    let level = Level::from_number(word & 7)
        .filter(|l| *l <= largest)
        .ok_or(REFUSED)?;
    let gpa = Gpa::private_aligned(word & !7, level.len_bytes()).ok_or(REFUSED)?;
    Ok((gpa, level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gpa::Rights;
    use crate::gprs::Gprs;
    use crate::testing::{Event, call, complete, with_td};
    use crate::ve::TdExit;

    const TWO_MIB: u64 = 0x20_0000;

    #[test]
    fn pending_page_is_zeroed_mapped_and_its_aliases_unblocked() {
        with_td(|td, vcpu, m| {
            let gpa = Gpa(TWO_MIB);
            m.memory[0x20_0000..0x20_1000].fill(0xff);
            assert!(td.pages.host_aug_pending(gpa, Level::Size4K));
            td.pages
                .set_rights(gpa, Level::Size4K, VmIndex::Vm1, Rights::RWX);
            let mut g = Gprs {
                rcx: TWO_MIB,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 6, &mut g), 0);
            assert!(m.memory[0x20_0000..0x20_1000].iter().all(|b| *b == 0));
            let want = [
                Event::L1(gpa, Level::Size4K, L1Mapping::Private),
                Event::L2(VmIndex::Vm1, gpa, Level::Size4K, Some(Rights::RWX)),
            ];
            assert_eq!(m.events, want);
            let again = complete(
                td,
                vcpu,
                m,
                6,
                &mut Gprs {
                    rcx: TWO_MIB,
                    ..Gprs::ZERO
                },
            );
            assert_eq!(again, Status::PAGE_ALREADY_ACCEPTED.0);
            assert_eq!(m.events.len(), 2);
        });
    }

    #[test]
    fn interrupted_large_page_goes_on_where_it_was_and_is_mapped_at_the_end() {
        with_td(|td, vcpu, m| {
            let start = Gpa(TWO_MIB);
            assert!(td.pages.host_aug_pending(start, Level::Size2M));
            m.memory[0x20_0000..0x40_0000].fill(0xff);
            m.is_interrupted = true;
            let mut g = Gprs {
                rcx: TWO_MIB | 1,
                ..Gprs::ZERO
            };
            for cleared in 1..=511 {
                assert_eq!(call(td, vcpu, m, 6, &mut g), Outcome::Interrupted);
                assert_eq!((g.rax, g.rcx), (6, TWO_MIB | 1));
                let rest = 0x20_0000 + 0x1000 * cleared;
                assert_eq!((m.memory[rest - 1], m.memory[rest]), (0, 0xff));
                // What has been cleared is not cleared again.
                m.memory[rest - 1] = 1;
            }
            assert_eq!(td.pages.state(start), PageState::Pending);
            assert!(m.events.is_empty());
            assert_eq!(complete(td, vcpu, m, 6, &mut g), 0);
            let mapped = [Event::L1(start, Level::Size2M, L1Mapping::Private)];
            assert_eq!(m.events, mapped);
            assert_eq!(m.memory[0x20_0fff], 1);
        });
    }

    #[test]
    fn progress_is_lost_when_the_host_demotes_the_page() {
        with_td(|td, vcpu, m| {
            assert!(td.pages.host_aug_pending(Gpa(TWO_MIB), Level::Size2M));
            m.is_interrupted = true;
            let mut g = Gprs {
                rcx: TWO_MIB | 1,
                ..Gprs::ZERO
            };
            assert_eq!(call(td, vcpu, m, 6, &mut g), Outcome::Interrupted);
            td.host_demote_page(Gpa(TWO_MIB), m);
            m.memory[0x20_0000] = 1;
            g.rcx = TWO_MIB;
            assert_eq!(complete(td, vcpu, m, 6, &mut g), 0);
            assert_eq!(m.memory[0x20_0000], 0);
        });
    }

    #[test]
    fn large_page_over_small_ones_is_a_size_mismatch() {
        with_td(|td, vcpu, m| {
            assert!(
                td.pages
                    .host_aug_pending(Gpa(TWO_MIB + 0x3000), Level::Size4K)
            );
            let mut g = Gprs {
                rcx: TWO_MIB | 1,
                ..Gprs::ZERO
            };
            assert_eq!(
                complete(td, vcpu, m, 6, &mut g),
                Status::PAGE_SIZE_MISMATCH.with(1).0
            );
        });
    }

    #[test]
    fn small_accept_inside_a_large_page_needs_the_host_until_it_is_mapped() {
        with_td(|td, vcpu, m| {
            assert!(td.pages.host_aug_pending(Gpa(TWO_MIB), Level::Size2M));
            let rcx = TWO_MIB + 0x5000;
            let exit = TdExit::EptViolation {
                gpa: Gpa(rcx),
                vm: None,
                qualification: 0,
                eeq: Eeq::Accept {
                    level: Level::Size4K,
                },
            };
            let small = call(td, vcpu, m, 6, &mut Gprs { rcx, ..Gprs::ZERO });
            assert_eq!(small, Outcome::TdExit(exit));
            let large = Gprs {
                rcx: TWO_MIB | 1,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 6, &mut { large }), 0);
            let small = complete(td, vcpu, m, 6, &mut Gprs { rcx, ..Gprs::ZERO });
            assert_eq!(small, Status::PAGE_ALREADY_ACCEPTED.with(1).0);
        });
    }

    #[test]
    fn malformed_addresses_are_refused() {
        with_td(|td, vcpu, m| {
            for rcx in [
                2,
                TWO_MIB | 2,
                0x1001,
                0x1008,
                1 << 47,
                1 << 52,
                TWO_MIB | 0x1001,
            ] {
                let mut g = Gprs { rcx, ..Gprs::ZERO };
                let status = complete(td, vcpu, m, 6, &mut g);
                assert_eq!(status, Status::invalid(Operand::Rcx).0, "{rcx:#x}");
            }
            let missing = call(
                td,
                vcpu,
                m,
                6,
                &mut Gprs {
                    rcx: TWO_MIB,
                    ..Gprs::ZERO
                },
            );
            assert!(matches!(missing, Outcome::TdExit(_)));
        });
    }
}
