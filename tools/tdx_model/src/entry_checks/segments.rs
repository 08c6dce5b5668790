// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a processor checks of segment registers at VM entry [SDM3 26.3.1.2].

use super::{CR0_PE, IA32E_MODE, INVALID, RFLAGS_VM, Refusal, has, is_canonical, require};
use crate::Field;
use crate::vmcs::Vmcs;

/// One segment register.
#[derive(Clone, Copy)]
struct Segment {
    selector: u64,
    base: u64,
    limit: u64,
    access: u64,
}

impl Segment {
    fn read(v: &Vmcs, fields: [Field; 4]) -> Self {
        let [selector, base, limit, access] = fields.map(|f| v.get(f));
        Self {
            selector,
            base,
            limit,
            access,
        }
    }

    const fn kind(self) -> u64 {
        self.access & 0xf
    }

    const fn dpl(self) -> u64 {
        self.access >> 5 & 3
    }

    const fn is_usable(self) -> bool {
        self.access & 1 << 16 == 0
    }

    /// Present, of the given S bit, reserved bits clear, granularity in line with the limit.
    const fn is_well_formed(self, is_code_or_data: bool) -> bool {
        let is_s = self.access >> 4 & 1 != 0;
        let is_present = self.access >> 7 & 1 != 0;
        let is_granular = self.access >> 15 & 1 != 0;
        let is_limit_sane = if is_granular {
            self.limit & 0xfff == 0xfff
        } else {
            self.limit >> 20 == 0
        };
        is_s == is_code_or_data && is_present && self.access & 0xfffe_0f00 == 0 && is_limit_sane
    }

    const fn is_base_low(self) -> bool {
        self.base >> 32 == 0
    }
}

/// The fields of a segment register.
macro_rules! fields {
    ($selector:ident, $base:ident, $limit:ident, $access:ident) => {
        [
            Field::$selector,
            Field::$base,
            Field::$limit,
            Field::$access,
        ]
    };
}

const ES: [Field; 4] = fields!(GuestEsSelector, GuestEsBase, GuestEsLimit, GuestEsAccess);
const CS: [Field; 4] = fields!(GuestCsSelector, GuestCsBase, GuestCsLimit, GuestCsAccess);
const SS: [Field; 4] = fields!(GuestSsSelector, GuestSsBase, GuestSsLimit, GuestSsAccess);
const DS: [Field; 4] = fields!(GuestDsSelector, GuestDsBase, GuestDsLimit, GuestDsAccess);
const FS: [Field; 4] = fields!(GuestFsSelector, GuestFsBase, GuestFsLimit, GuestFsAccess);
const GS: [Field; 4] = fields!(GuestGsSelector, GuestGsBase, GuestGsLimit, GuestGsAccess);
const TR: [Field; 4] = fields!(GuestTrSelector, GuestTrBase, GuestTrLimit, GuestTrAccess);
const LDTR: [Field; 4] = fields!(
    GuestLdtrSelector,
    GuestLdtrBase,
    GuestLdtrLimit,
    GuestLdtrAccess
);
/// CS and the privilege level that it has to agree with.
const CS_AND_SS: [Field; 6] = [
    Field::GuestCsSelector,
    Field::GuestCsBase,
    Field::GuestCsLimit,
    Field::GuestCsAccess,
    Field::GuestSsAccess,
    Field::EntryControls,
];

/// The checks of all segment registers.
pub(super) fn check(v: &Vmcs) -> Result<(), Refusal> {
    const NOT_CANONICAL: &str = "a base that is not canonical";
    const ABOVE_4G: &str = "a base above 4 GiB";
    let read = |fields| Segment::read(v, fields);
    for fields in [&FS, &GS, &TR] {
        let is_base = is_canonical(v, read(*fields).base);
        require(is_base, INVALID, NOT_CANONICAL, fields)?;
    }
    let ldtr = read(LDTR);
    let is_base = !ldtr.is_usable() || is_canonical(v, ldtr.base);
    require(is_base, INVALID, NOT_CANONICAL, &LDTR)?;
    if has(v, Field::GuestRflags, RFLAGS_VM) {
        for fields in [&ES, &CS, &SS, &DS, &FS, &GS] {
            let s = read(*fields);
            let is_valid = s.base == s.selector << 4 && s.limit == 0xffff && s.access == 0xf3;
            require(is_valid, INVALID, "a segment of virtual-8086 mode", fields)?;
        }
    } else {
        let (cs, ss) = (read(CS), read(SS));
        require(cs.is_base_low(), INVALID, ABOVE_4G, &CS)?;
        let is_code = is_code_segment_valid(v, cs, ss);
        require(is_code, INVALID, "a code segment", &CS_AND_SS)?;
        let is_stack = is_stack_segment_valid(v, cs, ss);
        require(is_stack, INVALID, "a stack segment", &SS)?;
        for fields in [&ES, &DS] {
            let s = read(*fields);
            require(!s.is_usable() || s.is_base_low(), INVALID, ABOVE_4G, fields)?;
        }
        for fields in [&ES, &DS, &FS, &GS] {
            let is_data = is_data_segment_valid(read(*fields));
            require(is_data, INVALID, "a data segment", fields)?;
        }
    }
    let is_task = is_task_register_valid(v, read(TR));
    require(is_task, INVALID, "the busy task-state segment", &TR)?;
    let is_ldtr_valid = ldtr.kind() == 2 && ldtr.is_well_formed(false) && ldtr.selector & 4 == 0;
    let is_table = !ldtr.is_usable() || is_ldtr_valid;
    require(is_table, INVALID, "the local descriptor table", &LDTR)
}

fn is_code_segment_valid(v: &Vmcs, cs: Segment, ss: Segment) -> bool {
    let is_dpl_valid = match cs.kind() {
        // Unrestricted guest allows a writable data segment.
        3 => cs.dpl() == 0,
        9 | 11 => cs.dpl() == ss.dpl(),
        13 | 15 => cs.dpl() <= ss.dpl(),
        _ => false,
    };
    let is_long = cs.access >> 13 & 1 != 0;
    let is_default_big = cs.access >> 14 & 1 != 0;
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_width_valid = !(is_ia32e && is_long && is_default_big);
    cs.is_usable() && cs.is_well_formed(true) && is_dpl_valid && is_width_valid
}

fn is_stack_segment_valid(v: &Vmcs, cs: Segment, ss: Segment) -> bool {
    let needs_dpl_0 = cs.kind() == 3 || !has(v, Field::GuestCr0, CR0_PE);
    let is_dpl_valid = !needs_dpl_0 || ss.dpl() == 0;
    let is_shape_valid = matches!(ss.kind(), 3 | 7) && ss.is_well_formed(true) && ss.is_base_low();
    is_dpl_valid && (!ss.is_usable() || is_shape_valid)
}

/// Accessed, and readable if it is code.
fn is_data_segment_valid(s: Segment) -> bool {
    let is_kind_valid = s.kind() & 1 != 0 && (s.kind() & 8 == 0 || s.kind() & 2 != 0);
    !s.is_usable() || (is_kind_valid && s.is_well_formed(true))
}

fn is_task_register_valid(v: &Vmcs, tr: Segment) -> bool {
    let is_ia32e = has(v, Field::EntryControls, IA32E_MODE);
    let is_busy = tr.kind() == 11 || (!is_ia32e && tr.kind() == 3);
    is_busy && tr.is_usable() && tr.is_well_formed(false) && tr.selector & 4 == 0
}
