// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.INVGLA (leaf 27): flushes linear addresses of an L2 VM on this logical processor.

use super::{Call, Leaf, SUCCESS, Stop, must_be_zero};
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
    let range = decode_range(call.gprs.rdx)?;
    // checks passed
    call.flush_l2(vm, range);
    SUCCESS
}

fn list<M: Machine>(mut call: Call<'_, '_, M>, vm: VmIndex) -> Leaf {
    const REFUSED: Stop = Stop::invalid(Operand::Rdx);
    let rdx = call.gprs.rdx;
    must_be_zero(rdx & (7 << 9 | 3 << 62), Operand::Rdx)?;
    let first = rdx & 0x1ff;
    let count = rdx >> 52 & 0x3ff;
    let page = Gpa::private(rdx & 0x000f_ffff_ffff_f000).ok_or(REFUSED)?;
    if first + count > LIST_LEN {
        return Err(REFUSED);
    }
    call.walk_private(page)?;
    // checks passed
    for index in first..first + count {
        let mut entry = [0; 8];
        call.machine
            .read_memory(Gpa(page.0 + 8 * index), &mut entry);
        let range = decode_range(u64::from_le_bytes(entry))?;
        call.flush_l2(vm, range);
    }
    // The next entry would be beyond nine bits after the last one of a page: it wraps to 0.
    call.gprs.rdx = page.0 | ((first + count) & 0x1ff);
    SUCCESS
}

/// Decodes 63:12 first page, 11:0 how many follow it.
fn decode_range(entry: u64) -> Result<FlushScope, Stop> {
    let first_gla = entry & !0xfff;
    // CAST: arithmetic shifts extend bit 47 over the rest.
    let extended = ((entry << 16) as i64 >> 16) as u64;
    if extended != entry {
        return Err(Status::GLA_NOT_CANONICAL.into());
    }
    // CAST: at most 0xfff.
    Ok(FlushScope::Pages {
        first_gla,
        pages: (entry & 0xfff) as u32 + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gprs::Gprs;
    use crate::testing::{Event, complete, with_td};

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
