// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Carries out a decoded instruction, one side of which is a device.

use vtl::{Gpr, Vp};

use super::Problem;
use super::linear::OtherSide;
use crate::board::Board;
use crate::decode::{self, Access, Decoded, Extend, Operand, Part};
use crate::memory::LowerRam;
use crate::vcpu::{is_64_bit, set_gpr, step_over};
use crate::walk::Kind;

/// Elements of a repeated instruction that are moved at once: the guest can be stopped in between.
const MOST_REPEATED: u64 = 4096;

/// A decoded access on its way.
pub(super) struct Operation<'a> {
    pub(super) board: &'a Board<LowerRam>,
    pub(super) vp: &'a Vp,
    pub(super) decoded: Decoded,
    pub(super) gpa: u64,
    pub(super) is_write: bool,
}

impl Operation<'_> {
    /// Carries it out, and steps over the instruction if it is done.
    pub(super) fn carry_out(&self) -> Result<(), Problem> {
        let (board, gpa, size) = (self.board, self.gpa, self.decoded.size);
        match self.decoded.access {
            Access::Load { to, extend } => {
                let value = extended(board.read(gpa, size), size, extend);
                self.set_part(to, value);
            }
            Access::Store(operand) => board.write(gpa, size, self.value(operand)),
            Access::Compare { comparison, with } => {
                let device = board.read(gpa, size);
                let page = self.vp.page();
                let flags =
                    decode::flags(page.rflags(), comparison, device, self.value(with), size);
                page.set_rflags(flags);
            }
            Access::Move { is_repeated } => {
                let kind = if self.is_write {
                    Kind::Read
                } else {
                    Kind::Write
                };
                let memory = OtherSide::new(board, self.vp, kind, size)?;
                return self.repeat(is_repeated, |gpa| self.move_element(&memory, gpa));
            }
            Access::Fill { is_repeated } => {
                return self.repeat(is_repeated, |gpa| {
                    self.fill_element(gpa);
                    Ok(())
                });
            }
        }
        self.step();
        Ok(())
    }

    fn step(&self) {
        step_over(self.vp, self.decoded.len, is_64_bit(self.vp));
    }

    /// Carries out elements one by one, as long as they are in the same page as the first.
    fn repeat(
        &self,
        is_repeated: bool,
        mut element: impl FnMut(u64) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        const DF: u64 = 1 << 10;
        const PAGE: u64 = 4096;
        let page = self.vp.page();
        let size = u64::from(self.decoded.size);
        let is_down = page.rflags() & DF != 0;
        let stride = if is_down { size.wrapping_neg() } else { size };
        let count = if is_repeated {
            self.address(Gpr::Rcx)
        } else {
            1
        };
        let mut gpa = self.gpa;
        let mut done = 0;
        while done < count.min(MOST_REPEATED) && gpa / PAGE == self.gpa / PAGE {
            element(gpa)?;
            let moves = matches!(self.decoded.access, Access::Move { .. });
            self.advance(Gpr::Rdi, stride);
            if moves {
                self.advance(Gpr::Rsi, stride);
            }
            if is_repeated {
                self.advance(Gpr::Rcx, 1_u64.wrapping_neg());
            }
            gpa = gpa.wrapping_add(stride);
            done += 1;
        }
        if done == count {
            self.step();
        }
        Ok(())
    }

    fn move_element(&self, memory: &OtherSide<'_>, gpa: u64) -> Result<(), Problem> {
        let size = self.decoded.size;
        if self.is_write {
            let place = memory.place(self.address(Gpr::Rsi))?;
            self.board.write(gpa, size, memory.read(&place));
        } else {
            // Found before the device is read: reading it may change it.
            let place = memory.place(self.address(Gpr::Rdi))?;
            memory.write(&place, self.board.read(gpa, size));
        }
        Ok(())
    }

    fn fill_element(&self, gpa: u64) {
        let size = self.decoded.size;
        let value = self.vp.page().gpr(Gpr::Rax) & decode::mask(size);
        self.board.write(gpa, size, value);
    }

    /// An address-sized register. Segment bases are assumed to be 0, and limits not to matter; in
    /// real mode guests do not use these instructions.
    fn address(&self, gpr: Gpr) -> u64 {
        self.vp.page().gpr(gpr) & decode::mask(self.decoded.address_bits / 8)
    }

    fn advance(&self, gpr: Gpr, by: u64) {
        let mask = decode::mask(self.decoded.address_bits / 8);
        let old = self.vp.page().gpr(gpr);
        let new = old.wrapping_add(by) & mask;
        // A write of 32 bits clears the upper half, a narrower one keeps the rest.
        let kept = if self.decoded.address_bits == 16 {
            old & !mask
        } else {
            0
        };
        set_gpr(self.vp, gpr, kept | new);
    }

    fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Immediate(value) => value,
            Operand::Register(part) => {
                let value = self.vp.page().gpr(part.gpr);
                let shift = if part.is_high_byte { 8 } else { 0 };
                (value >> shift) & decode::mask(part.size)
            }
        }
    }

    fn set_part(&self, part: Part, value: u64) {
        let old = self.vp.page().gpr(part.gpr);
        set_gpr(self.vp, part.gpr, merged(old, part, value));
    }
}

/// What a register has after `value` was put into a part of it.
fn merged(old: u64, part: Part, value: u64) -> u64 {
    let mask = decode::mask(part.size);
    let shift = if part.is_high_byte { 8 } else { 0 };
    // A write of 32 bits clears the upper half.
    let kept = if part.size >= 4 {
        0
    } else {
        old & !(mask << shift)
    };
    kept | ((value & mask) << shift)
}

/// Extends a value of `size` bytes to a 64-bit register.
fn extended(value: u64, size: u8, extend: Extend) -> u64 {
    let value = value & decode::mask(size);
    let unused = 64 - 8 * u32::from(size.min(8));
    match extend {
        Extend::None | Extend::Zero => value,
        // CAST: the sign is what this is about.
        Extend::Sign => (((value << unused) as i64) >> unused) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_registers_keep_the_rest_as_processors_do() {
        let part = |size, is_high_byte| Part {
            gpr: Gpr::Rax,
            size,
            is_high_byte,
        };
        let old = 0x1111_2222_3333_4444;
        assert_eq!(merged(old, part(1, false), 0xff), 0x1111_2222_3333_44ff);
        assert_eq!(merged(old, part(1, true), 0xff), 0x1111_2222_3333_ff44);
        assert_eq!(merged(old, part(2, false), 0x1_ffff), 0x1111_2222_3333_ffff);
        assert_eq!(merged(old, part(4, false), u64::MAX), 0xffff_ffff);
        assert_eq!(merged(old, part(8, false), 7), 7);
    }

    #[test]
    fn narrow_values_are_extended() {
        assert_eq!(extended(0x1ff, 1, Extend::Zero), 0xff);
        assert_eq!(extended(0x80, 1, Extend::Sign), 0xffff_ffff_ffff_ff80);
        assert_eq!(extended(0x7fff_ffff, 4, Extend::Sign), 0x7fff_ffff);
        assert_eq!(extended(u64::MAX, 8, Extend::Sign), u64::MAX);
    }
}
