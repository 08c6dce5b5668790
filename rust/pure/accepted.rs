// SPDX-License-Identifier: GPL-2.0
//! Decides if a piece of lower-VTL memory may be mapped by one entry, which needs each of its pages
//! to be accepted.
//!
//! The TDX module answers for one page at a time and tells the size of the page that it holds, so a
//! piece accepted in large pages takes few TDCALLs. Their number is bounded: a piece that would
//! need more is mapped in smaller ones.

use super::lower::LowerRange;
use super::status::{Operand, Status};
use super::tdcall::{tdg_mem_page_attr_rd, PageState, Tdcall};

/// What is known about a piece of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Every page is accepted.
    Accepted,
    /// Some page is not accepted, or the check would take too many TDCALLs.
    NotAccepted,
    /// Another CPU is changing a page of the piece at this moment: try again later.
    Busy,
    /// The check itself ran out of memory.
    Unknown,
}

/// TDCALLs per piece: enough for 2 MiB in 4 KiB pages, and for 1 GiB in 2 MiB pages.
const MAX_QUESTIONS: u32 = 512;

/// Asks the TDX module about every page of a piece.
pub fn acceptance(tdcall: &mut impl Tdcall, piece: LowerRange) -> Piece {
    let mut rest = piece;
    for _ in 0..MAX_QUESTIONS {
        let next = match tdg_mem_page_attr_rd(tdcall, rest) {
            Ok(PageState::Accepted { level }) => {
                let bytes = bytes(level);
                (rest.start_gpa() & !(bytes - 1)).saturating_add(bytes)
            }
            Ok(PageState::Pending) => return Piece::NotAccepted,
            Err(status) if status.name() == Status::OPERAND_BUSY => return Piece::Busy,
            Err(_) => return Piece::NotAccepted,
        };
        match rest.rest(next) {
            Some(left) => rest = left,
            None => return Piece::Accepted,
        }
    }
    Piece::NotAccepted
}

/// Checks that a page that is an operand of a TDCALL is accepted.
///
/// # Errors
///
/// The TDX module's answer for such an operand: invalid, or busy if another CPU is changing the page at
/// this moment.
pub fn accepted_operand(
    tdcall: &mut impl Tdcall,
    page: LowerRange,
    operand: Operand,
) -> Result<(), Status> {
    match tdg_mem_page_attr_rd(tdcall, page) {
        Ok(PageState::Accepted { .. }) => Ok(()),
        Err(status) if status.name() == Status::OPERAND_BUSY => {
            Err(Status::new(Status::OPERAND_BUSY, operand as u32))
        }
        Ok(PageState::Pending) | Err(_) => Err(Status::operand_invalid(operand)),
    }
}

/// Size of a page of `level`; unknown levels count as the smallest, so that the check always
/// advances.
pub const fn bytes(level: u8) -> u64 {
    match level {
        1 => 1 << 21,
        2 => 1 << 30,
        _ => 1 << 12,
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_accepted),
    allow(unsafe_code)
)]
mod tests {
    use super::*;
    use crate::pure::lower::LowerMemory;
    use crate::pure::tdcall::{Call, Registers};

    const BASE: u64 = 0x4000_0000;

    /// Memory held in pages of one level, of which one page may be pending.
    struct PagesOfOneLevel {
        level: u64,
        pending: Option<u64>,
        status: u64,
        questions: u32,
    }

    impl PagesOfOneLevel {
        const fn of_level(level: u64) -> Self {
            Self {
                level,
                pending: None,
                status: 0,
                questions: 0,
            }
        }
    }

    impl Tdcall for PagesOfOneLevel {
        fn tdcall(&mut self, call: Call) -> Registers {
            let registers = call.registers();
            self.questions += 1;
            let is_pending = self.pending == Some(registers.rcx);
            Registers {
                rax: self.status,
                rcx: (registers.rcx & !0xfff) | self.level | (u64::from(is_pending) << 62),
                ..registers
            }
        }
    }

    fn piece(list: &[u8], start_gpa: u64, level: u8) -> LowerRange {
        let list = LowerMemory::parse(list, u64::MAX).unwrap();
        list.range(start_gpa, bytes(level)).unwrap()
    }

    fn ask(memory: &mut PagesOfOneLevel, level: u8) -> (Piece, u32) {
        let piece = piece(b"1G,1G", BASE, level);
        (acceptance(memory, piece), memory.questions)
    }

    #[test]
    fn a_large_page_is_one_question() {
        for (held, wanted) in [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)] {
            let mut memory = PagesOfOneLevel::of_level(held);
            assert_eq!(ask(&mut memory, wanted), (Piece::Accepted, 1));
        }
    }

    #[test]
    fn every_small_page_of_a_large_piece_is_asked() {
        assert_eq!(
            ask(&mut PagesOfOneLevel::of_level(0), 1),
            (Piece::Accepted, 512)
        );
        assert_eq!(
            ask(&mut PagesOfOneLevel::of_level(1), 2),
            (Piece::Accepted, 512)
        );
        let mut memory = PagesOfOneLevel::of_level(0);
        memory.pending = Some(BASE + 511 * 4096);
        assert_eq!(ask(&mut memory, 1), (Piece::NotAccepted, 512));
        memory = PagesOfOneLevel::of_level(0);
        memory.pending = Some(BASE);
        assert_eq!(ask(&mut memory, 0), (Piece::NotAccepted, 1));
    }

    #[test]
    fn questions_are_bounded() {
        assert_eq!(
            ask(&mut PagesOfOneLevel::of_level(0), 2),
            (Piece::NotAccepted, 512)
        );
    }

    #[test]
    fn an_odd_answer_does_not_loop() {
        let mut memory = PagesOfOneLevel::of_level(7);
        assert_eq!(ask(&mut memory, 2), (Piece::NotAccepted, 512));
        let last = piece(b"0xbffffffffffff000,4K", 0xbfff_ffff_ffff_f000, 0);
        assert_eq!(acceptance(&mut memory, last), Piece::Accepted);
    }

    #[test]
    fn refusals_are_told_apart() {
        let mut memory = PagesOfOneLevel::of_level(0);
        memory.status = Status::new(Status::OPERAND_BUSY, 1).0;
        assert_eq!(ask(&mut memory, 1), (Piece::Busy, 1));
        memory.status = 0xc000_0100_0000_0001;
        memory.questions = 0;
        assert_eq!(ask(&mut memory, 1), (Piece::NotAccepted, 1));
    }

    #[test]
    fn an_operand_in_a_busy_page_is_busy_not_invalid() {
        let check = |memory: &mut PagesOfOneLevel| {
            accepted_operand(memory, piece(b"1G,1G", BASE, 0), Operand::R8)
        };
        let mut memory = PagesOfOneLevel::of_level(0);
        assert_eq!(check(&mut memory), Ok(()));
        memory.pending = Some(BASE);
        assert_eq!(check(&mut memory), Err(Status(0xc000_0100_0000_0008)));
        memory.status = 0x8000_0200_0000_0001;
        assert_eq!(check(&mut memory), Err(Status(0x8000_0200_0000_0008)));
        memory.status = 0xc000_0100_0000_0001;
        assert_eq!(check(&mut memory), Err(Status(0xc000_0100_0000_0008)));
    }
}
