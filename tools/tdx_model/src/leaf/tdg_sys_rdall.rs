// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.SYS.RDALL (leaf 12): metadata of the module as a list, as much as fits into a page.

use super::{Call, Done, Leaf, Stop, private_operand};
use crate::gpa::Gpa;
use crate::machine::Machine;
use crate::metadata::{list, sys::SysTable};
use crate::status::Operand;

const PAGE_BYTES: u64 = 4096;

pub(crate) fn tdg_sys_rdall<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let page = private_operand(call.gprs.rdx, PAGE_BYTES, Operand::Rdx);
    let page = page.and_then(|page| call.walk_private(page).map(|()| page));
    let page = page.inspect_err(|stop| {
        // An exit to the host repeats the call, so its operands have to stay.
        if let Stop::Refused(_) = stop {
            call.gprs.r8 = list::END;
        }
    })?;
    let first = call.gprs.r8;
    // checks passed: an unknown first field does not change the page
    let (status, next_id) = list::dump(
        &SysTable(call.td.config.feature_level),
        first,
        PAGE_BYTES,
        |offset, word| {
            let at = Gpa(page.0 + offset);
            call.machine.write_memory(at, &word.to_le_bytes());
        },
    );
    call.gprs.r8 = next_id;
    Ok(Done::Status(status))
}

#[cfg(test)]
mod tests {
    use crate::dispatch::Outcome;
    use crate::gprs::Gprs;
    use crate::status::{Operand, Status};
    use crate::testing::{call, complete, with_td};

    const LIST: u64 = 0x8000;
    const ALL: u64 = u64::MAX;

    #[test]
    fn null_id_lists_the_whole_context() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rdx: LIST,
                r8: ALL,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 12, &mut g), 0);
            assert_eq!((g.rdx, g.r8), (LIST, ALL));
            // Header: 8 bytes, then sequences of an id and its values.
            let header = m.get(LIST);
            let (len_bytes, sequences) = (header & 0xffff, header >> 16);
            assert_eq!((len_bytes, sequences), (8 + 8 * 8 + 12 * 8, 8));
            // VENDOR_ID alone, then MINOR_ and MAJOR_VERSION in one sequence.
            assert_eq!(m.get(LIST + 8), 0x0800_0002_0000_0000);
            assert_eq!(m.get(LIST + 16), 0x8086);
            assert_eq!(m.get(LIST + 24), 0x0800_0001_0000_0003 | 1 << 38);
            assert_eq!((m.get(LIST + 32), m.get(LIST + 40)), (5, 1));
            assert_eq!(m.get(LIST + len_bytes), 0);
        });
    }

    #[test]
    fn list_starts_where_it_is_told_to() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rdx: LIST,
                r8: 0xa200_0001_0000_0000,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 12, &mut g), 0);
            assert_eq!(m.get(LIST), 1 << 16 | 24);
            assert_eq!((m.get(LIST + 16), g.r8), (0x807f, ALL));
        });
    }

    #[test]
    fn unknown_field_and_wrong_size_write_nothing() {
        with_td(|td, vcpu, m| {
            m.put(LIST, 0x77);
            for r8 in [0x0b00_0003_0000_0000, 0x0800_0003_0000_0000] {
                let mut g = Gprs {
                    rdx: LIST,
                    r8,
                    ..Gprs::ZERO
                };
                let status = complete(td, vcpu, m, 12, &mut g);
                assert_eq!(status, Status::METADATA_FIELD_ID_INCORRECT.0);
                assert_eq!((g.r8, m.get(LIST)), (ALL, 0x77));
            }
        });
    }

    #[test]
    fn page_must_be_aligned_private_and_there() {
        with_td(|td, vcpu, m| {
            for rdx in [LIST + 8, 1 << 47, 1 << 52] {
                let mut g = Gprs {
                    rdx,
                    r8: 3,
                    ..Gprs::ZERO
                };
                let status = complete(td, vcpu, m, 12, &mut g);
                assert_eq!(status, Status::invalid(Operand::Rdx).0);
                assert_eq!(g.r8, ALL);
            }
            let mut missing = Gprs {
                rdx: 0x20_0000,
                r8: 3,
                ..Gprs::ZERO
            };
            assert!(matches!(
                call(td, vcpu, m, 12, &mut missing),
                Outcome::TdExit(_)
            ));
            assert_eq!(missing.r8, 3);
        });
    }
}
