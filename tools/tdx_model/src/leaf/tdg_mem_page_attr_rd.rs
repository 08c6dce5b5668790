// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MEM.PAGE.ATTR.RD (leaf 23): mapping and per-VM rights of a page.

use super::tdg_mem_page_attr_wr::{attribute_word, mapping_word, put_word};
use super::{Call, Leaf, SUCCESS, Stop};
use crate::gpa::{Gpa, Level, VmIndex};
use crate::machine::Machine;
use crate::page_state::{PageEntry, Walk};
use crate::status::Operand;
use crate::ve::Eeq;

pub(crate) fn tdg_mem_page_attr_rd<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let checked = check(&mut call);
    let (gpa, entry) = checked.inspect_err(|stop| {
        if let Stop::Refused(_) = stop {
            (call.gprs.rcx, call.gprs.rdx) = (0, 0);
        }
    })?;
    // checks passed
    let mut words = 0;
    for vm in VmIndex::ALL {
        let rights = entry.rights(vm);
        if rights.is_present() {
            words = put_word(words, vm, attribute_word(rights));
        }
    }
    call.gprs.rcx = mapping_word(gpa.align_down(entry.level()), entry);
    call.gprs.rdx = words;
    SUCCESS
}

/// The entry is locked before anything is known about it.
fn check<M: Machine>(call: &mut Call<'_, '_, M>) -> Result<(Gpa, PageEntry), Stop> {
    let gpa = Gpa::private(call.gprs.rcx).ok_or(Stop::invalid(Operand::Rcx))?;
    call.lock_page(gpa)?;
    match call.td.pages.walk(gpa, Level::Size4K) {
        Walk::Leaf(entry) => Ok((gpa, entry)),
        Walk::Table | Walk::Missing => Err(Stop::ept_violation(gpa, Eeq::None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::gpa::Rights;
    use crate::gprs::Gprs;
    use crate::status::Status;
    use crate::testing::{call, complete, with_td};

    #[test]
    fn any_address_in_the_page_reports_its_leaf() {
        with_td(|td, vcpu, m| {
            let gpa = Gpa(0x20_0000);
            assert!(td.pages.host_aug_pending(gpa, Level::Size2M));
            td.pages
                .set_rights(gpa, Level::Size2M, VmIndex::Vm2, Rights::R);
            let mut g = Gprs {
                rcx: 0x20_5123,
                rdx: 9,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, m, 23, &mut g), 0);
            assert_eq!((g.rcx, g.rdx), (1 << 62 | 0x20_0001, 0x8001 << 32));
        });
    }

    #[test]
    fn shared_address_is_refused_and_missing_page_is_the_hosts() {
        with_td(|td, vcpu, m| {
            let mut g = Gprs {
                rcx: 1 << 47,
                ..Gprs::ZERO
            };
            assert_eq!(
                complete(td, vcpu, m, 23, &mut g),
                Status::invalid(Operand::Rcx).0
            );
            g.rcx = 0x20_0000;
            assert!(matches!(call(td, vcpu, m, 23, &mut g), Outcome::TdExit(_)));
        });
    }
}
