// SPDX-License-Identifier: GPL-2.0
//! The result of TDG.VP.ENTER, and its classification.
//!
//! `classify` is total: every value of RAX that the TDX module or a hostile host can produce has an
//! arm. `next.rs` decides what follows.

use super::status::Status;

/// Registers after TDG.VP.ENTER, in the order of `exit_info` in the run page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct RawExit {
    /// Status and raw exit reason.
    pub rax: u64,
    /// Exit qualification.
    pub rcx: u64,
    /// Guest-linear address.
    pub rdx: u64,
    /// CS selector, access rights, limit.
    pub rsi: u64,
    /// CS base.
    pub rdi: u64,
    /// Guest-physical address.
    pub r8: u64,
    /// Exit interruption information and error code.
    pub r9: u64,
    /// IDT-vectoring information and error code.
    pub r10: u64,
    /// Instruction information and length.
    pub r11: u64,
    /// Privilege level.
    pub r12: u64,
    /// Extended exit qualification.
    pub r13: u64,
}

/// Valid bit of the IDT-vectoring information, which is the *low* half of R10. The high half is the
/// error code, whose bit 31 may be set as well.
const IDT_VECTORING_VALID: u64 = 1 << 31;

impl RawExit {
    /// A status without further information.
    pub fn without_information(status: Status) -> Self {
        Self {
            rax: status.0,
            ..Self::default()
        }
    }

    /// Completion status: RAX, whose low half is the raw exit reason.
    pub const fn status(&self) -> Status {
        Status(self.rax)
    }

    /// Returns true if the exit interrupted the delivery of an event, which only userspace can
    /// deliver again.
    pub const fn has_event_to_redeliver(&self) -> bool {
        self.r10 & IDT_VECTORING_VALID != 0
    }

    /// Basic exit reason.
    pub const fn basic_reason(&self) -> u16 {
        self.rax as u16 // CAST: the low 16 bits
    }

    /// Returns true if the event that caused the exit is a hardware exception of the guest; an NMI
    /// is none.
    pub const fn is_exception(&self) -> bool {
        const VALID: u64 = 1 << 31;
        const TYPE: u64 = 0x7 << 8;
        const HARDWARE_EXCEPTION: u64 = 3 << 8;
        self.r9 & (VALID | TYPE) == VALID | HARDWARE_EXCEPTION
    }
}

/// How TDG.VP.ENTER ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The L2 ran and stopped for a reason that L1 handles.
    ForL1,
    /// The L2 ran; the host took the exit and resumed L1, which gets a copy of the reason.
    HostRouted,
    /// As `HostRouted`, after a TDVMCALL of the L2: the call is complete and RIP is past it.
    HostCalled,
    /// The L2 ran until an interrupt for L1 was pending.
    Interrupted,
    /// The L2 was not entered, without an error.
    NotEntered,
    /// The TDX module refused the entry, or returned a status that TDG.VP.ENTER does not have.
    Refused,
}

impl Exit {
    /// Returns true if the L2 may have executed instructions, and the requested invalidation was
    /// done.
    pub const fn has_run(self) -> bool {
        match self {
            Self::ForL1 | Self::HostRouted | Self::HostCalled | Self::Interrupted => true,
            Self::NotEntered | Self::Refused => false,
        }
    }

    /// Returns true if the host took the exit first.
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::HostRouted | Self::HostCalled)
    }
}

/// Classifies by the status alone: the low half is an exit reason only for some statuses.
pub const fn classify(exit: &RawExit) -> Exit {
    match exit.status().name() {
        Status::SUCCESS => Exit::ForL1,
        Status::L2_EXIT_HOST_ROUTED_ASYNC => Exit::HostRouted,
        Status::L2_EXIT_HOST_ROUTED_TDVMCALL => Exit::HostCalled,
        Status::L2_EXIT_PENDING_INTERRUPT => Exit::Interrupted,
        Status::PENDING_INTERRUPT | Status::TD_EXIT_BEFORE_L2_ENTRY => Exit::NotEntered,
        _ => Exit::Refused,
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_exit),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    fn status(name: u32, details: u32) -> Exit {
        classify(&RawExit {
            rax: Status::new(name, details).0,
            ..RawExit::default()
        })
    }

    #[test]
    fn the_six_benign_statuses_are_known() {
        assert_eq!(status(0, 10), Exit::ForL1);
        assert_eq!(status(0, 0x8000_0021), Exit::ForL1);
        assert_eq!(status(0x1100, 1), Exit::HostRouted);
        assert_eq!(status(0x1101, 77), Exit::HostCalled);
        assert_eq!(status(0x1102, 1), Exit::Interrupted);
        assert_eq!(status(0x1120, 0), Exit::NotEntered);
        assert_eq!(status(0x1140, 0), Exit::NotEntered);
    }

    #[test]
    fn everything_else_is_refused_whatever_the_low_half_says() {
        for name in [
            0x1103,
            0x1141,
            0xc000_0100,
            0x8000_0200,
            0x8000_1103,
            1,
            u32::MAX,
        ] {
            for details in [0, 10, 12, 170, u32::MAX] {
                assert_eq!(status(name, details), Exit::Refused);
            }
        }
    }

    #[test]
    fn exceptions_are_told_from_nmis() {
        let exit = |r9| RawExit {
            r9,
            ..RawExit::default()
        };
        assert!(exit(0x8000_0b0e).is_exception());
        assert!(exit(0x1_8000_0301).is_exception());
        for other in [0, 0x8000_0202, 0x0000_0b0e, 0x8000_0030, 0x8000_0b0e << 32] {
            assert!(!exit(other).is_exception());
        }
    }

    #[test]
    fn vectoring_is_read_from_the_low_half() {
        let exit = |r10| {
            RawExit {
                r10,
                ..RawExit::default()
            }
            .has_event_to_redeliver()
        };
        assert!(exit(0x8000_0b0e));
        // That is the error code.
        assert!(!exit(0x8000_0000_0000_0b0e));
        assert!(!exit(0));
    }
}
