// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The state of a virtual processor, for the report of a failed guest.

use vtl::field::L2Field;
use vtl::run_page::SwitchedState;
use vtl::{Gpr, Vp};

/// Fields of the L2 VMCS worth reading when a guest fails.
const FIELDS: [(&str, L2Field); 14] = [
    ("cr0", L2Field::GUEST_CR0),
    ("cr3", L2Field::GUEST_CR3),
    ("cr4", L2Field::GUEST_CR4),
    ("efer", L2Field::GUEST_IA32_EFER),
    ("cs.sel", L2Field::GUEST_CS_SELECTOR),
    ("cs.base", L2Field::GUEST_CS_BASE),
    ("cs.ar", L2Field::GUEST_CS_AR),
    ("ss.sel", L2Field::GUEST_SS_SELECTOR),
    ("ss.base", L2Field::GUEST_SS_BASE),
    ("ss.ar", L2Field::GUEST_SS_AR),
    ("gdtr", L2Field::GUEST_GDTR_BASE),
    ("idtr", L2Field::GUEST_IDTR_BASE),
    ("entry", L2Field::ENTRY_CONTROLS),
    ("intr", L2Field::GUEST_INTERRUPTIBILITY),
];

/// Every register by name; a field that cannot be read is left out.
pub(crate) fn registers(vp: &Vp) -> Vec<(&'static str, u64)> {
    let page = vp.page();
    let mut registers = vec![("rip", page.rip()), ("rflags", page.rflags())];
    registers.extend(Gpr::ALL.map(|(gpr, name)| (name, page.gpr(gpr))));
    registers.push(("cr2", page.switched(SwitchedState::Cr2)));
    for (name, field) in FIELDS {
        if let Ok(value) = vp.read(field) {
            registers.push((name, value));
        }
    }
    registers
}

/// Four registers to a line.
pub(crate) fn table(registers: &[(&'static str, u64)]) -> String {
    let lines = registers.chunks(4).map(|line| {
        let cells: Vec<_> = line
            .iter()
            .map(|(name, value)| format!("{name:>8} {value:016x}"))
            .collect();
        cells.join("")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn tables_have_four_columns() {
        let table = super::table(&[("rax", 1), ("rbx", 2), ("rcx", 3), ("rdx", 4), ("rip", 5)]);
        assert_eq!(table.lines().count(), 2);
        assert!(table.contains("rdx 0000000000000004"), "{table}");
    }
}
