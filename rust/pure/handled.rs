// SPDX-License-Identifier: GPL-2.0
//! Exits of the lower VTL that the kernel can handle itself if userspace allows it: HLT, guest idle,
//! writes of the ICR, and the timer. `next.rs` calls this only after checking what rules it out for any
//! exit.
//!
//! Anything unusual is left to userspace, which has all of the VP's state: single steps, other
//! privilege levels, instructions at the end of the address space.

use super::deadline::MSR_TSC_DEADLINE;
use super::exit::RawExit;
use super::icr::{Ipi, MSR_X2APIC_ICR};
use super::next::Next;
use super::offload::{Halt, Offload};

/// Registers of the lower VTL that tell what it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guest {
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP, at the instruction that exited.
    pub rip: u64,
}

/// An instruction, or an expired deadline, that the kernel handles in place of userspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handled {
    /// What it does.
    pub action: Action,
    /// RIP after the instruction.
    pub next_rip: u64,
    /// Blocking of interrupts by an earlier STI or MOV SS has to be cleared, since it ends with
    /// this instruction. While RFLAGS.IF is clear it makes no difference.
    pub ends_shadow: bool,
}

/// What the exit is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Waits for an interrupt.
    Halt(Halt),
    /// Sends an interrupt.
    Send(Ipi),
    /// Writes IA32_TSC_DEADLINE. Only if userspace has left the timer to the kernel.
    SetTimer(u64),
    /// The deadline has passed. Likewise, and only if the deadline is the timer's.
    Expire,
}

/// An RDMSR of it makes the processor idle. [TLFS 10.1.4]
const HV_X64_MSR_GUEST_IDLE: u32 = 0x4000_00f0;

const REASON_HLT: u32 = 12;
const REASON_RDMSR: u32 = 31;
const REASON_WRMSR: u32 = 32;
const REASON_PREEMPTION_TIMER: u32 = 52;

const RFLAGS_TF: u64 = 1 << 8;
pub(super) const RFLAGS_IF: u64 = 1 << 9;
/// The L bit of CS. Its access rights begin at bit 16 of RSI.
pub(super) const CS_LONG: u64 = 1 << (16 + 13);

/// Decides about an exit that L1 handles and that interrupted no event delivery. Compares the whole
/// raw reason, so that an exit with a further bit set in it does not match.
#[inline(always)]
pub(super) fn handle(exit: &RawExit, offload: Offload, guest: impl FnOnce() -> Guest) -> Next {
    let reason = exit.status().details();
    if !offload.takes_interrupts() {
        return Next::Userspace;
    }
    let guest = match reason {
        REASON_HLT | REASON_RDMSR | REASON_WRMSR | REASON_PREEMPTION_TIMER => guest(),
        _ => return Next::Userspace,
    };
    if reason == REASON_PREEMPTION_TIMER {
        // This exit comes between two instructions.
        return Next::Handle(Handled {
            action: Action::Expire,
            next_rip: guest.rip,
            ends_shadow: false,
        });
    }
    // Before the choice of the action, so that carrying it out can follow that at once.
    let Some(next_rip) = rip_after(exit, guest.rflags, guest.rip) else {
        return Next::Userspace;
    };
    let action = match (reason, guest.rcx as u32) {
        // With interrupts disabled only an NMI would end the halt, and NMIs are userspace's.
        (REASON_HLT, _) if guest.rflags & RFLAGS_IF != 0 => Action::Halt(Halt::Hlt),
        (REASON_RDMSR, HV_X64_MSR_GUEST_IDLE) => Action::Halt(Halt::GuestIdle),
        (REASON_WRMSR, MSR_X2APIC_ICR) if offload.takes_icr() => {
            match Ipi::decode(written(&guest)) {
                Some(ipi) => Action::Send(ipi),
                None => return Next::Userspace,
            }
        }
        (REASON_WRMSR, MSR_TSC_DEADLINE) => Action::SetTimer(written(&guest)),
        _ => return Next::Userspace,
    };
    Next::Handle(Handled {
        action,
        next_rip,
        ends_shadow: guest.rflags & RFLAGS_IF != 0,
    })
}

/// The operand of WRMSR.
const fn written(guest: &Guest) -> u64 {
    // CAST: the low halves of EDX and EAX.
    (guest.rdx << 32) | (guest.rax as u32 as u64)
}

/// Returns RIP after the instruction; `None` if advancing it has effects of its own.
#[inline(always)]
pub(super) fn rip_after(exit: &RawExit, rflags: u64, rip: u64) -> Option<u64> {
    let len_bytes = exit.r11 >> 32;
    let is_user = exit.r12 & 0x3 != 0;
    if rflags & RFLAGS_TF != 0 || is_user || !(1..=15).contains(&len_bytes) {
        return None;
    }
    let next = rip.wrapping_add(len_bytes);
    let is_beyond = if exit.rsi & CS_LONG != 0 {
        // The next instruction must not be at a non-canonical address, nor at the other end.
        (next ^ rip) >> 47 != 0
    } else {
        (next | rip) >> 32 != 0
    };
    if is_beyond {
        return None;
    }
    Some(next)
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_handled),
    allow(unsafe_code)
)]
mod tests {
    use super::*;
    use crate::pure::field::VmIndex;
    use crate::pure::icr::Target;

    /// Fewer values under Miri, which is slow.
    const STEP: usize = if cfg!(miri) { 251 } else { 1 };

    fn handled(exit: &RawExit, offload: Offload, guest: impl FnOnce() -> Guest) -> Option<Handled> {
        match handle(exit, offload, guest) {
            Next::Handle(handled) => Some(handled),
            other => {
                assert_eq!(other, Next::Userspace);
                None
            }
        }
    }

    fn exit(reason: u32) -> RawExit {
        RawExit {
            rax: u64::from(reason),
            rsi: CS_LONG,
            r11: 2 << 32,
            ..RawExit::default()
        }
    }

    fn offload() -> Offload {
        Offload::new(3, VmIndex::VM1)
    }

    fn guest(rcx: u64) -> Guest {
        Guest {
            rcx,
            rax: 0xffff_ffff_0000_0041,
            rdx: 0xffff_ffff_0000_0007,
            rflags: RFLAGS_IF | 2,
            rip: 0x1000,
        }
    }

    #[test]
    fn hlt_idle_and_icr_are_handled() {
        let action = |reason, rcx| {
            let handled = handled(&exit(reason), offload(), || guest(rcx)).unwrap();
            assert_eq!(handled.next_rip, 0x1002);
            assert!(handled.ends_shadow);
            handled.action
        };
        assert_eq!(action(12, 0), Action::Halt(Halt::Hlt));
        // The high half of RCX is ignored.
        assert_eq!(
            action(31, 0xffff_ffff_4000_00f0),
            Action::Halt(Halt::GuestIdle)
        );
        let ipi = Ipi::decode(0x7_0000_0041).unwrap();
        assert_eq!(ipi.vector().get(), 0x41);
        assert_eq!(ipi.target(), Target::Physical(7));
        assert_eq!(action(32, 0x830), Action::Send(ipi));
        assert_eq!(action(32, 0x6e0), Action::SetTimer(0x7_0000_0041));
    }

    #[test]
    fn the_end_of_a_deadline_moves_nothing_and_says_nothing_about_an_instruction() {
        let odd = RawExit {
            r11: 0,
            r12: 3,
            ..exit(52)
        };
        let stepping = Guest {
            rflags: RFLAGS_TF,
            ..guest(0x6e0)
        };
        let expected = Handled {
            action: Action::Expire,
            next_rip: 0x1000,
            ends_shadow: false,
        };
        assert_eq!(handled(&odd, offload(), || stepping), Some(expected));
    }

    #[test]
    fn every_other_reason_and_msr_is_userspaces() {
        let basic = (0..64).chain((64..0x1_0000).step_by(STEP));
        for reason in basic.chain((16..32).map(|bit| (1 << bit) | 12)) {
            for rcx in [
                0,
                0x10,
                0x6df,
                0x6e1,
                0x82f,
                0x831,
                0x4000_00ef,
                0x4000_00f1,
            ] {
                let is_whatever_msr = reason == 12 || reason == 52;
                let found = handled(&exit(reason), offload(), || guest(rcx));
                assert_eq!(
                    (reason, rcx, found.is_some()),
                    (reason, rcx, is_whatever_msr)
                );
            }
        }
        assert_eq!(handled(&exit(31), offload(), || guest(0x830)), None);
        assert_eq!(handled(&exit(31), offload(), || guest(0x6e0)), None);
        assert_eq!(handled(&exit(32), offload(), || guest(0x4000_00f0)), None);
    }

    #[test]
    fn without_leave_nothing_is_handled() {
        for raw in 0..=255_u8 {
            for (vm, is_served) in [(VmIndex::VM1, true), (VmIndex::new(2).unwrap(), false)] {
                let is_handled = |reason, rcx| {
                    let offload = Offload::new(raw, vm);
                    handled(&exit(reason), offload, || guest(rcx)).is_some()
                };
                assert_eq!(is_handled(12, 0), is_served && raw & 1 != 0);
                assert_eq!(is_handled(31, 0x4000_00f0), is_served && raw & 1 != 0);
                assert_eq!(is_handled(32, 0x830), is_served && raw & 3 == 3);
                assert_eq!(is_handled(32, 0x6e0), is_served && raw & 1 != 0);
                assert_eq!(is_handled(52, 0), is_served && raw & 1 != 0);
            }
        }
    }

    #[test]
    fn single_steps_user_mode_and_odd_lengths_are_userspaces() {
        let with = |exit: RawExit, guest: Guest| handled(&exit, offload(), || guest);
        let steps = Guest {
            rflags: RFLAGS_TF | RFLAGS_IF,
            ..guest(0)
        };
        assert_eq!(with(exit(12), steps), None);
        for cpl in 1..4 {
            let user = RawExit {
                r12: cpl,
                ..exit(12)
            };
            assert_eq!(with(user, guest(0)), None);
        }
        for len_bytes in [0, 16, 0xffff_ffff] {
            let odd = RawExit {
                r11: len_bytes << 32,
                ..exit(12)
            };
            assert_eq!(with(odd, guest(0)), None);
        }
    }

    #[test]
    fn halted_with_interrupts_off_is_userspaces_but_idle_is_not() {
        let off = |rcx| Guest {
            rflags: 2,
            ..guest(rcx)
        };
        assert_eq!(handled(&exit(12), offload(), || off(0)), None);
        let idle = handled(&exit(31), offload(), || off(0x4000_00f0)).unwrap();
        assert!(!idle.ends_shadow);
    }

    #[test]
    fn no_step_leaves_the_address_space() {
        let at = |rip, rsi| {
            let exit = RawExit { rsi, ..exit(12) };
            let guest = Guest { rip, ..guest(0) };
            handled(&exit, offload(), || guest).map(|handled| handled.next_rip)
        };
        assert_eq!(at(0x7fff_ffff_fff0, CS_LONG), Some(0x7fff_ffff_fff2));
        assert_eq!(at(0x7fff_ffff_fffe, CS_LONG), None);
        assert_eq!(at(u64::MAX - 1, CS_LONG), None);
        assert_eq!(
            at(0xffff_8000_0000_0000, CS_LONG),
            Some(0xffff_8000_0000_0002)
        );
        assert_eq!(at(0xffff_fffc, 0), Some(0xffff_fffe));
        assert_eq!(at(0xffff_fffe, 0), None);
        assert_eq!(at(0x1_0000_0000, 0), None);
    }
}
