// SPDX-License-Identifier: GPL-2.0
//! Tests of `controls.rs`: which snapshots are accepted, and which need no check.

use super::*;

const LIMITS: Limits = Limits {
    num_l2_vms: 2,
    address_bits: 48,
    xss: None,
    has_tsc_aux: true,
    mxcsr: 0xffff,
};

const GIVEN: PerVm<SharedMsrs> = PerVm::new([SharedMsrs::RESET; 4]);

fn good() -> Controls {
    Controls {
        flags: 0,
        vp_flags: 0,
        deadline_update: 0,
        deadline: 5,
        offload: 3,
        entry_rcx: (1 << 52) | 1,
        msrs: SharedMsrs::default(),
        cr2: u64::MAX,
        mxcsr: 0x1f80,
    }
}

fn before(controls: Controls) -> Before {
    controls.validate(&LIMITS, &GIVEN).unwrap().2
}

impl Fields for Controls {
    fn flags(&self) -> u32 {
        self.flags
    }

    fn vp_flags(&self) -> u64 {
        self.vp_flags
    }

    fn deadline_update(&self) -> u8 {
        self.deadline_update
    }

    fn entry_rcx(&self) -> u64 {
        self.entry_rcx
    }

    fn are_msrs(&self, msrs: &SharedMsrs) -> bool {
        self.msrs == *msrs
    }

    fn cr2(&self) -> u64 {
        self.cr2
    }

    fn mxcsr(&self) -> u32 {
        self.mxcsr
    }
}

#[test]
fn only_the_same_entry_is_wanted_again() {
    let plain = Controls {
        entry_rcx: 1 << 52,
        ..good()
    };
    let (accepted, msrs, _) = plain.validate(&LIMITS, &GIVEN).unwrap();
    let is_again = |controls: Controls| {
        let mut entry = accepted;
        let is_again = entry.is_wanted_again(&msrs, &controls, &LIMITS);
        // Otherwise it stays what was accepted.
        assert!(is_again || entry == accepted);
        is_again
    };
    assert!(is_again(plain));
    let with_msrs = |change: fn(&mut SharedMsrs)| {
        let mut controls = plain;
        change(&mut controls.msrs);
        controls
    };
    let others = [
        good(),
        Controls { flags: 1, ..plain },
        Controls { flags: 2, ..plain },
        Controls {
            vp_flags: 1,
            ..plain
        },
        Controls {
            vp_flags: 4,
            ..plain
        },
        Controls {
            deadline_update: 1,
            ..plain
        },
        Controls {
            entry_rcx: 2 << 52,
            ..plain
        },
        Controls {
            entry_rcx: 0,
            ..plain
        },
        Controls {
            mxcsr: 1 << 16,
            ..plain
        },
        with_msrs(|msrs| msrs.kernel_gs_base = 1),
        with_msrs(|msrs| msrs.star = 1),
        with_msrs(|msrs| msrs.lstar = 1),
        with_msrs(|msrs| msrs.sfmask = 1),
        with_msrs(|msrs| msrs.xss = 1),
        with_msrs(|msrs| msrs.tsc_aux = 1),
    ];
    for controls in others {
        assert!(!is_again(controls), "{controls:?}");
    }
}

#[test]
fn an_entry_that_is_wanted_again_has_the_new_cr2_and_mxcsr() {
    let plain = Controls {
        entry_rcx: 1 << 52,
        ..good()
    };
    let (mut entry, msrs, _) = plain.validate(&LIMITS, &GIVEN).unwrap();
    let changed = Controls {
        cr2: 7,
        mxcsr: 0x1fa0,
        deadline: 6,
        offload: 0,
        ..plain
    };
    assert!(entry.is_wanted_again(&msrs, &changed, &LIMITS));
    let (expected, ..) = changed.validate(&LIMITS, &GIVEN).unwrap();
    assert_eq!(entry, expected);
}

#[test]
fn the_state_after_a_reset_is_accepted() {
    let Entry { rcx, cr2, mxcsr } = Entry::RESET;
    let controls = Controls {
        entry_rcx: rcx.raw(),
        msrs: SharedMsrs::RESET,
        cr2,
        mxcsr,
        ..good()
    };
    let none = Limits {
        num_l2_vms: 1,
        xss: None,
        has_tsc_aux: false,
        mxcsr: 0,
        ..LIMITS
    };
    let (entry, msrs, _) = controls.validate(&none, &GIVEN).unwrap();
    assert_eq!((entry, msrs), (Entry::RESET, SharedMsrs::RESET));
}

#[test]
fn a_good_snapshot_passes_unchanged() {
    let (entry, ..) = good().validate(&LIMITS, &GIVEN).unwrap();
    assert_eq!(entry.rcx.raw(), 1 << 52);
    assert_eq!(entry.cr2, u64::MAX);
    assert_eq!(entry.mxcsr, 0x1f80);
}

#[test]
fn each_wrong_field_is_invalid() {
    let bad = [
        Controls { flags: 2, ..good() },
        Controls {
            vp_flags: 4,
            ..good()
        },
        Controls {
            entry_rcx: 3 << 52,
            ..good()
        },
        Controls {
            entry_rcx: (1 << 52) | 4,
            ..good()
        },
        Controls {
            msrs: SharedMsrs {
                lstar: 1 << 47,
                ..good().msrs
            },
            ..good()
        },
        Controls {
            mxcsr: 1 << 16,
            ..good()
        },
    ];
    for controls in bad {
        assert_eq!(
            controls.validate(&LIMITS, &GIVEN),
            Err(Refusal::Invalid),
            "{controls:?}"
        );
    }
}

#[test]
fn what_the_processor_gave_to_a_vm_is_taken_back_from_that_vm() {
    let mut given = GIVEN;
    given.of_mut(VmIndex::new(2).unwrap()).lstar = 1 << 55;
    let msrs = SharedMsrs {
        lstar: 1 << 55,
        ..good().msrs
    };
    let of_vm = |vm: u64| Controls {
        entry_rcx: vm << 52,
        msrs,
        ..good()
    };
    assert!(of_vm(2).validate(&LIMITS, &given).is_ok());
    assert_eq!(of_vm(1).validate(&LIMITS, &given), Err(Refusal::Invalid));
}

#[test]
fn a_renewed_entry_says_what_changed_of_the_same_vm() {
    let (first, _, before) = good().validate(&LIMITS, &GIVEN).unwrap();
    let offload = Offload::new(0x43, first.rcx.vm());
    assert_eq!(first.renewed(RUN_HALTED, 0x43), Ok((true, offload)));
    assert_eq!(first.renewed(0, 3), Ok((false, before.offload)));
    for bit in (0..32).filter(|bit| 1 << bit != RUN_HALTED) {
        assert_eq!(first.renewed(1 << bit, 3), Err(Refusal::Invalid));
    }
}

#[test]
fn halted_is_passed_on() {
    assert!(!before(good()).is_halted);
    let halted = Controls {
        flags: RUN_HALTED,
        ..good()
    };
    assert!(before(halted).is_halted);
}

#[test]
fn the_deadline_counts_only_with_its_update() {
    let deadline = |deadline_update, deadline| {
        let controls = Controls {
            deadline_update,
            deadline,
            ..good()
        };
        before(controls).deadline
    };
    assert_eq!(deadline(0, 5), None);
    assert_eq!(deadline(1, 5), Some(5));
    assert_eq!(deadline(1, 0), Some(u64::MAX));
}

#[test]
fn offload_belongs_to_the_vm_that_is_entered() {
    let vm2 = Controls {
        entry_rcx: 2 << 52,
        ..good()
    };
    let is_served = |controls| before(controls).offload.takes_icr();
    assert!(is_served(good()));
    assert!(!is_served(vm2));
}

#[test]
fn a_flush_is_what_the_flags_ask_for_and_answers_no_more() {
    let flush = |vp_flags| before(Controls { vp_flags, ..good() }).flush;
    assert_eq!(flush(0), None);
    assert_eq!(flush(1), Some(Flush::Invalidate));
    assert_eq!(flush(2), Some(Flush::WriteBack));
    assert_eq!(flush(3), Some(Flush::Invalidate));
    assert_eq!(Flush::Invalidate.flags(), 3);
    assert_eq!(Flush::WriteBack.flags(), 2);
}
