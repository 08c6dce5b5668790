// SPDX-License-Identifier: GPL-2.0-only
//! What follows an exit, which the lower VTL and the host would like to bend.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use vtl_pure::pure::exit::{RawExit, classify};
use vtl_pure::pure::field::VmIndex;
use vtl_pure::pure::handled::{Action, Guest, Handled};
use vtl_pure::pure::icr::{Ipi, Target};
use vtl_pure::pure::next::{Next, next};
use vtl_pure::pure::offload::{Halt, Offload};

use crate::random::{config, value};

fn exit() -> impl Strategy<Value = RawExit> {
    let name = prop_oneof![
        6 => Just(0_u64),
        3 => select(vec![0x1100_u64, 0x1101, 0x1102, 0x1120, 0x1140]),
        1 => any::<u32>().prop_map(u64::from),
    ];
    let reason = prop_oneof![
        3 => select(vec![12_u64, 31, 32, 48, 52]),
        1 => any::<u32>().prop_map(u64::from),
    ];
    let vectoring = prop_oneof![3 => Just(0_u64), 1 => any::<u64>()];
    let length = prop_oneof![3 => 1..16_u64, 1 => any::<u32>().prop_map(u64::from)];
    let level = prop_oneof![3 => Just(0), 1 => value()];
    let code = prop_oneof![2 => Just(1_u64 << 29), 1 => value()];
    (name, reason, vectoring, length, level, code).prop_map(
        |(name, reason, r10, length, r12, rsi)| RawExit {
            rax: (name << 32) | reason,
            r10,
            r11: length << 32,
            r12,
            rsi,
            ..RawExit::default()
        },
    )
}

fn guest() -> impl Strategy<Value = Guest> {
    let msr = prop_oneof![
        2 => select(vec![0x830_u64, 0x6e0, 0x4000_00f0, 0xffff_ffff_0000_0830]),
        1 => value(),
    ];
    // Plain interrupt commands among others.
    let command = prop_oneof![1 => 0..0x100_u64, 1 => value()];
    (command, msr, value(), value(), value()).prop_map(|(rax, rcx, rdx, rflags, rip)| Guest {
        rax,
        rcx,
        rdx,
        rflags,
        rip,
    })
}

/// What the kernel may carry out, by the words of Documentation/abi.rst.
fn may_carry_out(raw: u8, vm: u64, exit: &RawExit, guest: &Guest, handled: &Handled) -> bool {
    let length = exit.r11 >> 32;
    if handled.action == Action::Expire {
        let is_deadline = exit.rax & 0xffff_ffff == 52;
        return vm == 1 && raw & 1 != 0 && is_deadline && handled.next_rip == guest.rip;
    }
    let is_plain = vm == 1
        && raw & 1 != 0
        && guest.rflags & (1 << 8) == 0
        && exit.r12 & 3 == 0
        && (1..=15).contains(&length)
        && handled.next_rip == guest.rip + length;
    let msr = guest.rcx & 0xffff_ffff;
    let is_its = match (exit.rax & 0xffff_ffff, handled.action) {
        (12, Action::Halt(Halt::Hlt)) => guest.rflags & (1 << 9) != 0,
        (31, Action::Halt(Halt::GuestIdle)) => msr == 0x4000_00f0,
        (32, Action::Send(_)) => msr == 0x830 && raw & 2 != 0,
        (32, Action::SetTimer(value)) => {
            msr == 0x6e0 && value == ((guest.rdx << 32) | (guest.rax & 0xffff_ffff))
        }
        _ => false,
    };
    is_plain && is_its
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_that_userspace_must_see_is_kept_from_it(
        exit in exit(), guest in guest(), raw in any::<u8>(), vm in 1..4_u64
    ) {
        let offload = Offload::new(raw, VmIndex::new(vm).unwrap());
        let name = exit.rax >> 32;
        let has_run = matches!(name, 0 | 0x1100..=0x1102);
        let found = next(classify(&exit), &exit, offload, || guest);
        match name {
            _ if has_run && exit.r10 & (1 << 31) != 0 => prop_assert_eq!(found, Next::Userspace),
            0 => match found {
                Next::Handle(handled) => {
                    prop_assert!(may_carry_out(raw, vm, &exit, &guest, &handled));
                }
                other => prop_assert_eq!(other, Next::Userspace),
            },
            0x1100 if matches!(exit.rax & 0xffff, 48 | 49) => {
                prop_assert_eq!(found, Next::Userspace);
            }
            0x1100..=0x1102 | 0x1120 | 0x1140 => prop_assert_eq!(found, Next::EnterAgain),
            _ => prop_assert_eq!(found, Next::Fail),
        }
    }

    #[test]
    fn an_interrupt_command_is_plain_or_userspaces(icr in value(), extra in 0..0x1000_u64) {
        // All bits that matter are in the middle of the word.
        let icr = icr ^ (extra << 8);
        let is_plain = icr & 0xfff3_b700 == 0 && icr & 0xff >= 16;
        prop_assert_eq!(Ipi::decode(icr).is_some(), is_plain);
    }

    #[test]
    fn an_interrupt_reaches_whom_the_processor_would_reach(
        destination in prop_oneof![value(), (0..4_u64, 0..0x1_0000_u64).prop_map(|(c, m)| (c << 16) | m)],
        shorthand in 0..4_u64, logical in any::<bool>(), id in 0..64_u32, is_sender in any::<bool>()
    ) {
        let destination = destination & 0xffff_ffff;
        let icr = (destination << 32) | (shorthand << 18) | (u64::from(logical) << 11) | 0x40;
        let target = Ipi::decode(icr).unwrap().target();
        let is_addressed = if destination == 0xffff_ffff {
            true
        } else if logical {
            destination >> 16 == u64::from(id / 16) && destination & (1 << (id % 16)) != 0
        } else {
            destination == u64::from(id)
        };
        let is_meant = [is_addressed, is_sender, true, !is_sender][shorthand as usize];
        prop_assert_eq!(target.includes(id, is_sender), is_meant);
        prop_assert_eq!(shorthand == 1, target == Target::Own);
    }
}

/// Makes sure that the strategies reach the interesting answers.
#[test]
#[cfg_attr(miri, ignore = "Miri takes too long to draw so often")]
fn the_exits_reach_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut found = [0_u32; 7];
    for _ in 0..4000 {
        let exit = exit().new_tree(&mut runner).unwrap().current();
        let guest = guest().new_tree(&mut runner).unwrap().current();
        let answer = match next(
            classify(&exit),
            &exit,
            Offload::new(3, VmIndex::VM1),
            || guest,
        ) {
            Next::Userspace => 0,
            Next::EnterAgain => 1,
            Next::Fail => 2,
            Next::Handle(handled) => match handled.action {
                Action::Halt(_) => 3,
                Action::Send(_) => 4,
                Action::SetTimer(_) => 5,
                Action::Expire => 6,
            },
        };
        found[answer] += 1;
    }
    assert!(found.iter().all(|&count| count > 0), "{found:?}");
}
