// SPDX-License-Identifier: GPL-2.0
//! Completion status of a TDCALL.
//!
//! The high half is the name of the status, the low half holds details: for TDG.VP.ENTER the raw
//! exit reason, for an invalid operand the number of the operand. [ABI completion status]

/// RAX as the TDX module left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub u64);

/// Number of an operand, in the details of [`Status::OPERAND_INVALID`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// RAX: the leaf itself.
    Rax = 0,
    /// RCX.
    Rcx = 1,
    /// RDX.
    Rdx = 2,
    /// R8.
    R8 = 8,
    /// The virtual-APIC address of an L2 VM, which is no register. [ABI operand IDs]
    L2VapicGpa = 170,
}

impl Status {
    /// SUCCESS.
    pub const SUCCESS: u32 = 0;
    /// OPERAND_INVALID.
    pub const OPERAND_INVALID: u32 = 0xc000_0100;
    /// OPERAND_BUSY: another CPU holds the object; try again.
    pub const OPERAND_BUSY: u32 = 0x8000_0200;
    /// L2_EXIT_HOST_ROUTED_ASYNC: the host took an exit and passes it on to L1.
    pub const L2_EXIT_HOST_ROUTED_ASYNC: u32 = 0x1100;
    /// L2_EXIT_HOST_ROUTED_TDVMCALL: the same after a TDVMCALL of the L2.
    pub const L2_EXIT_HOST_ROUTED_TDVMCALL: u32 = 0x1101;
    /// L2_EXIT_PENDING_INTERRUPT: the L2 ran until L1 had a pending interrupt.
    pub const L2_EXIT_PENDING_INTERRUPT: u32 = 0x1102;
    /// L2_VM_ENTRY_FAILED: the processor refuses the controls of the L2. Version 1.5 never returns
    /// it.
    pub const L2_VM_ENTRY_FAILED: u32 = 0x8000_1103;
    /// PENDING_INTERRUPT: L1 has a pending interrupt; the L2 was not entered.
    pub const PENDING_INTERRUPT: u32 = 0x1120;
    /// TD_EXIT_BEFORE_L2_ENTRY: only in debug TDs; the L2 was not entered.
    pub const TD_EXIT_BEFORE_L2_ENTRY: u32 = 0x1140;

    /// Combines a name and details.
    pub const fn new(name: u32, details: u32) -> Self {
        Self(((name as u64) << 32) | details as u64)
    }

    /// The TDX module's answer if `operand` is not acceptable.
    pub const fn operand_invalid(operand: Operand) -> Self {
        Self::new(Self::OPERAND_INVALID, operand as u32)
    }

    /// Status for an ioctl that ends without an exit for userspace: an interrupt ended the lower
    /// VTL's last run, or prevented it.
    pub const fn interrupted(has_run: bool) -> Self {
        if has_run {
            Self::new(Self::L2_EXIT_PENDING_INTERRUPT, 1)
        } else {
            Self::new(Self::PENDING_INTERRUPT, 0)
        }
    }

    /// Name of the status.
    pub const fn name(self) -> u32 {
        (self.0 >> 32) as u32 // CAST: the high half
    }

    /// Details, whose meaning depends on the name and the leaf.
    pub const fn details(self) -> u32 {
        self.0 as u32 // CAST: the low half
    }

    /// Returns true if the leaf succeeded. Does not apply to TDG.VP.ENTER, which has several good
    /// outcomes.
    pub const fn is_success(self) -> bool {
        self.name() == Self::SUCCESS
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_status),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_kept_apart() {
        let status = Status::new(Status::L2_EXIT_HOST_ROUTED_TDVMCALL, 77);
        assert_eq!(status.0, 0x0000_1101_0000_004d);
        assert_eq!((status.name(), status.details()), (0x1101, 77));
        assert_eq!(
            Status::operand_invalid(Operand::R8).0,
            0xc000_0100_0000_0008
        );
    }

    #[test]
    fn an_exit_reason_does_not_hide_success() {
        assert!(Status::new(Status::SUCCESS, 48).is_success());
        assert!(!Status::new(Status::PENDING_INTERRUPT, 0).is_success());
    }
}
