// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Nothing that the kernel module lets userspace write ends a TD on the first modules, which have no
//! answer to bad control fields.
//!
//! Userspace writes at random, the driver's policy decides, the model executes what is allowed. Then
//! the VM is entered, if the driver's look before an entry lets it.

use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use vtl_pure::pure::field::VmIndex as DriverVm;
use vtl_pure::pure::lower::LowerMemory;
use vtl_pure::pure::policy::decide;
use vtl_pure::pure::tdcall::Registers;
use vtl_pure::pure::vmcs_write::check_entry;

use crate::dispatch::{Outcome, tdcall};
use crate::gpa::VmIndex;
use crate::gprs::Gprs;
use crate::td::{FeatureLevel, Td};
use crate::testing::{FakeMachine, KERNEL, STATE, VAPIC, with_td};
use crate::two_readings::Model;
use crate::vcpu::Vcpu;
use crate::{Field, fields};

/// The primary control whose exit no TDX module handles.
const MONITOR_TRAP: u64 = 1 << 27;

/// All memory but the first page is a lower VTL's here: whose it is decides about other things.
fn anywhere() -> LowerMemory {
    LowerMemory::parse(b"0x1000,0x7ffffffff000", 1 << 47).unwrap()
}

/// One request, with what is worth trying in the fields that an entry depends on.
fn request() -> impl Strategy<Value = Registers> {
    let all = (0..fields::FIELDS.len()).prop_map(|at| u64::from(fields::FIELDS[at].encoding));
    let code = prop_oneof![
        6 => select(std::vec![0x4016_u64, 0x4018, 0x401a, 0x401c, 0x401e, 0x400a, 0x2040, 0x2034, 0x4002]),
        2 => select(std::vec![0x6800_u64, 0x4012, 0x4824, 0x2806]),
        2 => all,
        1 => 0..0x7000_u64,
    ];
    let event = (
        0..0x1000_u64,
        prop_oneof![4 => Just(0), 1 => any::<u32>().prop_map(u64::from)],
    );
    let value = prop_oneof![
        3 => event.prop_map(|(low, high)| 0x8000_0000 | low | high),
        3 => 0..20_u64,
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
        1 => select(std::vec![0x21_u64, 0x20, 0x1338_b1fa, 0x1338_b3fa, 0xb522_6dfa, 0xbd22_6dfa]),
        1 => any::<u64>(),
    ];
    let mask = prop_oneof![4 => Just(u64::MAX), 1 => any::<u64>(), 1 => (0..32_u32).prop_map(|bit| 1 << bit)];
    // Each is valid by itself; some combinations are not.
    let pairs = std::vec![
        (0x6800_u64, 0x20_u64),
        (0x4016, 0x8000_0b0d),
        (0x401e, 0x1338_b1fa),
        (0x401c, 9),
    ];
    let pair = (select(pairs), Just(u64::MAX)).prop_map(|((code, r8), r9)| (code, r8, r9));
    prop_oneof![1 => pair, 2 => (code, value, mask)].prop_map(|(code, r8, r9)| Registers {
        rax: 10,
        rdx: 0x2424 << 48 | code,
        r8,
        r9,
        ..Registers::default()
    })
}

/// Whose rules are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// The driver's.
    All,
    /// Every write passes.
    NoPolicy,
    /// No look before the entry.
    NoLook,
}

/// Executes what the rules allow; then enters. `None`: the driver did not.
fn run(
    (td, vcpu, m): (&mut Td<'_>, &mut Vcpu, &mut FakeMachine),
    requests: &[Registers],
    priority: u8,
    rules: Rules,
) -> Option<Outcome> {
    td.config.feature_level = FeatureLevel::Base;
    m.prepare_l2(vcpu);
    m.memory[usize::try_from(VAPIC).expect("small") + 0x80] = priority;
    let mut model = Model {
        td: &mut *td,
        vcpu: &mut *vcpu,
        machine: &mut *m,
    };
    for request in requests {
        let verdict = decide(request, &anywhere());
        let call = verdict.and_then(|allowed| allowed.ready(&mut model));
        let allowed = call.ok().map(|call| call.registers());
        let forced = (rules == Rules::NoPolicy).then_some(*request);
        if let Some(registers) = allowed.or(forced) {
            model.execute(registers);
        }
    }
    let look = check_entry(&mut model, DriverVm::VM1, || Some(priority));
    if look.is_err() && rules == Rules::All {
        return None;
    }
    let mut g = Gprs {
        rax: 25,
        rcx: 1 << 52,
        rdx: STATE,
        ..Gprs::ZERO
    };
    Some(tdcall(td, vcpu, &mut g, KERNEL, m))
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 500 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_write_of_userspace_ends_the_td(
        requests in vec(request(), 1..12), priority in any::<u8>()
    ) {
        with_td(|td, vcpu, m| {
            let outcome = run((td, vcpu, m), &requests, priority, Rules::All);
            assert!(!matches!(outcome, Some(Outcome::Fatal(_))), "{outcome:?}");
            let primary = vcpu.l2(VmIndex::Vm1).vmcs.get(Field::PrimaryControls);
            assert_eq!(primary & MONITOR_TRAP, 0);
        });
    }
}

/// Makes sure that the requests get far enough to test the property: without the policy, or without
/// the check before entry, the TD ends; with both, most VMs are entered.
#[test]
#[cfg_attr(miri, ignore = "Miri takes too long to draw so often")]
fn each_rule_is_needed() {
    let mut runner = TestRunner::deterministic();
    let draws: Vec<_> = (0..2000)
        .map(|_| {
            let requests = vec(request(), 1..12).new_tree(&mut runner).expect("a draw");
            let priority = any::<u8>().new_tree(&mut runner).expect("a draw");
            (requests.current(), priority.current())
        })
        .collect();
    let count = |rules, is_counted: fn(&Option<Outcome>) -> bool| {
        let mut found = 0;
        for (requests, priority) in &draws {
            with_td(|td, vcpu, m| {
                found += usize::from(is_counted(&run((td, vcpu, m), requests, *priority, rules)));
            });
        }
        found
    };
    let is_end = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Fatal(_)));
    assert!(count(Rules::NoPolicy, is_end) > 100);
    assert!(count(Rules::NoLook, is_end) > 10);
    let is_entered = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::EnterL2(_)));
    assert!(count(Rules::All, is_entered) > 200);
}
