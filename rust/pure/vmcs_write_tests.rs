// SPDX-License-Identifier: GPL-2.0
//! Tests of the table of fields and of the check before an entry.

use super::*;
use crate::pure::tdcall::Call;

const VM1: u64 = 0x2420 << 48;

fn write(code: u64, value: u64, mask: u64) -> Result<FieldWrite, Operand> {
    check_write(&Registers {
        rax: 10,
        rdx: VM1 | code,
        r8: value,
        r9: mask,
        ..Registers::default()
    })
}

fn is_taken(code: u64, value: u64) -> bool {
    write(code, value, u64::MAX).is_ok()
}

#[test]
fn the_table_is_in_order_and_covers_no_field_twice() {
    for fields in &FIELDS {
        assert!(fields.first <= fields.last && fields.first & 1 == 0 && fields.last & 1 == 0);
        assert!(!fields.reason.is_empty());
    }
    for pair in FIELDS.windows(2) {
        assert!(pair[0].last < pair[1].first, "{:#x}", pair[1].first);
    }
}

#[test]
fn what_is_not_in_the_table_is_refused() {
    let missing = [
        0x0000, 0x0002, 0x0006, 0x0812, 0x0814, 0x2000, 0x2010, 0x2016, 0x2018, 0x201a, 0x2024,
        0x202a, 0x2034, 0x203c, 0x2040, 0x204a, 0x2400, 0x2800, 0x2808, 0x4000, 0x400c, 0x400e,
        0x4010, 0x4014, 0x4020, 0x4022, 0x4024, 0x4400, 0x4408, 0x440e, 0x4826, 0x4828, 0x482e,
        0x6400, 0x640a, 0x6c08, 0x6c14, 0x7fff, 0xf800, 0x1_0800, 0x80_0802,
    ];
    for code in missing {
        for mask in [0, 1, u64::MAX] {
            assert_eq!(write(code, 0, mask).err(), Some(Operand::Rdx), "{code:#x}");
        }
    }
}

#[test]
fn half_a_field_is_refused() {
    for code in (1..0x7000).step_by(2) {
        assert_eq!(
            write(code, 0, u64::MAX).err(),
            Some(Operand::Rdx),
            "{code:#x}"
        );
    }
}

#[test]
fn guest_state_is_userspaces_own_affair() {
    for code in [
        0x0802, 0x2804, 0x2806, 0x280a, 0x4802, 0x4816, 0x6800, 0x6804, 0x6820, 0x682c,
    ] {
        for value in [0, 1, u64::MAX] {
            assert!(is_taken(code, value), "{code:#x}");
            assert!(write(code, value, 1).is_ok());
        }
    }
}

/// Checks all events, bit by bit: 12 bits of type and vector, and each reserved bit.
#[test]
fn an_event_is_taken_exactly_if_the_processor_takes_it() {
    for low in 0..0x1000_u64 {
        let (kind, vector, has_error) = ((low >> 8) & 7, low & 0xff, low & 0x800 != 0);
        let is_good = match kind {
            0 | 4 | 5 | 6 => !has_error,
            2 => !has_error && vector == 2,
            3 => vector <= 31,
            _ => false,
        };
        assert_eq!((low, is_taken(0x4016, 0x8000_0000 | low)), (low, is_good));
        assert!(is_taken(0x4016, low), "nothing is delivered");
    }
    for reserved in 12..31 {
        assert!(
            !is_taken(0x4016, 0x8000_0b0d | (1 << reserved)),
            "{reserved}"
        );
    }
    assert!(!is_taken(0x4016, 1 << 32));
}

#[test]
fn a_pending_monitor_trap_is_refused() {
    assert!(!is_taken(0x4016, 0x8000_0700));
    let trap = 1 << 27;
    for (value, mask) in [(trap, trap), (0, trap), (trap, u64::MAX)] {
        // The bit must keep its value, and it was never set.
        assert_eq!(write(0x4002, value, mask).unwrap().kept & trap, trap);
    }
}

#[test]
fn numbers_have_their_bounds() {
    for (code, most) in [(0x400a, 4), (0x4018, 0xffff), (0x401a, 15), (0x401c, 15)] {
        assert!(is_taken(code, most) && is_taken(code, 0), "{code:#x}");
        for value in [most + 1, 1 << 31, 1 << 32, u64::MAX] {
            assert!(!is_taken(code, value), "{code:#x} {value:#x}");
        }
    }
}

#[test]
fn a_part_of_what_counts_as_a_whole_is_refused() {
    for code in [0x400a, 0x4016, 0x4018, 0x401a, 0x401c] {
        assert!(write(code, 0, 0xffff_ffff).is_ok());
        for bit in 0..32 {
            assert_eq!(write(code, 0, !(1 << bit)).err(), Some(Operand::R8));
            assert_eq!(write(code, 0, 1 << bit).err(), Some(Operand::R8));
        }
    }
}

#[test]
fn bits_of_controls_are_kept_or_free() {
    for (code, free) in [
        (0x4002, 0x40d9_9a04),
        (0x4012, 0x200),
        (0x401e, 0x0451_3e0c),
    ] {
        assert_eq!(write(code, u64::MAX, free).unwrap().kept, 0);
        assert_eq!(write(code, 0, u64::MAX).unwrap().kept, 0xffff_ffff & !free);
    }
    assert!(write(0x4824, 0xb, u64::MAX).is_ok());
    assert_eq!(write(0x4824, 4, u64::MAX).err(), Some(Operand::R8));
    assert_eq!(write(0x4824, 0x10, 0x10).err(), Some(Operand::R8));
    assert!(write(0x4824, 0x10, 0xf).is_ok());
    assert!(write(0x2802, 3, u64::MAX).is_ok());
    assert_eq!(write(0x2802, 0x40, u64::MAX).err(), Some(Operand::R8));
}

#[test]
fn writes_to_what_must_fit_together_are_looked_at_again() {
    for code in [0x400a, 0x4016, 0x4018, 0x401a, 0x401c, 0x401e, 0x6800] {
        assert!(
            write(code, 0, u64::MAX).unwrap().look.is_at_entry(),
            "{code:#x}"
        );
    }
    assert!(!write(0x6802, 0, u64::MAX).unwrap().look.is_at_entry());
}

const APIC_PAGE: u64 = 0x2012;

/// A VMCS with a few fields, and a virtual-APIC page; the rest are zero.
struct Vmcs<'a>(&'a [(u64, u64)]);

impl Tdcall for Vmcs<'_> {
    fn tdcall(&mut self, call: Call) -> Registers {
        let registers = call.registers();
        assert_eq!((registers.rax, registers.rdx >> 56), (9, 0x24));
        let code = registers.rdx & 0xff_ffff;
        let found = self.0.iter().find(|(field, _)| *field == code);
        Registers {
            r8: match found {
                Some((_, value)) => *value,
                None if code == APIC_PAGE => 0x1000,
                None => 0,
            },
            ..Registers::default()
        }
    }
}

const REFUSED: Result<Again, Status> = Err(Status::new(0x8000_1103, 0));

fn entry(fields: &[(u64, u64)], task_priority: Option<u8>) -> Result<Again, Status> {
    check_entry(&mut Vmcs(fields), VmIndex::VM1, || task_priority)
}

#[test]
fn a_vm_without_a_virtual_apic_page_is_not_entered() {
    let refused = Err(Status::operand_invalid(Operand::L2VapicGpa));
    // Never written; forgotten.
    assert_eq!(entry(&[(APIC_PAGE, u64::MAX)], None), refused);
    assert_eq!(entry(&[(APIC_PAGE, NOWHERE)], None), refused);
    assert_eq!(entry(&[(APIC_PAGE, 0x1000)], None), Ok(Again::AfterWrite));
}

#[test]
fn an_error_code_needs_protected_mode() {
    let gp = (0x4016, 0x8000_0b0d);
    let once = Ok(Again::AfterWrite);
    assert_eq!(entry(&[gp, (0x6800, 0x21)], None), once);
    assert_eq!(entry(&[gp, (0x6800, 0x20)], None), REFUSED);
    assert_eq!(entry(&[(0x4016, 0x8000_030d), (0x6800, 0x20)], None), once);
    assert_eq!(
        entry(&[gp, (0x6800, 0x21), (0x4018, 0x1_0000)], None),
        REFUSED
    );
    // Without an event the processor does not check these fields.
    assert_eq!(entry(&[(0x4016, 0xb0d), (0x4018, u64::MAX)], None), once);
}

#[test]
fn what_others_have_left_is_found() {
    assert_eq!(entry(&[], None), Ok(Again::AfterWrite));
    assert_eq!(entry(&[(0x4016, 0x8000_0700)], None), REFUSED);
    assert_eq!(entry(&[(0x400a, 5)], None), REFUSED);
    assert_eq!(entry(&[(0x4016, 0x8000_0403), (0x401a, 16)], None), REFUSED);
    assert_eq!(
        entry(&[(0x4016, 0x8000_0403), (0x401a, 2)], None),
        Ok(Again::AfterWrite)
    );
}

#[test]
fn a_threshold_is_at_most_the_task_priority_unless_the_processor_delivers() {
    let again = Ok(Again::EachEntry);
    assert_eq!(entry(&[(0x401c, 3)], Some(0x30)), again);
    assert_eq!(entry(&[(0x401c, 3)], Some(0x2f)), REFUSED);
    assert_eq!(entry(&[(0x401c, 1)], None), REFUSED);
    assert_eq!(entry(&[(0x401c, 16)], Some(0xff)), REFUSED);
    let delivers = (0x401e, 0x200);
    assert_eq!(
        entry(&[(0x401c, 15), delivers], Some(0)),
        Ok(Again::AfterWrite)
    );
}

#[test]
fn a_field_that_can_not_be_read_is_no_reason_to_enter() {
    struct Deaf;
    impl Tdcall for Deaf {
        fn tdcall(&mut self, _: Call) -> Registers {
            Registers {
                rax: 0xc000_0c00 << 32,
                ..Registers::default()
            }
        }
    }
    let answer = check_entry(&mut Deaf, VmIndex::VM1, || Some(0));
    assert_eq!(answer, Err(Status::new(0xc000_0c00, 0)));
}
