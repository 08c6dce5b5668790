// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.INVGLA (leaf 27): flushes linear addresses of an L2 VM on this logical processor.

use super::{Call, Done, Leaf, SUCCESS, Stop, must_be_zero, private_operand};
use crate::gpa::{Gpa, VmIndex};
use crate::machine::{FlushScope, Machine};
use crate::status::{Operand, Status};

/// RCX bit 0: RDX names a list, not a range.
const LIST: u64 = 1;
const VM_SHIFT: u32 = 52;
const VM_MASK: u64 = 3 << VM_SHIFT;
/// Entries in a list page.
const LIST_LEN: u64 = 512;

pub(crate) fn tdg_vp_invgla<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let rcx = call.gprs.rcx;
    must_be_zero(rcx & !(LIST | VM_MASK), Operand::Rcx)?;
    let vm = call.td.config.l2_vm((rcx & VM_MASK) >> VM_SHIFT);
    let vm = vm.ok_or(Stop::invalid(Operand::Rcx))?;
    if rcx & LIST != 0 {
        return list(call, vm);
    }
    let rdx = call.gprs.rdx;
    // checks passed
    flush(&mut call, vm, rdx)?;
    SUCCESS
}

fn list<M: Machine>(mut call: Call<'_, '_, M>, vm: VmIndex) -> Leaf {
    let rdx = call.gprs.rdx;
    must_be_zero(rdx & (7 << 9 | 3 << 62), Operand::Rdx)?;
    let (mut first, mut count) = (rdx & 0x1ff, rdx >> 52 & 0x3ff);
    if first + count > LIST_LEN {
        return Err(Stop::invalid(Operand::Rdx));
    }
    let page = private_operand(rdx & 0x000f_ffff_ffff_f000, 1, Operand::Rdx)?;
    call.walk_private(page)?;
    // checks passed
    let mut is_interrupted = false;
    while count > 0 && !is_interrupted {
        let mut entry = [0; 8];
        call.machine
            .read_memory(Gpa(page.0 + 8 * first), &mut entry);
        flush(&mut call, vm, u64::from_le_bytes(entry))?;
        // After the last entry of a page it wraps to 0.
        first = (first + 1) & 0x1ff;
        count -= 1;
        is_interrupted = call.machine.is_interrupted();
    }
    call.gprs.rdx = page.0 | first | count << 52;
    if is_interrupted {
        return Ok(Done::Interrupted);
    }
    SUCCESS
}

/// Flushes the pages of one entry (63:12 the first, 11:0 how many follow it) one by one, up to the
/// first one whose address is not canonical. The pages before that one have been flushed.
fn flush<M: Machine>(call: &mut Call<'_, '_, M>, vm: VmIndex, entry: u64) -> Result<(), Stop> {
    let first_gla = entry & !0xfff;
    let wanted = (entry & 0xfff) + 1;
    let is_canonical = |page: &u64| {
        let gla = first_gla.wrapping_add(page << 12);
        // CAST: arithmetic shifts extend bit 47 over the rest.
        ((gla << 16) as i64 >> 16) as u64 == gla
    };
    let pages = (0..wanted).take_while(is_canonical).count();
    if pages > 0 {
        // CAST: at most 4096.
        let pages = pages as u32;
        call.flush_l2(vm, FlushScope::Pages { first_gla, pages });
    }
    if pages as u64 == wanted {
        Ok(())
    } else {
        Err(Status::GLA_NOT_CANONICAL.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gprs::Gprs;
    use crate::testing::{Event, call, complete, with_td};

    const VM1: u64 = 1 << 52;

    fn pages(first_gla: u64, pages: u32) -> Event {
        Event::Flush(VmIndex::Vm1, FlushScope::Pages { first_gla, pages })
    }

    #[test]
    fn range_counts_the_pages_after_the_first() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: VM1,
                rdx: 0xffff_8000_0000_1002,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 27, &mut g), 0);
            assert_eq!(m.events, [pages(0xffff_8000_0000_1000, 3)]);
        });
    }

    #[test]
    fn list_stops_at_an_address_that_is_not_canonical() {
        with_td(|td, vcpu, m| {
            for (i, entry) in [0x5000_u64, 0x7001, 1 << 50].iter().enumerate() {
                m.memory[0x3010 + 8 * i..0x3018 + 8 * i].copy_from_slice(&entry.to_le_bytes());
            }
            let mut g = Gprs {
                rcx: VM1 | LIST,
                rdx: 0x3002 | 2 << 52,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 27, &mut g), 0);
            assert_eq!(g.rdx, 0x3004);
            assert_eq!(m.events, [pages(0x5000, 1), pages(0x7000, 2)]);
            g.rdx = 0x3003 | 2 << 52;
            assert_eq!(
                complete(td, vcpu, m, 27, &mut g),
                Status::GLA_NOT_CANONICAL.0
            );
            assert_eq!((g.rdx, m.events.len()), (0x3003 | 2 << 52, 3));
        });
    }

    #[test]
    fn pages_before_the_edge_of_the_canonical_addresses_are_flushed() {
        with_td(|td, vcpu, m| {
            const TOP: u64 = 0x7fff_ffff_e000;
            let mut g = Gprs {
                rcx: VM1,
                rdx: TOP | 2,
                ..Gprs::ZERO
            };
            let status = complete(td, vcpu, m, 27, &mut g);
            assert_eq!((status, g.rdx), (Status::GLA_NOT_CANONICAL.0, TOP | 2));
            assert_eq!(m.events, [pages(TOP, 2)]);
            // The highest page is followed by page 0, which is canonical too.
            g.rdx = 0xffff_ffff_ffff_f001;
            assert_eq!(complete(td, vcpu, m, 27, &mut g), 0);
            // In a list, what the entries before have flushed stays flushed, and RDX stays.
            m.put(0x3000, 0x5000);
            m.put(0x3008, TOP | 2);
            m.events.clear();
            (g.rcx, g.rdx) = (VM1 | LIST, 0x3000 | 2 << 52);
            let status = complete(td, vcpu, m, 27, &mut g);
            assert_eq!(
                (status, g.rdx),
                (Status::GLA_NOT_CANONICAL.0, 0x3000 | 2 << 52)
            );
            assert_eq!(m.events, [pages(0x5000, 1), pages(TOP, 2)]);
        });
    }

    #[test]
    fn interrupted_list_says_where_it_goes_on_and_flushes_each_entry_once() {
        with_td(|td, vcpu, m| {
            for entry in 0..3 {
                m.put(0x3ff0 - 8 + 8 * entry, 0x1000 * (entry + 1));
            }
            m.is_interrupted = true;
            let mut g = Gprs {
                rcx: VM1 | LIST,
                rdx: 0x31fd | 3 << 52,
                ..Gprs::ZERO
            };
            for want in [0x31fe | 2 << 52, 0x31ff | 1 << 52, 0x3000] {
                let outcome = call(td, vcpu, m, 27, &mut g);
                assert_eq!((outcome, g.rax, g.rdx), (Outcome::Interrupted, 27, want));
            }
            assert_eq!(complete(td, vcpu, m, 27, &mut g), 0);
            let want = [pages(0x1000, 1), pages(0x2000, 1), pages(0x3000, 1)];
            assert_eq!((g.rdx, &m.events[..]), (0x3000, &want[..]));
        });
    }

    #[test]
    fn malformed_operands_are_refused() {
        with_td(|td, vcpu, m| {
            for rcx in [0, 3 << 52, VM1 | 2, VM1 | 1 << 54] {
                let mut g = Gprs { rcx, ..Gprs::ZERO };
                assert_eq!(
                    complete(td, vcpu, m, 27, &mut g),
                    Status::invalid(Operand::Rcx).0
                );
            }
            for rdx in [0x3200, 1 << 62, 0x31ff | 2 << 52, 1 << 47] {
                let mut g = Gprs {
                    rcx: VM1 | LIST,
                    rdx,
                    ..Gprs::ZERO
                };
                assert_eq!(
                    complete(td, vcpu, m, 27, &mut g),
                    Status::invalid(Operand::Rdx).0
                );
            }
        });
    }
}
