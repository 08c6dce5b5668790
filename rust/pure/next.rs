// SPDX-License-Identifier: GPL-2.0
//! Decides what follows an exit. The run loop carries it out.

use super::exit::{Exit, RawExit};
use super::handled::{handle, Guest, Handled};
use super::offload::Offload;

/// What the run loop does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Store the exit and return 0.
    Userspace,
    /// Handle interrupts and signals, then enter again.
    EnterAgain,
    /// Carry out an instruction of the lower VTL, then proceed as for `EnterAgain`.
    Handle(Handled),
    /// Return EIO; userspace finds the status in the run page.
    Fail,
}

/// Returns true for an exit about which [`next`] need not be asked: userspace handles all that are L1's.
#[inline(always)]
pub fn is_userspaces(class: Exit, offload: Offload) -> bool {
    class == Exit::ForL1 && !offload.takes_interrupts()
}

/// Decides about an exit. One with an event to redeliver always goes to userspace: entering again
/// would lose the event. `guest` is called only if its registers matter.
#[inline(always)]
pub fn next(class: Exit, exit: &RawExit, offload: Offload, guest: impl FnOnce() -> Guest) -> Next {
    if class.has_run() && exit.has_event_to_redeliver() {
        return Next::Userspace;
    }
    match class {
        Exit::ForL1 => handle(exit, offload, guest),
        Exit::HostRouted if is_of_the_guest(exit) => Next::Userspace,
        Exit::HostRouted | Exit::HostCalled | Exit::Interrupted | Exit::NotEntered => {
            Next::EnterAgain
        }
        Exit::Refused => Next::Fail,
    }
}

const EXCEPTION_OR_NMI: u16 = 0;
const EPT_VIOLATION: u16 = 48;
const EPT_MISCONFIGURATION: u16 = 49;

/// Returns true if an exit that the host took first is caused by what the guest did.
///
/// L1 has no other way to learn of an access to an address that is not mapped for it, which is how
/// a guest does MMIO. RIP is still at the instruction, so executing it again is right if the page
/// has been mapped meanwhile. Interrupts, NMIs, bus locks and the like are the host's own and need
/// nothing from L1. [TDP 3.6]
const fn is_of_the_guest(exit: &RawExit) -> bool {
    match exit.basic_reason() {
        EPT_VIOLATION | EPT_MISCONFIGURATION => true,
        EXCEPTION_OR_NMI => exit.is_exception(),
        _ => false,
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_next),
    allow(unsafe_code)
)]
mod tests {
    use super::*;
    use crate::pure::exit::classify;
    use crate::pure::field::VmIndex;
    use crate::pure::offload::INTR_INJECT;
    use crate::pure::status::Status;

    /// Fewer values under Miri, which is slow.
    const STEP: usize = if cfg!(miri) { 251 } else { 1 };

    const VECTORING: u64 = 0x8000_0030;
    const BENIGN: [u32; 6] = [0, 0x1100, 0x1101, 0x1102, 0x1120, 0x1140];

    /// The decision if everything is offloaded and the guest is in a state where every exit could
    /// be handled.
    fn after(rax: u64, r10: u64) -> Next {
        let exit = RawExit {
            rax,
            r10,
            r11: 2 << 32,
            ..RawExit::default()
        };
        let guest = || Guest {
            rcx: 0x4000_00f0,
            rflags: 0x202,
            ..Guest::default()
        };
        next(
            classify(&exit),
            &exit,
            Offload::new(0xff, VmIndex::VM1),
            guest,
        )
    }

    fn status(name: u32, details: u32) -> u64 {
        Status::new(name, details).0
    }

    #[test]
    fn of_what_is_userspaces_nothing_is_left_to_decide() {
        let offload = Offload::new(!INTR_INJECT, VmIndex::VM1);
        for name in BENIGN.into_iter().chain([0xc000_0100]) {
            for details in (0..0x100).chain([0x8000_0021, u32::MAX]) {
                for r10 in [0, VECTORING] {
                    let exit = RawExit {
                        rax: status(name, details),
                        r10,
                        ..RawExit::default()
                    };
                    let class = classify(&exit);
                    assert_eq!(is_userspaces(class, offload), name == 0);
                    assert!(!is_userspaces(class, Offload::new(0xff, VmIndex::VM1)));
                    if name == 0 {
                        let next = next(class, &exit, offload, Guest::default);
                        assert_eq!(next, Next::Userspace);
                    }
                }
            }
        }
    }

    #[test]
    fn exits_for_l1_go_to_userspace() {
        assert_eq!(after(status(0, 1), 0), Next::Userspace);
        assert_eq!(after(status(0, 53), 0), Next::Userspace);
        assert_eq!(after(status(0, 45), 0), Next::Userspace);
    }

    #[test]
    fn interrupts_and_host_routed_exits_stay_in_the_kernel() {
        for name in [0x1100, 0x1101, 0x1102] {
            assert_eq!(after(status(name, 1), 0), Next::EnterAgain);
        }
    }

    #[test]
    fn of_host_routed_exits_only_mmio_is_seen_and_none_is_emulated() {
        for name in BENIGN.into_iter().skip(1) {
            for details in (0..0x1_0000).step_by(STEP).chain([12, 31, 48, 49, 74, 77]) {
                let is_mmio = name == 0x1100 && matches!(details, 48 | 49);
                let expected = [Next::EnterAgain, Next::Userspace][usize::from(is_mmio)];
                let next = after(status(name, details), 0);
                assert_eq!((name, details, next), (name, details, expected));
            }
        }
        // A bus lock detected before the access makes no difference.
        assert_eq!(after(status(0x1100, 48 | (1 << 26)), 0), Next::Userspace);
    }

    #[test]
    fn an_exception_that_comes_by_way_of_the_host_is_seen_and_an_nmi_is_not() {
        let after = |name, r9| {
            let exit = RawExit {
                rax: status(name, 0),
                r9,
                ..RawExit::default()
            };
            let offload = Offload::new(0xff, VmIndex::VM1);
            next(classify(&exit), &exit, offload, Guest::default)
        };
        assert_eq!(after(0x1100, 0x8000_0b0e), Next::Userspace);
        assert_eq!(after(0x1100, 0x8000_0202), Next::EnterAgain);
        assert_eq!(after(0x1100, 0), Next::EnterAgain);
        assert_eq!(after(0x1102, 0x8000_0b0e), Next::EnterAgain);
    }

    #[test]
    fn an_event_cut_off_by_the_exit_is_never_swallowed() {
        for name in [0, 0x1100, 0x1101, 0x1102] {
            for details in (0..0x1_0000).step_by(STEP) {
                let next = after(status(name, details), VECTORING);
                assert_eq!((name, details, next), (name, details, Next::Userspace));
            }
        }
    }

    #[test]
    fn registers_say_nothing_when_the_l2_did_not_run() {
        assert_eq!(after(status(0x1120, 12), VECTORING), Next::EnterAgain);
        assert_eq!(after(status(0xc000_0100, 12), VECTORING), Next::Fail);
    }

    /// Checks every basic reason with every single further bit: only HLT, the read of guest idle and an
    /// expired deadline are handled, all others go to userspace.
    #[test]
    fn of_l1s_exits_only_those_served_stay_in_the_kernel() {
        for basic in (0..64).chain((64..0x1_0000_u32).step_by(STEP)) {
            for mark in core::iter::once(0).chain((16..32).map(|bit| 1 << bit)) {
                let is_served = mark == 0 && matches!(basic, 12 | 31 | 52);
                let is_handled = matches!(after(status(0, basic | mark), 0), Next::Handle(_));
                let is_seen = after(status(0, basic | mark), 0) == Next::Userspace;
                assert_eq!((basic, mark, is_handled), (basic, mark, is_served));
                assert_eq!((basic, mark, is_seen), (basic, mark, !is_served));
            }
        }
    }

    #[test]
    fn every_status_but_six_fails() {
        for class in (0..=0xff_u32).step_by(0x11) {
            for low in (0..=0xffff_u32).step_by(STEP) {
                let name = (class << 24) | low;
                if !BENIGN.contains(&name) {
                    assert_eq!((name, after(status(name, 12), 0)), (name, Next::Fail));
                }
            }
        }
    }
}
