// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Events whose delivery an exit interrupted, and which are injected again.

use super::Vp;
use crate::abi::ExitInfo;
use crate::field::L2Field;
use crate::{Result, Status};

/// Bit of the raw exit reason: the entry failed, and the guest did not run.
const ENTRY_FAILURE: u32 = 1 << 31;

/// Returns true if the guest ran, or the processor tried to deliver an event to it: then the event
/// fields belong to this exit.
///
/// A failed entry (reasons 33, 34, 41 with bit 31) leaves the event fields as an earlier exit set
/// them, and the event to inject where it is: the next entry will inject it [SDM3 28.8].
pub(super) fn has_run(info: &ExitInfo) -> bool {
    let status = Status::from_raw(info.rax);
    let is_exit = matches!(
        status.code(),
        Status::SUCCESS
            | Status::L2_EXIT_HOST_ROUTED_ASYNC
            | Status::L2_EXIT_HOST_ROUTED_TDVMCALL
            | Status::L2_EXIT_PENDING_INTERRUPT
    );
    is_exit && status.details() & ENTRY_FAILURE == 0
}

/// An event, as written to the L2 VMCS to inject it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redelivery {
    entry_info: u64,
    error_code: u64,
    instruction_length: u64,
}

impl Redelivery {
    /// The event of an exit, from the IDT-vectoring information in the low half of R10
    /// [ABI TDG.VP.ENTER].
    pub(super) fn of(info: &ExitInfo) -> Option<Self> {
        const VALID: u64 = 1 << 31;
        /// Undefined in the vectoring information, but reserved in the entry's.
        const BIT_12: u64 = 1 << 12;
        if !has_run(info) || info.r10 & VALID == 0 {
            return None;
        }
        Some(Self {
            entry_info: info.r10 & 0xffff_ffff & !BIT_12,
            error_code: info.r10 >> 32,
            instruction_length: info.r11 >> 32,
        })
    }

    const fn is_nmi(self) -> bool {
        (self.entry_info >> 8) & 7 == 2
    }

    const fn has_error_code(self) -> bool {
        self.entry_info & (1 << 11) != 0
    }

    /// Returns true for software interrupts and exceptions, whose instruction has a length.
    const fn is_software(self) -> bool {
        matches!((self.entry_info >> 8) & 7, 4..=6)
    }
}

impl Vp {
    /// Injects an event again that an exit interrupted, before whatever the answer to the exit
    /// injects.
    pub(super) fn redeliver(&self, redelivery: Redelivery) -> Result<()> {
        const BLOCKING_BY_NMI: u64 = 1 << 3;
        if redelivery.is_nmi() {
            // An entry can't inject an NMI while NMIs are blocked.
            self.write_masked(L2Field::GUEST_INTERRUPTIBILITY, 0, BLOCKING_BY_NMI)?;
        }
        // Fields that the event does not use are undefined, and may hold values that can't be
        // written.
        if redelivery.has_error_code() {
            self.write(L2Field::ENTRY_EXCEPTION_ERROR_CODE, redelivery.error_code)?;
        }
        if redelivery.is_software() {
            self.write(
                L2Field::ENTRY_INSTRUCTION_LENGTH,
                redelivery.instruction_length,
            )?;
        }
        self.write(L2Field::ENTRY_INTERRUPTION_INFO, redelivery.entry_info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An exit of which everything but RAX is what an earlier one left.
    fn stale(rax: u64) -> ExitInfo {
        ExitInfo {
            rax,
            r10: (0x18 << 32) | 0x8000_0b0d,
            r11: 2 << 32,
            ..ExitInfo::default()
        }
    }

    #[test]
    fn an_event_that_was_cut_off_is_delivered_again() {
        let mut info = stale((0x1102 << 32) | 1);
        info.r10 |= 1 << 12;
        let expected = Redelivery {
            entry_info: 0x8000_0b0d,
            error_code: 0x18,
            instruction_length: 2,
        };
        assert_eq!(Redelivery::of(&info), Some(expected));
        assert!(!expected.is_nmi());
        let none = ExitInfo {
            rax: 10,
            r10: 0x7fff_0b0d,
            ..ExitInfo::default()
        };
        assert_eq!(Redelivery::of(&none), None);
    }

    #[test]
    fn an_entry_that_failed_leaves_no_event_of_an_earlier_exit_to_deliver() {
        for reason in [33, 34, 41] {
            assert!(Redelivery::of(&stale(reason)).is_some());
            assert_eq!(Redelivery::of(&stale(reason | (1 << 31))), None);
        }
    }

    #[test]
    fn an_entry_that_did_not_happen_leaves_nothing_to_deliver() {
        for code in [0x1120_u64, 0x8000_1103, 0xc000_0100, 0x8000_0200, 0x1103] {
            assert_eq!(Redelivery::of(&stale((code << 32) | 10)), None, "{code:#x}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_delivered_that_the_entry_would_refuse(rax: u64, r10: u64, r11: u64) {
            let info = ExitInfo { rax, r10, r11, ..ExitInfo::default() };
            if let Some(event) = Redelivery::of(&info) {
                prop_assert!(has_run(&info) && rax & (1 << 31) == 0);
                prop_assert!(event.entry_info >> 32 == 0 && event.entry_info & (1 << 12) == 0);
                prop_assert!(event.entry_info >> 31 == 1);
            }
        }
    }
}
