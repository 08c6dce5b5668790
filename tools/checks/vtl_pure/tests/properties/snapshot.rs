// SPDX-License-Identifier: GPL-2.0-only
//! The check of the run page, all of which userspace can write.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use vtl_pure::pure::controls::{Controls, Fields, Flush, Refusal};
use vtl_pure::pure::field::PerVm;
use vtl_pure::pure::msr::{Limits, SharedMsrs};

use crate::random::{config, value};

fn limits() -> impl Strategy<Value = Limits> {
    let xss = prop_oneof![Just(None), value().prop_map(Some)];
    (
        1..4_u8,
        select(vec![48_u8, 57]),
        xss,
        any::<bool>(),
        any::<u32>(),
    )
        .prop_map(
            |(num_l2_vms, address_bits, xss, has_tsc_aux, mxcsr)| Limits {
                num_l2_vms,
                address_bits,
                xss,
                has_tsc_aux,
                mxcsr,
            },
        )
}

/// Mostly zero where other values are mostly wrong, so that some snapshots pass.
fn rarely<T: Clone + Default + core::fmt::Debug + 'static>(
    wrong: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(T::default()), 1 => wrong]
}

fn controls() -> impl Strategy<Value = Controls> {
    let rcx = (1..4_u64, rarely(value())).prop_map(|(vm, other)| (vm << 52) | other);
    let flags = prop_oneof![6 => 0..2_u32, 1 => any::<u32>()];
    let vp_flags = prop_oneof![6 => Just(0), 1 => 1..4_u64, 1 => value()];
    let msrs = (
        rarely(value()),
        value(),
        rarely(value()),
        rarely(value()),
        rarely(value()),
        rarely(value()),
    );
    let msrs = msrs.prop_map(
        |(kernel_gs_base, star, lstar, sfmask, xss, tsc_aux)| SharedMsrs {
            kernel_gs_base,
            star,
            lstar,
            sfmask,
            xss,
            tsc_aux,
        },
    );
    let few = (any::<u8>(), value(), any::<u8>(), value());
    (flags, vp_flags, few, rcx, msrs, rarely(any::<u32>())).prop_map(
        |(flags, vp_flags, (deadline_update, deadline, offload, cr2), entry_rcx, msrs, mxcsr)| {
            Controls {
                flags,
                vp_flags,
                deadline_update,
                deadline,
                offload,
                entry_rcx,
                msrs,
                cr2,
                mxcsr,
            }
        },
    )
}

/// Returns true if the highest of `bits` address bits is repeated above.
fn is_canonical(address: u64, bits: u8) -> bool {
    let high = address >> (bits - 1);
    high == 0 || high == u64::MAX >> (bits - 1)
}

fn is_wrong(controls: &Controls, limits: &Limits) -> bool {
    let msrs = &controls.msrs;
    let vm = controls.entry_rcx >> 52;
    controls.flags > 1
        || controls.vp_flags > 3
        || !(1..=u64::from(limits.num_l2_vms)).contains(&vm)
        || controls.entry_rcx << 12 >> 12 > 3
        || !is_canonical(msrs.kernel_gs_base, limits.address_bits)
        || !is_canonical(msrs.lstar, limits.address_bits)
        || msrs.sfmask > u64::from(u32::MAX)
        || msrs.tsc_aux
            > if limits.has_tsc_aux {
                u64::from(u32::MAX)
            } else {
                0
            }
        || msrs.xss | limits.xss.unwrap_or(0) != limits.xss.unwrap_or(0)
        || controls.mxcsr | limits.mxcsr != limits.mxcsr
}

/// A run page from which each field is read by itself.
struct Page(Controls);

impl Fields for Page {
    fn flags(&self) -> u32 {
        self.0.flags
    }

    fn vp_flags(&self) -> u64 {
        self.0.vp_flags
    }

    fn deadline_update(&self) -> u8 {
        self.0.deadline_update
    }

    fn entry_rcx(&self) -> u64 {
        self.0.entry_rcx
    }

    fn are_msrs(&self, msrs: &SharedMsrs) -> bool {
        self.0.msrs == *msrs
    }

    fn cr2(&self) -> u64 {
        self.0.cr2
    }

    fn mxcsr(&self) -> u32 {
        self.0.mxcsr
    }
}

/// The fields of `next`, except those of `first` whose bit is set in `kept`.
fn mixed(first: &Controls, next: &Controls, kept: u16) -> Controls {
    let is_kept = |bit: u32| (kept >> bit) & 1 == 1;
    let mut mixed = *next;
    if is_kept(0) {
        mixed.flags = first.flags;
    }
    if is_kept(1) {
        mixed.vp_flags = first.vp_flags;
    }
    if is_kept(2) {
        mixed.deadline_update = first.deadline_update & !1;
    }
    if is_kept(3) {
        mixed.entry_rcx = first.entry_rcx;
    }
    if is_kept(4) {
        mixed.msrs = first.msrs;
    }
    if is_kept(5) {
        mixed.mxcsr = first.mxcsr;
    }
    mixed
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_snapshot_passes_exactly_if_no_field_is_wrong(controls in controls(), limits in limits()) {
        let found = controls.validate(&limits, &PerVm::default());
        if is_wrong(&controls, &limits) {
            prop_assert_eq!(found, Err(Refusal::Invalid));
        } else {
            let (entry, msrs, before) = found.unwrap();
            prop_assert_eq!(entry.rcx.raw(), controls.entry_rcx & !3);
            prop_assert_eq!(msrs, controls.msrs);
            prop_assert_eq!(entry.cr2, controls.cr2);
            prop_assert_eq!(entry.mxcsr, controls.mxcsr);
            prop_assert_eq!(before.is_halted, controls.flags == 1);
            prop_assert_eq!(before.deadline.is_some(), controls.deadline_update & 1 == 1);
            // Each flag is answered, and none that is not set but by doing more.
            let answered = before.flush.map_or(0, |flush| u64::from(flush.flags()));
            prop_assert_eq!(controls.vp_flags & !answered, 0);
            prop_assert_eq!(before.flush.is_some(), controls.vp_flags != 0);
            prop_assert_eq!(before.flush == Some(Flush::Invalidate), controls.vp_flags & 1 == 1);
        }
    }

    /// What is entered again without a check would have passed it, with the same result.
    #[test]
    fn what_is_wanted_again_would_pass(
        first in controls(),
        next in controls(),
        kept in any::<u16>(),
        limits in limits(),
    ) {
        let Ok((mut entry, msrs, _)) = first.validate(&limits, &PerVm::default()) else {
            return Ok(());
        };
        let next = mixed(&first, &next, kept);
        if entry.is_wanted_again(&msrs, &Page(next), &limits) {
            let found = next.validate(&limits, &PerVm::default());
            let (expected, expected_msrs, before) = found.unwrap();
            prop_assert_eq!((entry, msrs), (expected, expected_msrs));
            prop_assert!(!before.is_halted && before.deadline.is_none());
            prop_assert!(before.flush.is_none());
        }
    }
}

/// Makes sure that the strategies reach the interesting answers.
#[test]
#[cfg_attr(miri, ignore = "Miri takes too long to draw so often")]
fn the_snapshots_reach_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut found = [0_u32; 2];
    for _ in 0..4000 {
        let controls = controls().new_tree(&mut runner).unwrap().current();
        let limits = limits().new_tree(&mut runner).unwrap().current();
        let answer = match controls.validate(&limits, &PerVm::default()) {
            Ok(_) => 0,
            Err(Refusal::Invalid) => 1,
        };
        found[answer] += 1;
    }
    assert!(found.iter().all(|&count| count > 0), "{found:?}");
}
