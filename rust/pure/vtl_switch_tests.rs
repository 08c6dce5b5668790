// SPDX-License-Identifier: GPL-2.0
//! Each check on its own, with all else as it should be. The whole domain at once is enumerated in
//! `tools/checks/vtl_pure/tests/properties/switch.rs`.

use super::*;

const CALL: u32 = 1;
const RETURN: u32 = 2;
const ALL: u32 = 0x1f;
const VM3: VmIndex = match VmIndex::new(3) {
    Some(vm) => vm,
    None => VmIndex::VM1,
};

fn exit() -> RawExit {
    RawExit {
        rax: 18,
        rsi: CS_LONG,
        r11: 3 << 32,
        ..RawExit::default()
    }
}

fn caller(rcx: u64, rax: u64) -> Caller {
    let own = Own {
        rsp: 0x8000,
        rip: 0x1000,
        rflags: 2,
        ..Own::default()
    };
    Caller { rax, rcx, own }
}

fn ask(vm: VmIndex, rcx: u64, rax: u64) -> Decision {
    let enable = Enable::new(ALL).unwrap();
    decide(vm, &exit(), enable, &caller(rcx, rax), 0)
}

fn switch(direction: Direction) -> Decision {
    Decision::Switch(Switch {
        direction,
        next_rip: 0x1003,
    })
}

#[test]
fn vtl0_calls_and_vtl1_returns_in_two_ways() {
    assert_eq!(ask(VmIndex::VM1, 0x11, 0), switch(Direction::Call));
    assert_eq!(ask(VmIndex::VM2, 0x12, 0), switch(Direction::Return));
    assert_eq!(ask(VmIndex::VM2, 0x12, 1), switch(Direction::FastReturn));
}

#[test]
fn a_call_goes_up_and_a_return_comes_down() {
    for direction in [Direction::Call, Direction::Return, Direction::FastReturn] {
        assert_eq!(other(direction.source()), Some(direction.target()));
        let is_call = direction == Direction::Call;
        assert_eq!(is_call, direction.source() == VmIndex::VM1);
    }
    assert_eq!(other(VM3), None);
}

#[test]
fn nobody_calls_from_vtl1_or_returns_from_vtl0() {
    let left = Decision::Left(Left::Operands);
    assert_eq!(ask(VmIndex::VM2, 0x11, 0), left);
    assert_eq!(ask(VmIndex::VM1, 0x12, 0), left);
    assert_eq!(ask(VmIndex::VM1, 0x12, 1), left);
    for rcx in [0x11, 0x12] {
        assert_eq!(ask(VM3, rcx, 0), left);
    }
}

#[test]
fn every_bit_of_the_operands_counts() {
    let left = Decision::Left(Left::Operands);
    for bit in 0..64 {
        assert_eq!(ask(VmIndex::VM1, 0x11, 1 << bit), left);
        if bit > 0 {
            assert_eq!(ask(VmIndex::VM2, 0x12, 1 << bit), left);
            assert_eq!(ask(VmIndex::VM2, 0x12, 1 | (1 << bit)), left);
        }
        if bit >= 16 {
            assert_eq!(ask(VmIndex::VM1, 0x11 | (1 << bit), 0), left);
            assert_eq!(ask(VmIndex::VM2, 0x12 | (1 << bit), 0), left);
        }
    }
}

#[test]
fn other_hypercalls_are_neither() {
    for code in (0..0x1_0000).filter(|code| !matches!(code, 0x11 | 0x12)) {
        assert_eq!(ask(VmIndex::VM1, code, 0), Decision::Neither);
    }
}

#[test]
fn each_direction_has_to_be_enabled() {
    for raw in 0..=ALL {
        let enable = Enable::new(raw).unwrap();
        let is_switch = |vm, rcx| {
            let decision = decide(vm, &exit(), enable, &caller(rcx, 0), 0);
            assert!(matches!(
                decision,
                Decision::Switch(_) | Decision::Left(Left::Disabled)
            ));
            matches!(decision, Decision::Switch(_))
        };
        assert_eq!(is_switch(VmIndex::VM1, 0x11), raw & CALL != 0);
        assert_eq!(is_switch(VmIndex::VM2, 0x12), raw & RETURN != 0);
    }
}

#[test]
fn a_bit_that_means_nothing_is_refused() {
    for bit in 0..32 {
        assert_eq!(Enable::new(1 << bit).is_some(), bit < 5, "{bit}");
    }
    let alone = |bit: u32| Enable::new(1 << bit).unwrap();
    assert!(alone(2).takes_proxied() && alone(3).notifies());
    // There is nothing to take back where nobody is told.
    assert!(!alone(4).resets_notice());
    assert!(Enable::new(0x18).unwrap().resets_notice());
    assert_eq!(Enable::new(0), Some(Enable::NONE));
}

#[test]
fn modes_in_which_a_step_has_further_effects_are_userspaces() {
    let enable = Enable::new(ALL).unwrap();
    let with = |exit: RawExit, own: Own| {
        let caller = Caller {
            own,
            ..caller(0x11, 0)
        };
        decide(VmIndex::VM1, &exit, enable, &caller, 0)
    };
    let own = caller(0, 0).own;
    let left = Decision::Left(Left::Mode);
    for r12 in 1..4 {
        assert_eq!(with(RawExit { r12, ..exit() }, own), left);
    }
    assert_eq!(with(RawExit { rsi: 0, ..exit() }, own), left);
    for len_bytes in [0, 1, 2, 4, 15, 16, 0x8000_0003] {
        let r11 = len_bytes << 32;
        assert_eq!(with(RawExit { r11, ..exit() }, own), left);
    }
    let steps = Own {
        rflags: 0x102,
        ..own
    };
    assert_eq!(with(exit(), steps), left);
    for rip in [0x7fff_ffff_fffd, 0xffff_ffff_ffff_fffd] {
        assert_eq!(with(exit(), Own { rip, ..own }), left);
    }
    // What is in the low half of R11 is no length.
    let r11 = (3 << 32) | 0xffff_ffff;
    assert_eq!(
        with(RawExit { r11, ..exit() }, own),
        switch(Direction::Call)
    );
}

#[test]
fn a_stale_exit_and_one_in_delivery_are_neither() {
    let enable = Enable::new(ALL).unwrap();
    let with = |exit: RawExit| decide(VmIndex::VM1, &exit, enable, &caller(0x11, 0), 0);
    for name in [0x1100_u64, 0x1101, 0x1102, 0x1120, 0x1140, 0xc000_0100] {
        let rax = (name << 32) | 18;
        assert_eq!(with(RawExit { rax, ..exit() }), Decision::Neither);
    }
    for bit in 5..32 {
        let rax = 18 | (1 << bit);
        assert_eq!(with(RawExit { rax, ..exit() }), Decision::Neither);
    }
    let r10 = 1 << 31;
    assert_eq!(with(RawExit { r10, ..exit() }), Decision::Neither);
}

#[test]
fn a_target_that_waits_for_userspace_is_not_entered() {
    let enable = Enable::new(ALL).unwrap();
    for halt in (0..=0xff_u8).filter(|halt| halt & !HALTS == 0) {
        let decision = decide(VmIndex::VM2, &exit(), enable, &caller(0x12, 1), halt);
        let is_left = decision == Decision::Left(Left::Halted);
        assert_eq!(is_left, halt & (1 << 5) != 0);
    }
}

#[test]
fn halt_of_the_target_comes_back_and_the_policy_stays() {
    let halted = |halt| Parked {
        halt,
        ..Parked::default()
    };
    assert_eq!(halted(0).resumed_halt(), None);
    for (set, clear) in [(0x40, 0x80), (0x80, 0x40)] {
        let change = HaltChange {
            set,
            clear,
            flags: 1,
        };
        assert_eq!(halted(set).resumed_halt(), Some(change));
    }
}

#[test]
fn parked_state_is_read_as_it_was_written() {
    let words: [u64; PARKED_WORDS] = core::array::from_fn(|place| match place {
        4 => 0x40_2130,
        11.. => 0,
        _ => 0x1111_1111 * (1 + place as u64),
    });
    let parked = Parked::from_words(&words).unwrap();
    assert_eq!(parked.to_words(), words);
    assert_eq!(
        (parked.own.rvi, parked.own.svi, parked.halt),
        (0x30, 0x21, 0x40)
    );
    assert_eq!(parked.own.rip, words[1]);
    assert_eq!(parked.msrs.tsc_aux, words[10]);
}

#[test]
fn no_reserved_bit_of_a_parked_state_may_be_set() {
    for place in 0..PARKED_WORDS {
        for bit in 0..64 {
            let mut words = [0; PARKED_WORDS];
            words[place] = 1 << bit;
            let is_known = match place {
                4 => bit < 16 || (21..24).contains(&bit),
                _ => place < 11,
            };
            assert_eq!(Parked::from_words(&words).is_some(), is_known);
        }
    }
}

#[test]
fn an_interrupt_counts_that_vtl0_could_take_now() {
    let own = |rflags, rvi, svi| Own {
        rflags,
        rvi,
        svi,
        ..Own::default()
    };
    assert!(own(0x202, 0x40, 0).could_take(0));
    assert!(!own(0x2, 0x40, 0).could_take(0));
    assert!(!own(0x202, 0x40, 0x4f).could_take(0));
    assert!(!own(0x202, 0x40, 0).could_take(0x40));
    assert!(!own(0x202, 0, 0).could_take(0));
}

#[test]
fn each_change_of_a_counter_is_one_invalidation_of_that_vm() {
    let mut flushes = Flushes::default();
    assert!(!flushes.is_due(VmIndex::VM1, 0));
    for counter in [1, 7, u64::MAX, 0] {
        assert!(flushes.is_due(VmIndex::VM1, counter));
        flushes.note(VmIndex::VM1, counter);
        assert!(!flushes.is_due(VmIndex::VM1, counter));
        assert!(!flushes.is_due(VmIndex::VM2, 0));
    }
}
