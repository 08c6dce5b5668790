// SPDX-License-Identifier: GPL-2.0
//! What TDG.VP.ENTER brought back, and its classification.
//!
//! `classify` is total: whatever the TDX module or a hostile host makes of RAX has an arm.
//! `next.rs` decides what follows.

use super::status::Status;

/// Registers behind TDG.VP.ENTER, in the order of the run page's `exit_info`.
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

/// Valid bit of the IDT-vectoring information. The information is the *low* half of R10; the high
/// half is the error code, which may well have its bit 31 set.
const IDT_VECTORING_VALID: u64 = 1 << 31;

impl RawExit {
    /// A status that has no further information.
    pub fn without_information(status: Status) -> Self {
        Self {
            rax: status.0,
            ..Self::default()
        }
    }

    /// Status part of RAX.
    pub const fn status(&self) -> Status {
        Status(self.rax)
    }

    /// Whether the exit cut off the delivery of an event, which only userspace can deliver again.
    pub const fn has_event_to_redeliver(&self) -> bool {
        self.r10 & IDT_VECTORING_VALID != 0
    }

    /// Basic exit reason.
    pub const fn basic_reason(&self) -> u16 {
        self.rax as u16 // CAST: the low 16 bits
    }

    /// Returns true if the event that exited is an exception of the guest, and not an NMI.
    pub const fn is_exception(&self) -> bool {
        const VALID: u64 = 1 << 31;
        const TYPE: u64 = 0x7 << 8;
        const HARDWARE_EXCEPTION: u64 = 3 << 8;
        self.r9 & (VALID | TYPE) == VALID | HARDWARE_EXCEPTION
    }
}

/// What kind of return TDG.VP.ENTER was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The L2 ran and stopped for a reason that is L1's.
    ForL1,
    /// The L2 ran; the host took the exit and then resumed L1, which finds the reason repeated.
    HostRouted,
    /// As `HostRouted`, after a TDVMCALL of the L2: it is done, RIP is past it.
    HostCalled,
    /// The L2 ran until an interrupt for L1 came.
    Interrupted,
    /// The L2 did not run, nothing is wrong.
    NotEntered,
    /// The TDX module refused, or answered what it never should.
    Refused,
}

impl Exit {
    /// Whether instructions of the L2 may have run, and the invalidation was done.
    pub const fn has_run(self) -> bool {
        match self {
            Self::ForL1 | Self::HostRouted | Self::HostCalled | Self::Interrupted => true,
            Self::NotEntered | Self::Refused => false,
        }
    }
}

/// Classifies by the status alone: the exit reason in the low half says nothing before that.
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
