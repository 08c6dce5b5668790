// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The state of a virtual processor, by names: for the report of a failed guest, and for `vtlctl regs`.

use raw_cpuid::cpuid;
use vtl::field::L2Field;
use vtl::run_page::SwitchedState;
use vtl::{Gpr, Vp, XsaveImage};

/// Fields of the L2 VMCS worth reading when a guest has failed.
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
    if let Ok(image) = vp.extended_state() {
        registers.extend(extended(&image, pkru_offset()));
    }
    registers
}

/// Returns true if [`set`] knows the register.
pub(crate) fn is_settable(name: &str) -> bool {
    let is_gpr = Gpr::ALL.iter().any(|(_, gpr)| *gpr == name);
    let is_field = FIELDS.iter().any(|(field, _)| *field == name);
    is_gpr || is_field || ["rip", "rflags", "cr2"].contains(&name)
}

/// Sets a register; nothing happens if it is not settable.
pub(crate) fn set(vp: &Vp, name: &str, value: u64) -> vtl::Result<()> {
    let page = vp.page();
    let gpr = Gpr::ALL.iter().find(|(_, gpr)| *gpr == name);
    let field = FIELDS.iter().find(|(field, _)| *field == name);
    match (name, gpr, field) {
        ("rip", ..) => page.set_rip(value),
        ("rflags", ..) => page.set_rflags(value),
        ("cr2", ..) => page.set_switched(SwitchedState::Cr2, value),
        (_, Some((gpr, _)), _) => page.set_gpr(*gpr, value),
        (_, None, Some((_, field))) => vp.write(*field, value)?,
        (_, None, None) => {}
    }
    Ok(())
}

/// Where the standard format has PKRU: EBX of CPUID leaf 0xD.
fn pkru_offset() -> usize {
    // CAST: widening.
    cpuid!(0xd, PKRU).ebx as usize
}

/// Number of the component.
const PKRU: u32 = 9;

/// What of the extended state fits a table.
fn extended(image: &XsaveImage, pkru_offset: usize) -> Vec<(&'static str, u64)> {
    let mut registers = vec![("mxcsr", image.mxcsr().into()), ("xstate", image.in_use())];
    if (image.xfeatures() >> PKRU) & 1 != 0 {
        let pkru = image.word(pkru_offset).unwrap_or(0);
        registers.push(("pkru", pkru & 0xffff_ffff));
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
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn protection_keys_are_shown_where_there_are_any() -> anyhow::Result<()> {
        let mut bytes = vec![0; 640];
        bytes[24..28].copy_from_slice(&[0x80, 0x1f, 0, 0]);
        bytes[512..514].copy_from_slice(&[1, 2]);
        bytes[600..608].copy_from_slice(&[4, 3, 2, 1, 9, 9, 9, 9]);
        let mut names = Vec::new();
        for xfeatures in [0x203, 3] {
            let image = XsaveImage::from_bytes(xfeatures, &bytes);
            names.push(extended(&image.context("no image")?, 600));
        }
        let expected = [("mxcsr", 0x1f80), ("xstate", 0x201), ("pkru", 0x0102_0304)];
        assert_eq!(names, [&expected[..], &expected[..2]]);
        Ok(())
    }

    #[test]
    fn tables_have_four_columns() {
        let table = super::table(&[("rax", 1), ("rbx", 2), ("rcx", 3), ("rdx", 4), ("rip", 5)]);
        assert_eq!(table.lines().count(), 2);
        assert!(table.contains("rdx 0000000000000004"), "{table}");
    }
}
