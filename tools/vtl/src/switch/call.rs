// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The VMCALLs that are VTL calls or returns: the same that the kernel carries out. [TLFS 15]

use crate::abi::ExitInfo;
use crate::run_page::{Gpr, RunPage};
use crate::vp::Vm;
use crate::{Status, reason};

/// Direction of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// VTL0 calls VTL1.
    Call,
    /// VTL1 returns, and VTL0's RAX and RCX come from VTL1's assist page.
    Return,
    /// VTL1 returns, and all shared registers stay as they are.
    FastReturn,
}

impl Direction {
    /// The VM that runs after the switch.
    pub const fn target(self) -> Vm {
        match self {
            Self::Call => Vm::VTL1,
            Self::Return | Self::FastReturn => Vm::VTL0,
        }
    }
}

const CODE_CALL: u64 = 0x11;
const CODE_RETURN: u64 = 0x12;
const RFLAGS_TF: u64 = 1 << 8;
const VMCALL_LENGTH: u64 = 3;
/// L of the CS access rights in RSI[31:16].
const CS_L: u64 = 1 << (16 + 13);
/// The exit interrupted the delivery of an event (R10).
const EVENT_VALID: u64 = 1 << 31;

/// Returns the direction of a valid call or return by `vm`, and RIP after the instruction.
pub(super) fn decide(vm: Vm, info: &ExitInfo, page: &RunPage) -> Option<(Direction, u64)> {
    let status = Status::from_raw(info.rax);
    let is_own = status.code() == Status::SUCCESS && info.r10 & EVENT_VALID == 0;
    if !is_own || status.details() != u32::from(reason::VMCALL) {
        return None;
    }
    let direction = match (vm, page.gpr(Gpr::Rcx), page.gpr(Gpr::Rax)) {
        (Vm::VTL0, CODE_CALL, 0) => Direction::Call,
        (Vm::VTL1, CODE_RETURN, 0) => Direction::Return,
        (Vm::VTL1, CODE_RETURN, 1) => Direction::FastReturn,
        _ => return None,
    };
    let is_kernel = info.r12 & 3 == 0 && info.rsi & CS_L != 0;
    let is_whole = info.r11 >> 32 == VMCALL_LENGTH && page.rflags() & RFLAGS_TF == 0;
    let next_rip = page.rip().checked_add(VMCALL_LENGTH)?;
    // RIP must stay canonical.
    let is_same_half = (next_rip ^ page.rip()) >> 47 == 0;
    (is_kernel && is_whole && is_same_half).then_some((direction, next_rip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_page::tests::loose_page;
    use rustix::io::Errno;

    fn vmcall() -> ExitInfo {
        ExitInfo {
            rax: 18,
            rsi: CS_L,
            r11: VMCALL_LENGTH << 32,
            ..ExitInfo::default()
        }
    }

    fn of(vm: Vm, info: &ExitInfo, rax: u64, rcx: u64) -> Result<Option<Direction>, Errno> {
        let page = loose_page()?;
        page.set_gpr(Gpr::Rax, rax);
        page.set_gpr(Gpr::Rcx, rcx);
        page.set_rip(0x1000);
        Ok(decide(vm, info, &page).map(|(direction, next_rip)| {
            assert_eq!(next_rip, 0x1003);
            direction
        }))
    }

    #[test]
    fn only_vtl0_calls_and_only_vtl1_returns() -> Result<(), Errno> {
        for vm in Vm::ALL {
            for rax in [0, 1, 2, 1 << 32, 1 << 63] {
                for rcx in [
                    0,
                    0x10,
                    0x11,
                    0x12,
                    0x13,
                    0x1_0011,
                    0x1_0012,
                    0x11 | (1 << 63),
                ] {
                    let expected = match (vm, rcx, rax) {
                        (Vm::VTL0, 0x11, 0) => Some(Direction::Call),
                        (Vm::VTL1, 0x12, 0) => Some(Direction::Return),
                        (Vm::VTL1, 0x12, 1) => Some(Direction::FastReturn),
                        _ => None,
                    };
                    assert_eq!(
                        of(vm, &vmcall(), rax, rcx)?,
                        expected,
                        "{vm:?} {rax:#x} {rcx:#x}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn an_exit_of_another_reason_or_mode_is_no_switch() -> Result<(), Errno> {
        let refused = [
            ExitInfo {
                rax: 12,
                ..vmcall()
            },
            ExitInfo {
                rax: (1 << 31) | 18,
                ..vmcall()
            },
            ExitInfo {
                rax: (0x1100 << 32) | 18,
                ..vmcall()
            },
            ExitInfo {
                r10: EVENT_VALID,
                ..vmcall()
            },
            ExitInfo { rsi: 0, ..vmcall() },
            ExitInfo {
                r11: 4 << 32,
                ..vmcall()
            },
            ExitInfo { r12: 3, ..vmcall() },
            ExitInfo { r12: 1, ..vmcall() },
        ];
        assert_eq!(of(Vm::VTL0, &vmcall(), 0, 0x11)?, Some(Direction::Call));
        for info in refused {
            assert_eq!(of(Vm::VTL0, &info, 0, 0x11)?, None, "{info:x?}");
        }
        Ok(())
    }

    #[test]
    fn a_single_step_or_the_end_of_the_address_space_is_no_switch() -> Result<(), Errno> {
        let page = loose_page()?;
        page.set_gpr(Gpr::Rcx, CODE_CALL);
        let at = |rip, rflags| {
            page.set_rip(rip);
            page.set_rflags(rflags);
            decide(Vm::VTL0, &vmcall(), &page).map(|(_, next_rip)| next_rip)
        };
        assert_eq!(at(0x1000, RFLAGS_TF), None);
        assert_eq!(at(0x7fff_ffff_fffd, 0), None);
        assert_eq!(at(u64::MAX - 2, 0), None);
        assert_eq!(at(0x7fff_ffff_fffc, 0), Some(0x7fff_ffff_ffff));
        assert_eq!(at(0xffff_8000_0000_0000, 0), Some(0xffff_8000_0000_0003));
        Ok(())
    }
}
