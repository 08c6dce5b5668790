// SPDX-License-Identifier: GPL-2.0
//! Tests of the TDCALL allow-list: one otherwise good request per refusal.

use super::*;

const LOWER: u64 = 0x8000_0000;
/// Two ranges with a gap of a page.
const GAP: u64 = 0xffff_f000;

fn memory() -> LowerMemory {
    LowerMemory::parse(b"1G,0xbffff000,4G,2M", 1 << 47).unwrap()
}

/// The scope of a request that is allowed without a page of the caller; memory of lower VTLs counts
/// as the TD's.
fn ask(rax: u64, rcx: u64, rdx: u64, r8: u64) -> Result<Scope, Status> {
    let permit = ask_with_own(rax, rcx, rdx, r8)?;
    assert_eq!(permit.own_page, None);
    Ok(match permit.scope {
        Scope::Memory(_) => Scope::Td,
        other => other,
    })
}

fn ask_with_own(rax: u64, rcx: u64, rdx: u64, r8: u64) -> Result<Permit, Status> {
    let request = Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9: u64::MAX,
        ..Registers::default()
    };
    decide(&request, &memory()).map(|allowed| allowed.permit)
}

fn own(scope: Scope, gpa: u64, operand: Operand) -> Result<Permit, Status> {
    Ok(Permit {
        own_page: Some(OwnPage { gpa, operand }),
        ..permit(scope)
    })
}

fn refused<T>(operand: Operand) -> Result<T, Status> {
    Err(Status::operand_invalid(operand))
}

#[test]
fn every_line_fits_the_answer_of_the_query() {
    use crate::pure::uapi::policy::{NAME, REASON, SIZE};
    for entry in &POLICY {
        assert!(entry.name.len() < REASON - NAME, "{}", entry.name);
        assert!(entry.reason.len() < SIZE - REASON, "{}", entry.reason);
        assert!(entry.name.is_ascii() && entry.reason.is_ascii());
    }
}

#[test]
fn only_listed_leaves_pass() {
    let listed = [6, 7, 8, 9, 10, 11, 23, 24, 27, 30];
    for leaf in (0..64).filter(|leaf| !listed.contains(leaf)) {
        assert_eq!(ask(leaf, LOWER, 0, 0), refused(Operand::Rax), "leaf {leaf}");
    }
    for leaf in listed
        .map(|leaf| leaf | (1 << 16))
        .into_iter()
        .filter(|leaf| leaf & 0xff != 7)
    {
        assert_eq!(
            ask(leaf, LOWER, 0, 0),
            refused(Operand::Rax),
            "leaf {leaf:#x}"
        );
    }
    assert_eq!(ask(7 | (1 << 16), 0, 0, 0), Ok(Scope::Td));
    assert_eq!(ask(7 | (1 << 32), 0, 0, 0), refused(Operand::Rax));
}

#[test]
fn pages_outside_the_list_are_out_of_reach() {
    for leaf in [6, 23, 24] {
        assert_eq!(ask(leaf, LOWER, 0, 0), Ok(Scope::Td), "leaf {leaf}");
        assert_eq!(
            ask(leaf, 0x1000, 0, 0),
            refused(Operand::Rcx),
            "leaf {leaf}"
        );
        assert_eq!(ask(leaf, GAP, 0, 0), refused(Operand::Rcx), "leaf {leaf}");
        assert_eq!(ask(leaf, GAP + 0x1000, 0, 0), Ok(Scope::Td), "leaf {leaf}");
    }
    // A large page would extend into the gap.
    for leaf in [6, 24] {
        let large = (GAP & !0x1f_ffff) | 1;
        assert_eq!(ask(leaf, large, 0, 0), refused(Operand::Rcx), "leaf {leaf}");
        assert_eq!(ask(leaf, large - (2 << 20), 0, 0), Ok(Scope::Td));
    }
    assert_eq!(
        decide(
            &Registers {
                rax: 23,
                rcx: LOWER,
                ..Registers::default()
            },
            &LowerMemory::EMPTY
        )
        .map(|allowed| allowed.permit),
        refused(Operand::Rcx)
    );
    assert_eq!(ask(23, LOWER + 0x123, 0, 0), Ok(Scope::Td));
    assert_eq!(ask(23, u64::MAX, 0, 0), refused(Operand::Rcx));
    assert_eq!(ask(23, LOWER | (1 << 52), 0, 0), refused(Operand::Rcx));
}

#[test]
fn mapping_words_are_checked() {
    assert_eq!(ask(6, LOWER | 1, 0, 0), Ok(Scope::Td));
    assert_eq!(ask(6, LOWER | 2, 0, 0), refused(Operand::Rcx));
    assert_eq!(ask(24, LOWER | 2, 0, 0), Ok(Scope::Td));
    assert_eq!(ask(24, LOWER | 3, 0, 0), refused(Operand::Rcx));
    assert_eq!(ask(24, LOWER | 8, 0, 0), refused(Operand::Rcx));
    assert_eq!(ask(24, (LOWER + 0x1000) | 1, 0, 0), refused(Operand::Rcx));
    assert_eq!(ask(24, LOWER | (1 << 52), 0, 0), refused(Operand::Rcx));
}

#[test]
fn a_release_says_what_it_takes_away() {
    let release = |rcx| ask(30, rcx, 0, 0);
    let withdraw = |len_bytes| Scope::Withdraw(memory().range(LOWER, len_bytes).unwrap());
    assert_eq!(release(LOWER), Ok(withdraw(0x1000)));
    assert_eq!(release(LOWER | 1), Ok(withdraw(0x20_0000)));
    for word in [
        0x1000,
        LOWER | 2,
        LOWER | 8,
        (LOWER + 0x1000) | 1,
        LOWER | (1 << 52),
    ] {
        assert_eq!(release(word), refused(Operand::Rcx), "{word:#x}");
    }
}

#[test]
fn a_list_of_linear_addresses_is_not_other_system_ram() {
    let vm1 = 1 << 52;
    assert_eq!(ask(27, vm1, 0x1000, 0), Ok(Scope::Vp), "one address");
    assert_eq!(ask(27, vm1 | 1, LOWER | (3 << 52), 0), Ok(Scope::Vp));
    let list = |rdx| ask_with_own(27, vm1 | 1, rdx, 0);
    assert_eq!(
        list(0x1000 | (3 << 52) | 7),
        own(Scope::Vp, 0x1000, Operand::Rdx)
    );
    let last = 0x000f_ffff_ffff_f000;
    assert_eq!(list(u64::MAX), own(Scope::Vp, last, Operand::Rdx));
}

#[test]
fn the_table_has_each_leaf_once_and_a_reason() {
    for entry in &POLICY {
        let same = POLICY.iter().filter(|other| other.leaf == entry.leaf);
        assert_eq!(same.count(), 1, "{}", entry.name);
        assert!(!entry.reason.is_empty() && !entry.reason.contains('\n'));
    }
}

#[test]
fn fields_of_the_l2_vms_pass() {
    for class in [36, 37, 38, 44, 45, 46, 52, 53, 54] {
        assert_eq!(
            ask(9, 0, (class << 56) | 0x6800, 0),
            Ok(Scope::Vp),
            "class {class}"
        );
        // A VMCS encoding, or a word of an MSR bitmap.
        let code = if class % 8 == 4 { 0x6800 } else { 5 };
        assert_eq!(
            ask(10, 0, (class << 56) | code, u64::MAX),
            Ok(Scope::Vp),
            "class {class}"
        );
    }
    for class in [0, 1, 2, 16, 17, 18, 19, 33, 34, 35, 39, 63] {
        assert_eq!(
            ask(9, 0, class << 56, 0),
            refused(Operand::Rdx),
            "class {class}"
        );
        assert_eq!(
            ask(10, 0, class << 56, 0),
            refused(Operand::Rdx),
            "class {class}"
        );
    }
    assert_eq!(ask(9, 0, u64::MAX, 0), refused(Operand::Rdx));
    assert_eq!(ask(10, 0, (36 << 56) | (1 << 38), 0), refused(Operand::Rdx));
}

#[test]
fn only_switched_msrs_are_passed_through() {
    let clear = |class: u64, word: u64, bit: u64| {
        let request = Registers {
            rax: 10,
            rdx: (class << 56) | word,
            r9: 1 << bit,
            ..Registers::default()
        };
        decide(&request, &memory()).map(|allowed| allowed.scope())
    };
    for class in [37, 38, 45, 46, 53, 54] {
        // LSTAR for reading and for writing, and the first performance counter.
        assert_eq!(clear(class, 130, 2), Ok(Scope::Vp));
        assert_eq!(clear(class, 386, 2), Ok(Scope::Vp));
        assert_eq!(clear(class, 3, 1), refused(Operand::R8));
        assert_eq!(clear(class, 512, 1), refused(Operand::R8));
        assert_eq!(ask(10, 0, (class << 56) | 3, u64::MAX), Ok(Scope::Vp));
    }
    // Fields that would use the state that is not switched.
    for class in [36, 44, 52] {
        for code in [0x2814, 0x2816] {
            assert_eq!(clear(class, code, 0), Ok(Scope::Vp), "written as zero");
            let set = ask(10, 0, (class << 56) | code, 1);
            assert_eq!(set, refused(Operand::R8));
        }
    }
}

#[test]
fn of_the_management_fields_only_those_of_l2_vms_pass() {
    for code in 0..0x100 {
        let expected = if matches!(code, 0x51..=0x53 | 0x59..=0x5b) {
            Ok(Scope::Vp)
        } else {
            refused(Operand::Rdx)
        };
        assert_eq!(ask(9, 0, (32 << 56) | code, 0), expected, "code {code:#x}");
        assert_eq!(ask(10, 0, (32 << 56) | code, 0), expected, "code {code:#x}");
    }
}

#[test]
fn the_virtual_apic_page_of_vm_1_stays() {
    for variant in [0, 1, 1 << 32, 1 << 50, 1 << 63] {
        assert_eq!(
            ask(10, 0, (36 << 56) | 0x2012 | variant, LOWER),
            refused(Operand::Rdx)
        );
    }
    assert_eq!(ask(9, 0, (36 << 56) | 0x2012, 0), Ok(Scope::Vp));
}

#[test]
fn other_virtual_apic_pages_are_not_other_system_ram() {
    for (class, vm) in [(44, 2), (52, 3)] {
        let field = (class << 56) | 0x2012;
        let scope = Scope::VirtualApic(VmIndex::new(vm).unwrap());
        assert_eq!(ask(10, 0, field, LOWER), Ok(scope));
        let write = |gpa| ask_with_own(10, 0, field, gpa);
        assert_eq!(write(0x1000), own(scope, 0x1000, Operand::R8));
        assert_eq!(write(LOWER + 1), refused(Operand::R8));
        assert_eq!(write(NOWHERE), refused(Operand::R8));
        assert_eq!(write(1 << 52), refused(Operand::R8));
        assert_eq!(write(1 << 63), refused(Operand::R8));
        // The high half alone: an odd encoding.
        assert_eq!(ask(10, 0, field | 1, LOWER), refused(Operand::Rdx));
    }
    let partial = Registers {
        rax: 10,
        rdx: (44 << 56) | 0x2012,
        r8: LOWER,
        r9: !0xfff,
        ..Registers::default()
    };
    assert_eq!(decide(&partial, &memory()), refused(Operand::R8));
}

/// A TDX module with one field, which has this value.
struct Holds(u64);

impl Tdcall for Holds {
    fn tdcall(&mut self, call: Call) -> Registers {
        let registers = call.registers();
        assert!(matches!(registers.rax, 7 | 9));
        Registers {
            r8: self.0,
            ..Registers::default()
        }
    }
}

/// Result of a write to a field that holds `old`.
fn write(rax: u64, rdx: u64, r8: u64, r9: u64, old: u64) -> Result<(), Status> {
    let request = Registers {
        rax,
        rdx,
        r8,
        r9,
        ..Registers::default()
    };
    let call = decide(&request, &memory())?.ready(&mut Holds(old))?;
    assert_eq!(call.registers(), request);
    Ok(())
}

#[test]
fn the_monitor_trap_flag_is_refused() {
    let (primary, old, trap) = ((36 << 56) | 0x4002, 0xb522_6dfa, 1 << 27);
    let change = |value, mask| write(10, primary, value, mask, old);
    assert_eq!(change(trap, trap), refused(Operand::R8));
    assert_eq!(change(old | trap, u64::MAX), refused(Operand::R8));
    assert_eq!(change(old, u64::MAX), Ok(()));
    assert_eq!(change(old ^ (1 << 2), u64::MAX), Ok(()));
    // Nor may the TPR shadow change, on which interrupt delivery depends.
    assert_eq!(change(old ^ (1 << 21), u64::MAX), refused(Operand::R8));
    assert_eq!(change(0, 1 << 21), refused(Operand::R8));
}

#[test]
fn of_the_fields_of_the_td_one_bit_may_be_written() {
    let td_ctls = 0x1110_0003_0000_0017;
    let change = |value, mask| write(8, td_ctls, value, mask, 1);
    assert_eq!(change(0x10, 0x10), Ok(()));
    assert_eq!(change(0, 0x10), Ok(()));
    assert_eq!(change(0x11, u64::MAX), Ok(()));
    for bit in (0..64).filter(|bit| *bit != 4) {
        assert_eq!(
            change(1 ^ (1 << bit), 1 << bit),
            refused(Operand::R8),
            "{bit}"
        );
        assert_eq!(
            change(0x11 ^ (1 << bit), u64::MAX),
            refused(Operand::R8),
            "{bit}"
        );
    }
    // NOTIFY_ENABLES, ATTRIBUTES, and ids that name no single field.
    for field in [
        0x9110_0003_0000_0010,
        0x1110_0003_0000_0000,
        td_ctls | (1 << 38),
        u64::MAX,
    ] {
        assert_eq!(write(8, field, 0x10, 0x10, 0), refused(Operand::Rdx));
    }
}

#[test]
fn of_l2_ctls_two_bits_may_be_set() {
    for vm in 1..4 {
        let field = (32 << 56) | 0x50 | vm;
        assert_eq!(write(10, field, 3, u64::MAX, 0), Ok(()));
        assert_eq!(write(10, field, 4, 3, 0), Ok(()));
        for bit in 2..64 {
            assert_eq!(
                write(10, field, 1 << bit, u64::MAX, 0),
                refused(Operand::R8)
            );
        }
    }
}

#[test]
fn the_policy_asks_the_table_of_fields() {
    let event = (44 << 56) | 0x4016;
    assert_eq!(ask(10, 0, event, 0x8000_0700), refused(Operand::R8));
    assert_eq!(ask(10, 0, event, 0x8000_0b0d), Ok(Scope::Vp));
    assert_eq!(ask(10, 0, (36 << 56) | 0x2040, 0), refused(Operand::Rdx));
    let permit = ask_with_own(10, 0, event, 0x8000_0b0d).unwrap();
    assert_eq!(permit.look_at_entry, VmIndex::new(2));
    // Reading is allowed.
    assert_eq!(ask(9, 0, (36 << 56) | 0x2040, 0), Ok(Scope::Vp));
}

/// These writes, and no others, make the kernel read the intercepts again.
#[test]
fn writes_that_change_what_is_intercepted_are_told() {
    let changes = |rdx, r8| {
        let permit = ask_with_own(10, 0, rdx, r8).unwrap();
        permit.changes_intercepts
    };
    for vm in 1..4 {
        let (vmcs, bitmaps) = ((28 + 8 * vm) << 56, (29 + 8 * vm) << 56);
        for word in [0, 3, 259, 386, 511] {
            assert_eq!(changes(bitmaps | word, u64::MAX), VmIndex::new(vm));
        }
        for code in [0x4002, 0x681a] {
            assert_eq!(changes(vmcs | code, 0), VmIndex::new(vm));
        }
        for code in [0x4016, 0x4004, 0x401e, 0x6820] {
            assert_eq!(changes(vmcs | code, 0), None);
        }
    }
    assert_eq!(changes((32 << 56) | 0x51, 0), None);
}

/// What OpenHCL writes for a VP, with its masks.
#[test]
fn what_the_reference_client_writes_passes() {
    const ALL: u64 = u64::MAX;
    let (primary, secondary) = (0xb522_6dfa, 0x1338_b3fa);
    let writes = [
        (0x401e, 1 << 22, 1 << 22, secondary),
        (0x401e, 0x200, 0x200, secondary),
        (0x401e, 0, 0x200, secondary),
        (0x401e, 4, 4, secondary),
        (0x6004, 0x21, ALL, 0),
        (0x6000, 0xffff_ffff_fffa_ffe1, ALL, 0),
        (0x6006, 0, ALL, 0),
        (0x6002, 0xffff_ffff_ff48_f040, ALL, 0),
        (0x4004, 0x4_0002, ALL, 0),
        (0x0802, 0xf000, 0xffff, 0),
        (0x4802, 0xffff, 0xffff_ffff, 0),
        (0x4816, 0x1_009b, 0xffff_ffff, 0),
        (0x6808, 0xffff_0000, ALL, 0),
        (0x6816, 0, ALL, 0),
        (0x4810, 0xffff, 0xffff_ffff, 0),
        (0x6800, 0x31, ALL, 0),
        (0x6804, 0x2040, ALL, 0),
        (0x6802, 0x1000, ALL, 0),
        (0x2806, 0x800, ALL, 0),
        (0x681a, 0x400, ALL, 0),
        (0x2804, 0x0007_0406_0007_0406, ALL, 0),
        (0x482a, 0x10, 0xffff_ffff, 0),
        (0x6824, 0, ALL, 0),
        (0x4012, 0x200, 0x200, 0x003e_c004),
        (0x4002, primary | 4, ALL, primary),
        (0x4002, primary | (1 << 22), 0xffff_ffff, primary),
        (0x401c, 9, ALL, 0),
        (0x201c, ALL, ALL, 0),
        (0x4016, 0x8000_0b0e, ALL, 0),
        (0x4018, 0x14, ALL, 0),
        (0x4016, 0, ALL, 0),
        (0x4824, 0, 1, 0),
        (0x4824, 8, 8, 0),
        (0x4824, 0, ALL, 0),
    ];
    for (code, value, mask, old) in writes {
        for class in [36, 44] {
            let field = (class << 56) | code;
            assert_eq!(write(10, field, value, mask, old), Ok(()), "{code:#x}");
        }
    }
    assert_eq!(write(10, (32 << 56) | 0x51, 3, ALL, 0), Ok(()));
    assert_eq!(
        write(10, (37 << 56) | 0x20, 0x7fff_ffff_ffff_f6ff, ALL, 0),
        Ok(())
    );
}

#[test]
fn the_memory_that_a_request_is_about_is_known() {
    let about = |rax, rcx| ask_with_own(rax, rcx, FieldId::TD_CTLS.0, 0).map(|permit| permit.scope);
    let of = |len_bytes| Ok(Scope::Memory(memory().range(LOWER, len_bytes).unwrap()));
    for leaf in [leaf::TDG_MEM_PAGE_ACCEPT, leaf::TDG_MEM_PAGE_ATTR_WR] {
        assert_eq!(about(leaf, LOWER), of(0x1000));
        assert_eq!(about(leaf, LOWER | 1), of(0x20_0000));
    }
    // In this leaf the low bits are not a level.
    assert_eq!(about(leaf::TDG_MEM_PAGE_ATTR_RD, LOWER | 1), of(0x1000));
    for leaf in [leaf::TDG_VM_RD, leaf::TDG_VM_WR, leaf::TDG_SYS_RD] {
        assert_eq!(about(leaf, LOWER), Ok(Scope::Td));
    }
}
